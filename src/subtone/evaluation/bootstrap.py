"""Intervals by resampling speakers: clips of one speaker are alike, so speakers are what must be drawn anew.

All resamples are computed at once: UA and WA need only each speaker's hits and clips per class, and a
resample is a weighted sum of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.errors import UsageError
from subtone.evaluation.metrics import Codes, Floats, unweighted_accuracy, weighted_accuracy

IntervalUnit = Literal["speaker", "clip"]
Metric = Literal["ua", "wa"]
METRICS = {"ua": unweighted_accuracy, "wa": weighted_accuracy}


@dataclass(frozen=True, eq=False)
class Units:
    """What is resampled, with equal units kept once.

    Attributes
    ----------
    hits
        ``(units, seeds, classes)`` correct clips.
    support
        ``(units, classes)`` clips.
    copies
        ``(units,)`` how many units are like this one.
    unit
        Whether a unit is a speaker or, where speakers are unknown or all one, a clip.
    """

    hits: Floats
    support: Floats
    copies: Codes
    unit: IntervalUnit

    @property
    def number(self) -> int:
        """Units in all, copies counted."""
        return int(self.copies.sum())

    def totals(self) -> tuple[Floats, Floats]:
        """Hits ``(seeds, classes)`` and clips ``(classes,)`` of all units."""
        return np.einsum("u,usc->sc", self.copies, self.hits), self.copies @ self.support


def units_of(truth: Codes, predictions: Codes, num_classes: int, speakers: Sequence[Any] | None) -> Units:
    """Sum hits and clips up per speaker.

    Parameters
    ----------
    truth
        ``(clips,)`` class numbers.
    predictions
        ``(seeds, clips)`` class numbers.
    num_classes
        How many classes.
    speakers
        ``(clips,)``; None, a missing one among them, or a single speaker makes the clips the units.

    Returns
    -------
    Units

    Raises
    ------
    UsageError
        If the number of speakers is not that of clips.
    """
    codes, unit = _unit_codes(speakers, len(truth))
    size = int(codes.max()) + 1
    support = np.zeros((size, num_classes))
    np.add.at(support, (codes, truth), 1.0)
    hits = np.zeros((size, len(predictions), num_classes))
    for seed, answer in enumerate(predictions):
        np.add.at(hits[:, seed], (codes, truth), (answer == truth).astype(np.float64))
    flat = np.concatenate([support, hits.reshape(size, -1)], axis=1)
    distinct, copies = np.unique(flat, axis=0, return_counts=True)
    return Units(
        hits=distinct[:, num_classes:].reshape(len(distinct), len(predictions), num_classes),
        support=distinct[:, :num_classes],
        copies=copies.astype(np.int64),
        unit=unit,
    )


def _unit_codes(speakers: Sequence[Any] | None, clips: int) -> tuple[Codes, IntervalUnit]:
    each = np.arange(clips)
    if speakers is None:
        return each, "clip"
    if len(speakers) != clips:
        raise UsageError(f"{len(speakers)} speakers for {clips} clips; give one a clip")
    codes, names = pd.factorize(np.asarray(speakers, dtype=object))
    if (codes < 0).any() or len(names) < 2:
        return each, "clip"
    return codes.astype(np.int64), "speaker"


def resample(units: Units, resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw units with replacement, as many as there are, many times over.

    Returns
    -------
    (hits, support)
        ``(resamples, seeds, classes)`` and ``(resamples, classes)`` of the drawn units.
    """
    drawn = rng.multinomial(units.number, units.copies / units.number, size=resamples)  # (resamples, units)
    weights = drawn.astype(np.float64)
    size, seeds, classes = units.hits.shape
    hits = (weights @ units.hits.reshape(size, -1)).reshape(resamples, seeds, classes)
    return hits, weights @ units.support


def resample_within(
    units: Units, strata: Codes, resamples: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """`resample`, but each stratum by itself, so that all keep their number of units.

    Parameters
    ----------
    units
        What is drawn.
    strata
        ``(units,)`` which stratum each belongs to.
    resamples
        How many times.
    rng
        Draws.
    """
    parts = []
    for stratum in np.unique(strata):
        at = strata == stratum
        part = Units(units.hits[at], units.support[at], units.copies[at], units.unit)
        parts.append(resample(part, resamples, rng))
    return np.sum([hits for hits, _ in parts], axis=0), np.sum([support for _, support in parts], axis=0)


def seed_weights(seeds: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw seeds with replacement: ``(resamples, seeds)`` weights that sum to 1."""
    return rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=resamples) / seeds


def resampled_metrics(units: Units, resamples: int, seed: int) -> dict[Metric, Floats]:
    """UA and WA of many resamples, speakers and seeds drawn anew in each.

    A resample that lacks a class takes UA over the classes that it has.

    Returns
    -------
    dict
        Metric -> ``(resamples,)``.
    """
    rng = np.random.default_rng(seed)
    hits, support = resample(units, resamples, rng)
    weights = seed_weights(units.hits.shape[1], resamples, rng)
    mean_hits = np.einsum("rs,rsc->rc", weights, hits)
    return {"ua": unweighted_accuracy(mean_hits, support), "wa": weighted_accuracy(mean_hits, support)}


def percentile_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The middle share of the resampled values.

    With few speakers such intervals are too narrow: in simulations with 5, 10, 20 and 40 speakers, 95 %
    intervals held the true UA in 86, 90, 92 and 94 % of studies.
    """
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence = {confidence}; it must lie between 0 and 1, e.g. 0.95")
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [tail, 100.0 - tail])
    return float(low), float(high)
