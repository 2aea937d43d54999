"""From what was measured in rounds to the figures of the result: medians, ratios within a round, shares."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harness.field import Contender


def speeds(rounds: Sequence[Mapping[str, float]]) -> list[float]:
    """Return seconds of audio a second, round by round."""
    return [one["audio_s"] / one["wall_s"] for one in rounds]


def times_faster(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return how many times as fast one contender is as another: the median over rounds, which both were in.

    What slows a round down slows everybody in it.
    """
    return statistics.median(a / b for a, b in zip(speeds(one["rounds"]), speeds(other["rounds"])))


def summarise(
    contender: Contender,
    result: dict[str, Any],
    baseline: Mapping[str, Any],
    peaks: Sequence[Mapping[str, float]],
    flops: Sequence[float],
) -> dict[str, Any]:
    """Return a contender's figures.

    ``flops`` are those of a second of audio, round by round; ``peaks`` the machine's of the same rounds.
    """
    told = {k: getattr(contender, k) for k in ("process", "what", "precision", "note", "ours")}
    rounds = result["rounds"]
    if not rounds:
        return {**told, **result}
    speed = speeds(rounds)
    found: dict[str, Any] = {
        "audio_s_per_s": statistics.median(speed),
        "audio_s_per_s_range": [min(speed), max(speed)],
        "cpu_s_per_audio_hour": statistics.median(3600 * one["cpu_s"] / one["audio_s"] for one in rounds),
    }
    found["times_baseline"] = times_faster(result, baseline)
    if "seen_again" in result:
        found["seen_again_audio_s_per_s"] = statistics.median(speeds(result["seen_again"]))
    if "first_pass" in result:
        found["first_pass_audio_s_per_s"] = speeds([result["first_pass"]])[0]
    key = f"{contender.precision}_gflops"
    if contender.what == "encoder" and all(key in peak for peak in peaks):
        shares = [s * f / 1e9 / peak[key] for s, f, peak in zip(speed, flops, peaks)]
        found["share_of_matrix_peak"] = statistics.median(shares)
    return {**told, **found, **result}


def shares(
    parts: Mapping[str, float], encoder: Mapping[str, Any], pipeline: Mapping[str, Any]
) -> dict[str, float]:
    """Return the CPU seconds of the parts of a pipeline per hour of audio, and as shares of the whole."""
    hour = 3600 / parts["audio_s"]
    whole, alone = pipeline["cpu_s_per_audio_hour"], encoder["cpu_s_per_audio_hour"]
    found = {
        f"{k.removesuffix('_s')}_cpu_s_per_audio_hour": v * hour for k, v in parts.items() if k != "audio_s"
    }
    more = parts["silero_s"] + parts["pooling_s"] - parts["pooling_gap_s"]
    return {
        **found,
        "encoder_cpu_s_per_audio_hour": alone,
        "pipeline_cpu_s_per_audio_hour": whole,
        "decoding_share": parts["decoding_s"] * hour / whole,
        "silero_share": parts["silero_s"] * hour / whole,
        "pooling_share": parts["pooling_s"] * hour / whole,
        "silero_of_encoder": parts["silero_s"] * hour / alone,
        "sap_over_gap": more * hour / whole,
    }
