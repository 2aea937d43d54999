"""Are the probabilities true? A temperature fitted on development clips, and the calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError
from subtone.evaluation.metrics import Codes, Floats

COLDEST, HOTTEST = 0.01, 100.0


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy, in bins of equal width.

    Attributes
    ----------
    edges
        ``(bins + 1,)`` from 0 to 1; a bin holds confidences above its lower and up to its upper edge.
    confidence, accuracy
        ``(bins,)`` mean highest probability and share of right answers; NaN in an empty bin.
    clips
        ``(bins,)`` how many clips.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    clips: Codes

    @property
    def error(self) -> float:
        """Expected calibration error: ``sum_b clips_b / n · |accuracy_b − confidence_b|``, 0..1."""
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.clips * gap).sum() / self.clips.sum())


def log_softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """Log probabilities of ``logits / temperature`` over the last axis, without overflow."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(-1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(-1, keepdims=True)), dtype=np.float64)


def apply_temperature(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Probabilities ``softmax(logits / temperature)``; the winning class never changes.

    Examples
    --------
    >>> apply_temperature([[0.0, 0.0]], 2.0)
    array([[0.5, 0.5]])
    """
    if not temperature > 0:
        raise UsageError(f"temperature = {temperature}; it must be above 0")
    return np.asarray(np.exp(log_softmax(logits, temperature)), dtype=np.float64)


def fit_temperature(logits: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The temperature that makes the truth most probable (Guo et al. 2017, arXiv 1706.04599).

    Fit it on development clips, never on those that are tested.

    Parameters
    ----------
    logits
        ``(clips, classes)`` finite scores before the softmax.
    truth
        ``(clips,)`` class numbers.

    Returns
    -------
    float
        Between 0.01 (all answers right: no bound from the data) and 100 (scores that say nothing).

    Raises
    ------
    UsageError
        If shapes disagree, a score is not finite, or a class number is out of range.

    Examples
    --------
    >>> logits = np.log([[0.9, 0.1]] * 10)  # claims 90 %, is right in 6 of 10
    >>> fitted = fit_temperature(logits, [0] * 6 + [1] * 4)
    >>> apply_temperature(logits[0], fitted).round(3)
    array([0.6, 0.4])
    """
    from scipy.optimize import minimize_scalar

    scores, codes = _checked(logits, truth)
    rows = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(scores, float(np.exp(log_temperature)))[rows, codes].mean())

    # The loss is convex in 1 / temperature, so it has one valley in the logarithm too.
    bounds = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def reliability(probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 15) -> Reliability:
    """Sort clips into bins by their highest probability, and compare it with how often they are right.

    Parameters
    ----------
    probabilities
        ``(clips, classes)``, each row sums to 1.
    truth
        ``(clips,)`` class numbers.
    bins
        How many bins of equal width.

    Returns
    -------
    Reliability

    Raises
    ------
    UsageError
        If shapes disagree or rows are no probabilities.
    """
    scores, codes = _checked(probabilities, truth)
    if bins < 1:
        raise UsageError(f"bins = {bins}; it must be 1 or more")
    if (scores < -1e-6).any() or (np.abs(scores.sum(1) - 1.0) > 1e-3).any():
        raise UsageError(
            "calibration is measured on probabilities (rows that sum to 1); "
            "pass logits through apply_temperature"
        )
    confidence = np.clip(scores.max(1), 0.0, 1.0)
    right = scores.argmax(1) == codes
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    clips = np.bincount(bin_of, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_of, weights=confidence, minlength=bins) / clips
        accuracy = np.bincount(bin_of, weights=right.astype(np.float64), minlength=bins) / clips
    return Reliability(edges, mean_confidence, accuracy, clips)


def expected_calibration_error(probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 15) -> float:
    """How far confidence is from accuracy on average (0..1); see `Reliability.error`.

    Examples
    --------
    >>> round(expected_calibration_error([[0.8, 0.2], [0.8, 0.2]], [0, 1]), 3)
    0.3
    """
    return reliability(probabilities, truth, bins).error


def _checked(scores: Any, truth: Any) -> tuple[Floats, Codes]:
    array, codes = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if array.ndim != 2 or codes.shape != array.shape[:1] or not len(codes):
        raise UsageError(
            "calibration needs scores (clips, classes) and truth (clips,), "
            f"got {array.shape} and {codes.shape}"
        )
    if not np.isfinite(array).all():
        raise UsageError(f"{int((~np.isfinite(array)).any(1).sum())} clips have scores that are not finite")
    if codes.dtype.kind not in "iu" or (codes < 0).any() or (codes >= array.shape[1]).any():
        raise UsageError(f"truth must be class numbers 0 to {array.shape[1] - 1}")
    return array, codes.astype(np.int64)
