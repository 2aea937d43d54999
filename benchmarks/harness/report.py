"""The readable page of a result, made from nothing but its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MARK = {True: "met", False: "**not met**", None: "not measured"}


def page(result: Mapping[str, Any]) -> str:
    """Return Markdown: the answer, the table, what surrounds the encoder, how it was run."""
    environment, clips = result["environment"], result["clips"]
    machine = environment["machine"]
    met = [aim["met"] for aim in result["aims"]]
    lines = [
        "# Extraction, side by side",
        "",
        f"{met.count(True)} of {len(met)} aims met, {met.count(False)} not met, {met.count(None)} not measured.",
        "",
        *table(("aim", "figure", ""), [(a["aim"], a["figure"], _MARK[a["met"]]) for a in result["aims"]]),
        "",
        "## Encoder alone: samples in memory to frames of all layers",
        "",
        *_speeds(result["contenders"], "encoder"),
        "",
        "## Whole pipeline: FLAC files to a store (decoding, Silero, encoder, pooling, writing)",
        "",
        *_speeds(result["contenders"], "pipeline"),
        "",
        "Timed from a third of the audio on, when processes run and the first clips have been read, to the end of the "
        "run; the error is that of the mean frame of each layer.",
        "",
        *_command_line(result["command_line"]),
        *_parts(result["parts"]),
        "## How it was measured",
        "",
        f"- Weights: {result['weights']}, random, seed {result['seed']}; the same folder for all. Random weights say "
        "nothing of accuracy: errors of bf16 and int8 have to be taken on real ones too.",
        f"- Clips: {clips['encoder']} a round for encoders ({clips['encoder_audio_s']:.0f} s), {clips['pipeline']} for "
        f"pipelines ({clips['pipeline_audio_s']:.0f} s), 2–12 s, cut from {clips['source']}. Every clip of every round "
        'has another length, as in a real corpus; "again" is a second pass over the same clips, whose shapes are known '
        'by then; "first" is the first pass of all.',
        f"- {result['rounds']} rounds; in each, every contender has one turn, in random order, in a process of its own "
        f"that stays up. Medians, range in brackets; ratios are medians of the ratios within a round. "
        f"{result['threads']} threads and cores for everybody.",
        "- CPU: of the whole process tree. Memory: highest sum of proportional set sizes (PSS) over the process tree, "
        "loading included, in a fresh process that encodes one set of clips.",
        "- Error: against plain fp32 PyTorch one by one; relative L2 over all frames and layers of the worst clip, and "
        "the worst cosine of a layer's mean frame.",
        f"- Matrix peak of this machine in the same rounds: fp32 {_median_peak(result, 'fp32'):.0f}, bf16 "
        f"{_median_peak(result, 'bf16'):.0f} GFLOP/s; a second of audio takes "
        f"{result['gflop_per_audio_s']:.1f} GFLOP. Shares are of the peak of the same "
        "precision; none was taken for int8.",
        f"- Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB, "
        f"{' '.join(machine['cpu_flags'])}; load average {result['load_average'][0]:.2f} before, "
        f"{result['load_average'][1]:.2f} after (the run itself included).",
        f"- Versions: {_versions(environment['versions'])}.",
    ]
    for name, versions in result["peer_versions"].items():
        lines.append(f"- Environment of {name}: {_versions(versions)}.")
    lines += [f"- {environment['date']}, {result['took_s'] / 60:.1f} minutes: `{environment['command']}`", ""]
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    line = "| " + " | ".join(head) + " |"
    return [line, "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]


def _speeds(contenders: Mapping[str, Mapping[str, Any]], what: str) -> list[str]:
    rows, notes = [], []
    for name, one in contenders.items():
        if one["what"] != what:
            continue
        if one["note"]:
            notes.append(f"{name}: {one['note']}.")
        if "skipped" in one:
            rows.append((name, f"left out: {one['skipped']}", *[""] * 8))
            continue
        low, high = one["audio_s_per_s_range"]
        error = one.get("error", {})
        rows.append(
            (
                name,
                f"{one['audio_s_per_s']:.1f} ({low:.1f}–{high:.1f})",
                f"{one['times_baseline']:.2f}",
                _number(one.get("seen_again_audio_s_per_s"), ".1f"),
                _number(one.get("first_pass_audio_s_per_s"), ".1f"),
                f"{one['cpu_s_per_audio_hour']:.0f}",
                _number(one.get("memory", {}).get("peak_pss_mb"), ".0f"),
                _number(error.get("worst_relative_l2"), ".1e"),
                _number(error.get("worst_cosine"), ".5f"),
                _number(one.get("share_of_matrix_peak"), ".0%"),
            )
        )
    head: tuple[str, ...] = ("", "audio s / s", "× baseline", "again", "first", "CPU s / audio h")
    head += ("peak MB", "error", "cosine", "share of matrix peak")
    return [*table(head, rows), *(["", " ".join(notes)] if notes else [])]


def _command_line(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for precision, run in runs.items():
        if "skipped" in run:
            rows.append((precision, f"left out: {run['skipped']}", *[""] * 4))
        else:
            backend = f"{run['backend']['name']} {run['backend']['precision']}"
            figures = (
                f"{run['audio_s']:.0f}",
                f"{run['wall_s']:.1f}",
                f"{run['cpu_s']:.1f}",
                f"{run['peak_pss_mb']:.0f}",
            )
            rows.append((precision, backend, *figures))
    head = ("--precision", "backend chosen", "audio s", "seconds, start included", "CPU seconds", "peak MB")
    return [
        "`subtone extract`, one run of the command, its memory watched meanwhile:",
        "",
        *table(head, rows),
        "",
    ]


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for precision, part in parts.items():
        if "skipped" in part:
            rows.append((precision, f"left out: {part['skipped']}", *[""] * 6))
            continue
        names = ("decoding", "silero", "pooling", "pooling_gap", "encoder", "pipeline")
        rows.append(
            (
                precision,
                *(f"{part[f'{name}_cpu_s_per_audio_hour']:.1f}" for name in names),
                f"{100 * part['sap_over_gap']:.1f} %",
            )
        )
    head = (
        "",
        "decoding",
        "Silero",
        "pooling",
        "pooling of GAP alone",
        "encoder alone",
        "pipeline",
        "SAP over GAP",
    )
    return [
        "## Where the CPU time goes: CPU seconds an hour of audio",
        "",
        *table(head, rows),
        "",
        "The parts were timed alone on one thread. SAP over GAP is Silero and all statistics instead of GAP's two, as "
        "a share of the pipeline.",
        "",
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _median_peak(result: Mapping[str, Any], precision: str) -> float:
    peaks = sorted(peak[f"{precision}_gflops"] for peak in result["peaks"])
    return float(peaks[len(peaks) // 2])


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
