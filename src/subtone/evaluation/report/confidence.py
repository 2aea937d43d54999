"""Are a system's probabilities true, and what are its surest answers worth?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subtone.evaluation.calibrated import BINS, Calibration
from subtone.evaluation.calibration import Reliability, reliability
from subtone.evaluation.findings import Cell, Curves, Measure, Series, Table, rows_of
from subtone.evaluation.metrics import Floats, unweighted_accuracy
from subtone.evaluation.report.read import Answers, Run
from subtone.evaluation.report.tables import percent

SHOWN = 4  # systems, those with the highest UA
STEPS = 20
FEWEST = 5  # answers to a class, for a UA of some of the answers


@dataclass(frozen=True, eq=False)
class Surety:
    """A system's confidence, over all seeds and clips.

    Attributes
    ----------
    reliability
        Confidence against accuracy, in bins.
    confidence, accuracy
        Means over all answers (0..1).
    """

    system: str
    reliability: Reliability
    confidence: float
    accuracy: float


def sureties(run: Run) -> list[Surety]:
    """The confidence of the systems with the highest UA that give probabilities."""
    found: list[Surety] = []
    for system in run.ranked:
        answers = run.answers(system)
        if answers is not None and answers.scores is not None and len(found) < SHOWN:
            found.append(surety(system, answers.scores, answers))
    return found


def surety(system: str, scores: Floats, answers: Answers) -> Surety:
    """Sort the answers of all seeds into bins; ``scores`` is ``(seeds, clips, classes)``."""
    flat = scores.reshape(-1, scores.shape[-1])
    truth = np.tile(answers.truth, len(scores))
    right = flat.argmax(1) == truth
    found = reliability(flat, truth, BINS)
    return Surety(system, found, float(flat.max(1).mean()), float(right.mean()))


def coverage_curves(run: Run, prefix: str) -> list[Curves]:
    """UA and accuracy of the answers that a system is surest of, against the share of answers that these are."""
    series: dict[str, list[Series]] = {"UA": [], "WA": []}
    for one in sureties(run):
        answers = run.answers(one.system)
        assert answers is not None
        shares, ua, wa = coverage(answers)
        for name, values in (("UA", ua), ("WA", wa)):
            told = [None if np.isnan(value) else value for value in values.tolist()]
            series[name].append(Series(one.system, tuple(shares.tolist()), tuple(told)))
    if not series["UA"]:
        return []
    note = "From right to left, the least probable answers are refused."
    more = {"UA": f" Left out where a class has fewer than {FEWEST} answers to it left.", "WA": ""}
    return [
        Curves(f"{prefix}coverage-{name.lower()}", f"{name} of the surest answers", "answered (% of clips)",
               f"{name} (%)", tuple(of), note + more[name])
        for name, of in series.items()
    ]  # fmt: skip


def coverage(answers: Answers) -> tuple[Floats, Floats, Floats]:
    """Answer the surest share only.

    Returns
    -------
    (shares, ua, wa)
        ``(steps,)`` each, percent; the last step is all answers, where both equal those of the whole. UA is NaN where a
        class of the test has fewer than `FEWEST` answers left, and single clips would make it jump.
    """
    assert answers.scores is not None
    flat = answers.scores.reshape(-1, answers.scores.shape[-1])
    truth = np.tile(answers.truth, len(answers.scores))
    right = (answers.codes.reshape(-1) == truth).astype(np.float64)
    order = np.argsort(-flat.max(1), kind="stable")
    number = len(answers.labels)
    counts = np.unique(np.maximum(1, np.round(len(flat) * np.arange(1, STEPS + 1) / STEPS)).astype(int))
    whole = np.bincount(truth, minlength=number)
    ua, wa = [], []
    for count in counts:
        kept = order[:count]
        support = np.bincount(truth[kept], minlength=number)
        hits = np.bincount(truth[kept], weights=right[kept], minlength=number)
        few = bool((support < np.minimum(whole, FEWEST)).any())
        ua.append(np.nan if few else 100 * float(unweighted_accuracy(hits, support)))
        wa.append(100 * float(right[kept].mean()))
    return 100 * counts / len(flat), np.array(ua), np.array(wa)


def reliability_table(found: list[Surety], prefix: str) -> Table:
    """The bins of every reliability diagram."""
    rows = []
    for one in found:
        bins = one.reliability
        for number in range(len(bins.clips)):
            span = f"{100 * bins.edges[number]:.0f} to {100 * bins.edges[number + 1]:.0f}"
            shares = (percent(float(bins.confidence[number])), percent(float(bins.accuracy[number])))
            rows.append((one.system, span, int(bins.clips[number]), *shares))
    return Table(
        f"{prefix}reliability", "Confidence against accuracy, in bins",
        ("system", "confidence (%)", "answers", "mean confidence %", "accuracy %"), rows_of(rows),
        note="Answers of all seeds.",
    )  # fmt: skip


def calibration_table(found: list[Surety], scaled: Mapping[str, Calibration], prefix: str) -> Table:
    """Calibration error, mean confidence and accuracy, one row a system, and the error at fitted temperatures."""
    rows: list[tuple[Cell, ...]] = []
    after = any(one.ece_after is not None for one in scaled.values())
    for one in found:
        told = scaled.get(one.system)
        more: tuple[Cell, ...] = ()
        if after:
            scaled_error = None if told is None else percent(told.ece_after)
            both = (
                (None, None)
                if told is None
                else (f"{told.nll:.2f}", told.nll_after and f"{told.nll_after:.2f}")
            )
            more = (scaled_error, *both, _temperatures(told))
        error, over = 100 * one.reliability.error, 100 * (one.confidence - one.accuracy)
        rows.append((one.system, error, percent(one.confidence), percent(one.accuracy), over, *more))
    notes = list(dict.fromkeys(one.note for one in scaled.values()))
    return Table(
        f"{prefix}calibration", "Are the probabilities true?",
        ("system", "ECE (points)", "mean confidence %", "accuracy %", "too sure by (points)",
         *(("ECE scaled (points)", "NLL (nats)", "NLL scaled", "temperature, median of folds") if after else ())),
        tuple(rows),
        note=" ".join([f"ECE: expected calibration error over {BINS} bins of equal width. Below zero: less sure than "
                       "right. NLL: mean negative log-likelihood of the truth; it may rise where the error falls.",
                       *notes]),
    )  # fmt: skip


def _temperatures(one: Calibration | None) -> str | None:
    values = [] if one is None else [value for value in one.temperatures.values() if value is not None]
    return f"{np.median(values):.2f}" if values else None


def curves_table(curves: Curves) -> Table:
    """The figures of a plot."""
    xs = list(dict.fromkeys(x for one in curves.series for x in one.x))
    each: list[Mapping[object, Cell]] = []
    for one in curves.series:
        ends = one.low if one.low and one.high else (None,) * len(one.x)
        tops = one.high if one.low and one.high else (None,) * len(one.x)
        each.append(
            {
                x: None if y is None else Measure(y, low, high)
                for x, y, low, high in zip(one.x, one.y, ends, tops)
            }
        )
    rows = [(_plain(x), *(found.get(x) for found in each)) for x in xs]
    return Table(
        curves.name, curves.title, (curves.x_label or "x", *(one.label for one in curves.series)), rows_of(rows),
        curves.note,
    )  # fmt: skip


def _plain(x: float | str) -> float | str | int:
    return int(x) if isinstance(x, float) and x.is_integer() else x
