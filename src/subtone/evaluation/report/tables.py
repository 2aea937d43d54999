"""The tables of a run, as `subtone.evaluation.findings.Table`: percent, one row a system, fold, class or test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subtone.evaluation.findings import Cell, HeatMap, Measure, Table, rows_of
from subtone.evaluation.metrics import recalls, unweighted_accuracy
from subtone.evaluation.report.pairs import PairedTest, is_dependent, split_of
from subtone.evaluation.report.read import Answers, Run
from subtone.evaluation.scoring import Evaluation
from subtone.evaluation.slices import Slices

#: Columns of a wide table; more systems than that are in the exports of narrow ones.
MOST_COLUMNS = 8


@dataclass(frozen=True)
class PValue(Measure):
    """A p value, which has digits of its own.

    >>> [PValue(p).text() for p in (0.0004, 0.0313, 0.25)]
    ['< 0.001', '0.031', '0.25']
    """

    def text(self, digits: int = 1) -> str:  # noqa: ARG002
        """The p value as it is printed."""
        if self.value < 0.001:
            return "< 0.001"
        return f"{self.value:.3f}" if self.value < 0.0995 else f"{self.value:.2f}"


def percent(value: float | None, interval: Sequence[float] | None = None) -> Measure | None:
    """A share (0..1) as percent, None where there is none."""
    if value is None or not math.isfinite(value):
        return None
    if interval is None or not all(math.isfinite(end) for end in interval):
        return Measure(100 * value)
    return Measure(100 * value, 100 * interval[0], 100 * interval[1])


def systems_table(runs: Sequence[Run], prefix: str) -> Table:
    """All systems with UA and WA and their intervals, and macro-F1; with the run where there are several.

    Where one of several runs is speaker-dependent, each row says of which kind it is.
    """
    several = len(runs) > 1
    marked = several and any(is_dependent(run) for run in runs)
    rows: list[list[Cell]] = []
    for run in runs:
        for name, one in run.systems.items():
            start: list[Cell] = [name, run.name] if several else [name]
            if marked:
                start.append(split_of(run))
            scores = [percent(one.ua, one.ua_ci), percent(one.wa, one.wa_ci), percent(one.macro_f1)]
            rows.append([*start, *scores, one.n, f"{one.ci_units} {one.ci_unit}s", one.seeds])
    some = next(iter(runs[0].systems.values()))
    return Table(
        f"{prefix}systems",
        "All systems of all runs" if several else "Systems with their intervals",
        (
            "system",
            *(("run",) if several else ()),
            *(("split",) if marked else ()),
            "UA %",
            "WA %",
            "macro-F1 %",
            "clips",
            "resampled",
            "seeds",
        ),
        rows_of(rows),
        note=f"With its {100 * some.confidence:g} % interval: percentile bootstrap, {some.resamples} resamples of "
        "whole speakers (of clips where speakers are unknown). With several seeds, figures are means over them.",
    )


def folds_table(run: Run, prefix: str) -> Table | None:
    """UA, WA and clips of every system and fold; None without folds."""
    rows = [
        (name, fold.name, fold.n, percent(fold.ua), percent(fold.wa))
        for name, one in run.systems.items()
        for fold in one.folds
    ]
    if not rows:
        return None
    columns = ("system", "fold", "clips", "UA %", "WA %")
    return Table(f"{prefix}folds", "Every system and fold", columns, rows_of(rows))


def recall_table(run: Run, prefix: str) -> Table:
    """Recall of each class, one row a system."""
    labels = list(dict.fromkeys(label for one in run.systems.values() for label in one.labels))
    rows = [
        (name, *(percent(one.per_class_recall.get(label, math.nan)) for label in labels))
        for name, one in run.systems.items()
    ]
    return Table(
        f"{prefix}recall", "Recall by class (%)", ("system", *labels), rows_of(rows),
        note="Share of a class's clips that were recognised.",
    )  # fmt: skip


def tests_table(tests: Sequence[PairedTest], prefix: str, title: str) -> Table:
    """Paired tests: difference with its interval, p and Holm's p."""
    rows: list[list[Cell]] = []
    for test in tests:
        one = test.comparison
        difference = Measure(100 * one.difference, 100 * one.ci[0], 100 * one.ci[1])
        verdict = f"{test.winner} is better" if test.winner else "none"
        rows.append(
            [one.a, one.b, one.metric.upper(), percent(one.value_a), percent(one.value_b), difference,
             PValue(one.p),
             None if one.p_corrected is None else PValue(one.p_corrected), verdict,
             f"{one.units} {one.unit}s" + (f", {one.n} clips" if one.unit == "speaker" else "")]
        )  # fmt: skip
    return Table(
        f"{prefix}tests", title,
        ("a", "b", "metric", "a %", "b %", "b − a (points)", "p", "p, Holm", "evidence", "paired over"),
        rows_of(rows),
        note="Positive: b is better. p: exchanges of the answers of whole speakers. Holm: corrected for all tests "
        "of this page in the same metric, so that a false alarm among them all is no likelier than 5 %.",
    )  # fmt: skip


def confusion_map(
    name: str, evaluation: Evaluation, title: str
) -> tuple[HeatMap, tuple[tuple[str, ...], ...]]:
    """The confusion matrix as shares of the truth, and the clips of each cell (mean over seeds) in words."""
    matrix = np.asarray(evaluation.confusion, dtype=np.float64)
    share = recalls(matrix.T, matrix.sum(1)).T  # (truth, prediction)
    clips = matrix / max(1, evaluation.seeds)
    values = tuple(tuple(percent(float(cell)) for cell in row) for row in share)
    counts = tuple(tuple(_count(cell) for cell in row) for row in clips)
    labels = evaluation.labels
    over = f", mean over {evaluation.seeds} seeds" if evaluation.seeds > 1 else ""
    note = f"Rows are the truth: percent of the row, and clips{over}."
    return HeatMap(name, title, "truth", "answered", labels, labels, values, note), counts


def heat_map_table(heat_map: HeatMap) -> Table:
    """A heat map as a table, for its exports."""
    rows = [(name, *row) for name, row in zip(heat_map.rows, heat_map.values, strict=True)]
    corner = f"{heat_map.row_label} \\ {heat_map.column_label}"
    return Table(heat_map.name, heat_map.title, (corner, *heat_map.columns), rows_of(rows), heat_map.note)


def speaker_scores(answers: Answers) -> dict[str, tuple[int, float, float]]:
    """Speaker → clips, UA (over the classes they have) and WA, mean over seeds; empty where speakers are unknown."""
    speakers = answers.speakers
    if speakers is None:
        return {}
    hit = (answers.codes == answers.truth).mean(0)
    found = {}
    names = np.array(speakers, dtype=object)
    for name in dict.fromkeys(speakers):
        rows = names == name
        support = np.bincount(answers.truth[rows], minlength=len(answers.labels))
        hits = np.bincount(answers.truth[rows], weights=hit[rows], minlength=len(answers.labels))
        found[name] = (int(rows.sum()), float(unweighted_accuracy(hits, support)), float(hit[rows].mean()))
    return found


def speakers_table(run: Run, prefix: str) -> Table | None:
    """UA of each speaker under the best systems, the worst speaker of the best system first."""
    each = {name: speaker_scores(found) for name in run.ranked if (found := run.answers(name)) is not None}
    each = {name: scores for name, scores in list(each.items())[: MOST_COLUMNS - 2] if scores}
    if not each:
        return None
    best = next(iter(each.values()))
    if len(best) < 2:
        return None
    rows = [
        (speaker, best[speaker][0],
         *(percent(scores[speaker][1]) if speaker in scores else None for scores in each.values()))
        for speaker in sorted(best, key=lambda one: best[one][1])
    ]  # fmt: skip
    more = " The systems with the highest UA are shown." if len(each) < len(run.systems) else ""
    return Table(
        f"{prefix}speakers", "UA of every speaker (%)", ("speaker", "clips", *each), rows_of(rows),
        note=f"The worst first. UA over the classes that a speaker has.{more}",
    )  # fmt: skip


def slices_tables(slices: Mapping[str, Slices], order: Sequence[str], prefix: str) -> list[Table]:
    """UA and WA by group of clips: of the first system in the order given, and of all where there are more."""
    told = [name for name in order if name in slices and slices[name].cuts]
    found = [_slices(slices, told[:1], f"{prefix}slices", f"UA and WA of {told[0]} by group")] if told else []
    if len(told) > 1:
        found.append(_slices(slices, told, f"{prefix}slices-all", "UA and WA of every system by group"))
    return found


def _slices(slices: Mapping[str, Slices], systems: Sequence[str], name: str, title: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for system in systems:
        for cut in slices[system].cuts:
            for one in cut.slices:
                start = (system,) if len(systems) > 1 else ()
                scores = percent(one.ua, one.ua_ci), percent(one.wa, one.wa_ci)
                few = "few speakers" if one.few else ""
                rows.append((*start, f"{cut.by}: {one.name}", *scores, one.speakers, one.n, few))
    start = ("system",) if len(systems) > 1 else ()
    return Table(
        name, title, (*start, "group", "UA %", "WA %", "speakers", "clips", "caution"), tuple(rows),
        note="Intervals draw speakers of the group anew. Groups of fewer than three speakers say nothing of others.",
    )  # fmt: skip


def lost_table(record: Mapping[str, Any], prefix: str) -> Table | None:
    """Clips that failed and files that were left out, with the reason; None if there are none."""
    rows: list[tuple[Cell, ...]] = []
    for entry in _entries(record.get("failed")):
        rows.append(("failed", str(entry.get("file", "")), str(entry.get("message", ""))))
    left_out = record.get("left_out")
    for kind in ("skipped", "missing"):
        for entry in _entries(left_out.get(kind) if isinstance(left_out, Mapping) else None):
            rows.append((kind, str(entry.get("file", "")), str(entry.get("message", ""))))
    if not rows:
        return None
    return Table(
        f"{prefix}left-out", "Clips that are in no figure", ("why", "file", "message"), tuple(rows),
        note="failed: could not be used; skipped: the reader does not know them; missing: named, but not there.",
    )  # fmt: skip


def count_of(entries: Any) -> int:
    """How many records a list of a result holds; 0 where it is none."""
    return len(_entries(entries))


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _count(clips: float) -> str:
    return f"{clips:.0f}" if abs(clips - round(clips)) < 1e-9 else f"{clips:.1f}"
