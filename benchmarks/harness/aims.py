"""What the figures were hoped to be, beside what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.field import BASELINE
from harness.summary import times_faster

Results = Mapping[str, Mapping[str, Any]]

#: Precision → what it is called in the aims, times Hugging Face one by one, and the error that is allowed.
_SPEED = {"fp32": ("exact (1e-4)", 1.9), "bf16": ("near-exact (cosine ≥ 0.999)", 3.5), "int8": ("int8", 4.5)}


def judge(contenders: Results, command_line: Results, parts: Results) -> list[dict[str, Any]]:
    """Return every aim with its figure and whether it is met; None where the figure could not be had."""
    aims: list[dict[str, Any]] = []

    def add(aim: str, figure: str, met: bool | None) -> None:
        aims.append({"aim": aim, "figure": figure, "met": met})

    ours = {name: one for name, one in contenders.items() if one["ours"] and "audio_s_per_s" in one}
    encoders = {name: one for name, one in ours.items() if one["what"] == "encoder"}
    for precision, (called, wanted) in _SPEED.items():
        aim = f"{called} ≥ {wanted}× {BASELINE}"
        fit = {n: one for n, one in encoders.items() if one["precision"] == precision}
        if not fit:
            add(aim, "nothing ran in this precision", None)
            continue
        name = max(fit, key=lambda n: fit[n]["times_baseline"])
        one = fit[name]
        error, ratio = one["error"], one["times_baseline"]
        exact = error["worst_relative_l2"] <= 1e-4 if precision == "fp32" else error["worst_cosine"] >= 0.999
        told = f"{ratio:.2f}× ({name}); relative error {error['worst_relative_l2']:.1e}, "
        told += f"cosine {error['worst_cosine']:.5f}"
        add(aim, told, ratio >= wanted and exact)
    for name in ("S3PRL, padded batches of 4", "S3PRL, padded batches of 8"):
        near = {n: one for n, one in encoders.items() if one["error"]["worst_cosine"] >= 0.999}
        aim = f"near-exact ≥ 6× {name}"
        if not near or "audio_s_per_s" not in contenders[name]:
            add(aim, "could not be measured", None)
            continue
        best = max(near, key=lambda n: near[n]["audio_s_per_s"])
        ratio = times_faster(near[best], contenders[name])
        add(aim, f"{ratio:.2f}× ({best})", ratio >= 6)
    for name, one in ours.items():
        if one["what"] != "pipeline":
            continue
        alone = contenders[name.removesuffix(", pipeline")]
        slower = times_faster(alone, one) - 1
        add(f"{name}: within 15 % of its encoder alone", f"{100 * slower:+.1f} % time", slower <= 0.15)
    _judge_memory(add, contenders, command_line)
    for precision, part in parts.items():
        for what, key, most in (
            ("SAP over GAP (detector and pooling)", "sap_over_gap", 0.05),
            ("Silero, of the encoder's CPU time", "silero_of_encoder", 0.10),
        ):
            aim = f"{what}, {precision}: under {100 * most:.0f} %"
            share = part.get(key)
            add(
                aim,
                "could not be measured" if share is None else f"{100 * share:.1f} %",
                None if share is None else share < most,
            )
    return aims


def _judge_memory(add: Any, contenders: Results, command_line: Results) -> None:
    theirs = contenders[BASELINE].get("memory", {}).get("peak_pss_mb")
    if theirs is None:
        return
    aim = f"peak memory ≤ that of {BASELINE} ({theirs:.0f} MB)"
    for precision, one in command_line.items():
        if "peak_pss_mb" in one:
            told = f"{one['peak_pss_mb']:.0f} MB, the whole command"
            add(f"subtone extract, {precision}: {aim}", told, one["peak_pss_mb"] <= theirs)
    for name, one in contenders.items():
        if one["ours"] and "memory" in one:
            peak = one["memory"]["peak_pss_mb"]
            add(f"{name}: {aim}", f"{peak:.0f} MB, the encoder alone", peak <= theirs)
