"""The page that a result folder is read by, in Markdown: what came out, how sure that is, and for whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from subtone.evaluation.calibrated import Calibration
from subtone.evaluation.comparison import Comparison
from subtone.evaluation.gap_words import gap_sentences
from subtone.evaluation.scoring import Evaluation
from subtone.evaluation.slices import Slices
from subtone.evaluation.spread import SpeakerSpread

#: What a page says of folds that share speakers, before any figure is taken for more than it is.
SPEAKER_DEPENDENT = (
    "> **Speaker-dependent split**: clips were divided at random, so test speakers are heard in training. These "
    "figures are not comparable with speaker-disjoint ones and say nothing of new speakers."
)


def summary(
    protocol: Mapping[str, Any],
    systems: Mapping[str, Evaluation],
    comparisons: Sequence[Comparison],
    environment: Mapping[str, Any],
    *,
    slices: Mapping[str, Slices] | None = None,
    calibration: Mapping[str, Calibration] | None = None,
    sections: Mapping[str, str] | None = None,
    about: str | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The page to read first: protocol, table with intervals, verdicts, how it was run.

    Parameters are those of :func:`subtone.evaluation.write_results`, the protocol as a dictionary.
    """
    best = max(systems.items(), key=lambda item: item[1].ua)
    some = best[1]
    lines = [
        "# Result",
        "",
        *([about, ""] if about else []),
        f"Best UA: **{best[0]}**, {_percent(some.ua, some.ua_ci)} %.",
        "",
        *([SPEAKER_DEPENDENT, ""] if speaker_dependent(protocol) else []),
        *(line for remark in remarks for line in (f"> {remark}", "")),
        f"Protocol: {protocol.get('description', 'not described')}",
        "",
        f"| system | UA % ({100 * some.confidence:g} % interval) | WA % | macro-F1 % | clips | seeds |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {_cell(name)} | {_percent(one.ua, one.ua_ci)} | {_percent(one.wa, one.wa_ci)} "
        f"| {100 * one.macro_f1:.1f} | {one.n} | {one.seeds} |"
        for name, one in systems.items()
    ]
    units = {(one.ci_unit, one.ci_units) for one in systems.values()}
    over = " and ".join(f"{number} {unit}s" for unit, number in sorted(units))
    lines += ["", f"Intervals: percentile bootstrap over {over}, {some.resamples} resamples."]
    if any(unit == "clip" for unit, _ in units):
        lines.append(
            "Clips were resampled because speakers are unknown or one; that says nothing of new speakers."
        )
    for title, text in (sections or {}).items():
        lines += ["", f"## {title}", "", text]
    if comparisons:
        lines += ["", "## Comparisons", "", *(f"- {comparison.sentence()}" for comparison in comparisons)]
    lines += _recalls(systems, some.labels)
    if slices:
        lines += _works_for(max(slices, key=lambda name: systems[name].ua), slices)
    if calibration:
        lines += _calibration(calibration)
    versions = environment.get("versions") or {}
    lines += ["", "## How it was run", ""]
    if environment.get("command"):
        lines.append(f"- Command: `{environment['command']}`")
    if environment.get("seeds"):
        lines.append(f"- Seeds: {', '.join(map(str, environment['seeds']))}")
    lines.append(f"- Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    return "\n".join(lines) + "\n"


def speaker_dependent(protocol: Mapping[str, Any]) -> bool:
    """Whether folds of the run, or of one of its corpora where each has its own, share speakers."""
    each = [protocol, *(protocol.get("corpora") or {}).values()]
    return any(one.get("speaker_dependent", False) for one in each)


def _recalls(systems: Mapping[str, Evaluation], labels: Sequence[str]) -> Iterator[str]:
    yield from ("", "## Recall by class (%)", "", "| system | " + " | ".join(map(_cell, labels)) + " |")
    yield "|---" * (len(labels) + 1) + "|"
    for name, one in systems.items():
        found = [one.per_class_recall.get(label, math.nan) for label in labels]
        cells = ["–" if math.isnan(recall) else f"{100 * recall:.1f}" for recall in found]
        yield f"| {_cell(name)} | " + " | ".join(cells) + " |"


def _works_for(name: str, slices: Mapping[str, Slices]) -> Iterator[str]:
    """One system's clips by group; `metrics.json` has those of all."""
    one = slices[name]
    if not one.cuts and one.spread is None:
        return
    yield from ("", "## Who it works for", "", f"Of **{name}**; `metrics.json` has every system.")
    if one.cuts:
        head = f"| | | speakers | clips | UA % ({100 * one.confidence:g} % interval) | WA % |"
        yield from ("", head, "|---|---|---|---|---|---|")
        for cut in one.cuts:
            for part in cut.slices:
                few = " (few)" if part.few else ""
                speakers = "–" if part.speakers is None else str(part.speakers)
                yield (
                    f"| {cut.by} | {_cell(part.name)}{few} | {speakers} | {part.n} | "
                    f"{_percent(part.ua, part.ua_ci)} | {_percent(part.wa, part.wa_ci)} |"
                )
    yield ""
    yield from (f"- {told}" for told in gap_sentences(one))
    if one.spread is not None:
        yield f"- {_spread(one.spread)}"
    if any(part.few for cut in one.cuts for part in cut.slices):
        yield "- (few): fewer than three speakers, who say nothing of others; left aside in the gaps."


def _spread(one: SpeakerSpread) -> str:
    worst = "speaker" if one.worst_decile_speakers == 1 else f"tenth ({one.worst_decile_speakers} speakers)"
    return (
        f"Recall of single speakers: {100 * one.minimum:.1f} to {100 * one.maximum:.1f} %, median "
        f"{100 * one.median:.1f} %, over {one.speakers} speakers with {one.fewest_clips} clips or more each; the worst "
        f"{worst} {_percent(one.worst_decile, one.worst_decile_ci)} %."
    )


def _calibration(calibration: Mapping[str, Calibration]) -> Iterator[str]:
    yield from ("", "## Calibration", "")
    notes = dict.fromkeys(_whose(one, calibration) for one in calibration.values())
    yield from (*(f"- {note}" if len(notes) > 1 else note for note in notes), "")
    yield "| system | ECE % | NLL | temperature (folds) | ECE % after | NLL after |"
    yield "|---|---|---|---|---|---|"
    for name, one in calibration.items():
        yield (
            f"| {_cell(name)} | {100 * one.ece:.1f} | {one.nll:.2f} | {_temperatures(one)} | "
            f"{'–' if one.ece_after is None else f'{100 * one.ece_after:.1f}'} | "
            f"{'–' if one.nll_after is None else f'{one.nll_after:.2f}'} |"
        )


def _whose(one: Calibration, calibration: Mapping[str, Calibration]) -> str:
    """A note, with the systems that it is about where others have another one."""
    names = [name for name, other in calibration.items() if other.note == one.note]
    return one.note if len(names) == len(calibration) else f"{', '.join(names)}: {one.note}"


def _temperatures(one: Calibration) -> str:
    values = [value for value in one.temperatures.values() if value is not None]
    if not values:
        return "–"
    middle, low, high = np.median(values), min(values), max(values)
    return f"{middle:.2f}" if len(values) == 1 else f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _percent(value: float, interval: tuple[float, float] | None) -> str:
    """A figure with its interval, where it has one.

    >>> _percent(0.7125, (0.66, 0.755)), _percent(0.5, None)
    ('71.2 (66.0 to 75.5)', '50.0')
    """
    ends = "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{100 * value:.1f}{ends}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
