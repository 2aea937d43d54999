"""`evaluate`: one system's answers to the numbers that are reported, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subtone.errors import UsageError
from subtone.evaluation.answers import check_labels, predicted_classes
from subtone.evaluation.bootstrap import IntervalUnit, percentile_interval, resampled_metrics, units_of
from subtone.evaluation.metrics import (
    Codes,
    class_numbers,
    confusion,
    macro_f1,
    recalls,
    unweighted_accuracy,
    weighted_accuracy,
)


@dataclass(frozen=True)
class FoldScore:
    """One fold's part of a result: its name, clips, and UA and WA (0..1, mean over seeds)."""

    name: str
    n: int
    ua: float
    wa: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a system scored on a set of clips.

    With several seeds, every figure is the mean over the seeds.

    Attributes
    ----------
    labels
        Classes, in the order of the confusion matrix.
    n
        Clips.
    ua, ua_ci, wa, wa_ci
        Unweighted and weighted accuracy (0..1) with their intervals.
    macro_f1
        Mean F1 over all labels (0..1).
    per_class_recall
        Label -> recall (0..1); NaN for a label without clips.
    confusion
        ``(classes, classes)`` int64 clips, rows are the truth; summed over the seeds.
    folds
        Per fold, in the order of their first clip; empty when no folds were given.
    seconds
        Wall-clock time that the predictions took, if the caller measured it.
    seeds
        How many seeds' answers were averaged.
    ci_unit, ci_units
        What was resampled for the intervals, and how many there were. ``"clip"`` where fewer than two
        speakers, or not all of them, are known: such an interval says nothing of new speakers.
    confidence, resamples, seed
        Of the intervals.
    """

    labels: tuple[str, ...]
    n: int
    ua: float
    ua_ci: tuple[float, float]
    wa: float
    wa_ci: tuple[float, float]
    macro_f1: float
    per_class_recall: Mapping[str, float]
    confusion: Codes
    folds: tuple[FoldScore, ...] = ()
    seconds: float | None = None
    seeds: int = 1
    ci_unit: IntervalUnit = "speaker"
    ci_units: int = 0
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def to_dict(self, *, full: bool = False) -> dict[str, Any]:
        """The JSON object that ``subtone evaluate --format json`` prints.

        Parameters
        ----------
        full
            Add ``folds``, ``seeds`` and how the intervals were made, as in ``metrics.json``; `from_dict`
            reads that.
        """
        record: dict[str, Any] = {
            "n": self.n,
            "ua": self.ua,
            "ua_ci": list(self.ua_ci),
            "wa": self.wa,
            "wa_ci": list(self.wa_ci),
            "macro_f1": self.macro_f1,
            "per_class_recall": {
                label: None if np.isnan(recall) else recall for label, recall in self.per_class_recall.items()
            },
            "confusion": self.confusion.tolist(),
            "labels": list(self.labels),
            "seconds": self.seconds,
        }
        if full:
            record["folds"] = [
                {"name": fold.name, "n": fold.n, "ua": fold.ua, "wa": fold.wa} for fold in self.folds
            ]
            record["seeds"] = self.seeds
            record["interval"] = {
                "confidence": self.confidence,
                "method": "percentile bootstrap",
                "unit": self.ci_unit,
                "units": self.ci_units,
                "resamples": self.resamples,
                "seed": self.seed,
            }
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evaluation:
        """Read back what ``to_dict(full=True)`` wrote."""
        interval = record["interval"]
        return cls(
            labels=tuple(record["labels"]),
            n=record["n"],
            ua=record["ua"],
            ua_ci=(record["ua_ci"][0], record["ua_ci"][1]),
            wa=record["wa"],
            wa_ci=(record["wa_ci"][0], record["wa_ci"][1]),
            macro_f1=record["macro_f1"],
            per_class_recall={
                label: float("nan") if recall is None else recall
                for label, recall in record["per_class_recall"].items()
            },
            confusion=np.asarray(record["confusion"], dtype=np.int64),
            folds=tuple(FoldScore(**fold) for fold in record["folds"]),
            seconds=record["seconds"],
            seeds=record["seeds"],
            ci_unit=interval["unit"],
            ci_units=interval["units"],
            confidence=interval["confidence"],
            resamples=interval["resamples"],
            seed=interval["seed"],
        )

    def sentence(self) -> str:
        """The result in one line, percent with one decimal."""
        over = f"{self.ci_units} {self.ci_unit}s"
        return (
            f"UA {100 * self.ua:.1f} ({100 * self.ua_ci[0]:.1f} to {100 * self.ua_ci[1]:.1f}), "
            f"WA {100 * self.wa:.1f} ({100 * self.wa_ci[0]:.1f} to {100 * self.wa_ci[1]:.1f}), "
            f"macro-F1 {100 * self.macro_f1:.1f}; {self.n} clips, "
            f"{100 * self.confidence:g} % intervals by resampling {over}"
        )


def evaluate(
    truth: Any,
    answers: Any,
    labels: Sequence[str],
    speakers: Sequence[Any] | None = None,
    folds: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
    seconds: float | None = None,
) -> Evaluation:
    """Score a system's answers on clips whose emotion is known.

    UA is the mean recall of the classes that occur in the truth (scikit-learn's balanced accuracy), WA the
    plain accuracy. The interval is the percentile bootstrap over speakers: whole speakers are drawn with
    replacement, and, given several seeds, seeds as well (see `subtone.evaluation.bootstrap.seed_weights`): it
    tells what other speakers and other seeds might have given. A resample that lacks a class takes UA over the
    classes that it has.

    Parameters
    ----------
    truth
        ``(clips,)`` labels, or class numbers.
    answers
        Scores (floats) ``(clips, classes)`` or ``(seeds, clips, classes)``, or decided classes (text,
        integers) ``(clips,)`` or ``(seeds, clips)``. To score several seeds as one ensemble, pass `soft_vote`
        of their scores.
    labels
        Classes, in the order of the score columns.
    speakers
        ``(clips,)`` speaker of each clip, unique over corpora (`subtone.protocols.speaker_ids`). Without it,
        or when one is missing, or there is only one, clips are resampled instead, and ``ci_unit`` says so.
    folds
        ``(clips,)`` name of the fold that tested the clip.
    seed, resamples, confidence
        Of the bootstrap.
    seconds
        Passed on to the result.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If lengths disagree, a label is unknown, or there is nothing to score.

    Examples
    --------
    >>> truth, answers = ["anger", "anger", "sadness"], ["anger", "sadness", "sadness"]
    >>> result = evaluate(truth, answers, labels=["anger", "sadness"], speakers=["a", "b", "b"])
    >>> result.ua, round(result.wa, 3), result.ci_unit
    (0.75, 0.667, 'speaker')
    """
    names = check_labels(labels)
    codes = class_numbers(truth, names, "truth")
    if codes.ndim != 1:
        raise UsageError(f"truth must be one label a clip, got the shape {codes.shape}")
    predictions = predicted_classes(answers, names, len(codes))  # (seeds, clips)
    if resamples < 1:
        raise UsageError(f"resamples = {resamples}; it must be 1 or more")
    matrices = np.stack(
        [confusion(codes, answer, len(names)) for answer in predictions]
    )  # (seeds, classes, classes)
    support = matrices[0].sum(1)
    # Classes have the same clips under every seed, so UA and WA of the summed matrix are their means over
    # seeds.
    hits = matrices.diagonal(axis1=1, axis2=2).mean(0)  # (classes,)
    units = units_of(codes, predictions, len(names), speakers)
    resampled = resampled_metrics(units, resamples, seed)
    return Evaluation(
        labels=names,
        n=len(codes),
        ua=float(unweighted_accuracy(hits, support)),
        ua_ci=percentile_interval(resampled["ua"], confidence),
        wa=float(weighted_accuracy(hits, support)),
        wa_ci=percentile_interval(resampled["wa"], confidence),
        macro_f1=float(np.mean([macro_f1(matrix) for matrix in matrices])),
        per_class_recall=dict(zip(names, recalls(hits, support).tolist())),
        confusion=matrices.sum(0),
        folds=_fold_scores(codes, predictions, len(names), folds),
        seconds=None if seconds is None else float(seconds),
        seeds=len(predictions),
        ci_unit=units.unit,
        ci_units=units.number,
        confidence=float(confidence),
        resamples=int(resamples),
        seed=int(seed),
    )


def _fold_scores(
    truth: Codes, predictions: Codes, num_classes: int, folds: Sequence[Any] | None
) -> tuple[FoldScore, ...]:
    if folds is None:
        return ()
    if len(folds) != len(truth):
        raise UsageError(f"{len(folds)} folds for {len(truth)} clips; give one a clip")
    names = [str(fold) for fold in folds]
    scores = []
    for name in dict.fromkeys(names):
        rows = np.array([other == name for other in names])
        support = np.bincount(truth[rows], minlength=num_classes)
        hit = (predictions[:, rows] == truth[rows]).mean(0)
        hits = np.bincount(truth[rows], weights=hit, minlength=num_classes)
        ua, wa = unweighted_accuracy(hits, support), weighted_accuracy(hits, support)
        scores.append(FoldScore(name, int(rows.sum()), float(ua), float(wa)))
    return tuple(scores)
