"""How evenly a system serves single speakers: the spread of their recalls, and those whom it serves worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subtone.evaluation.bootstrap import Units, percentile_interval, seed_weights
from subtone.evaluation.metrics import Floats, unweighted_accuracy


@dataclass(frozen=True)
class SpeakerSpread:
    """Recall speaker by speaker: a speaker's UA over the classes of her clips, mean over seeds (0..1).

    Few clips of a speaker make such a recall a matter of luck, and the minimum falls with the number of speakers;
    ``fewest_clips`` says how bad that can be.

    Attributes
    ----------
    speakers
        How many.
    fewest_clips
        Of a speaker.
    minimum, tenth, median, maximum
        Of the recalls; ``tenth`` is their 10th percentile.
    worst_decile
        Mean recall of the tenth of speakers (rounded down, at least one) with the lowest.
    worst_decile_ci
        Its interval by resampling speakers.
    worst_decile_speakers
        How many these are.
    """

    speakers: int
    fewest_clips: int
    minimum: float
    tenth: float
    median: float
    maximum: float
    worst_decile: float
    worst_decile_ci: tuple[float, float]
    worst_decile_speakers: int

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> SpeakerSpread:
        """Read back the JSON object of a spread."""
        low, high = record["worst_decile_ci"]
        return cls(**{**record, "worst_decile_ci": (low, high)})


def spread_of(
    units: Units, *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> SpeakerSpread | None:
    """Measure the spread over speakers; None where the units are clips.

    Parameters
    ----------
    units
        See :func:`subtone.evaluation.bootstrap.units_of`.
    seed, resamples, confidence
        Of the interval.
    """
    if units.unit != "speaker":
        return None
    each = np.repeat(unweighted_accuracy(units.hits, units.support[:, None]), units.copies, axis=0)
    recalls = each.mean(1)  # (speakers,)
    speakers = len(recalls)
    worst = max(1, speakers // 10)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(speakers, size=(resamples, speakers))
    weights = seed_weights(each.shape[1], resamples, rng)  # (resamples, seeds)
    values = np.clip(weights @ each.T, 0.0, 1.0)  # (resamples, speakers)
    resampled = _lowest(np.take_along_axis(values, drawn, axis=1), worst)
    low, tenth, median, high = np.percentile(recalls, [0, 10, 50, 100])
    return SpeakerSpread(
        speakers=speakers,
        fewest_clips=int(units.support.sum(1).min()),
        minimum=float(low),
        tenth=float(tenth),
        median=float(median),
        maximum=float(high),
        worst_decile=float(_lowest(recalls, worst)),
        worst_decile_ci=percentile_interval(resampled, confidence),
        worst_decile_speakers=worst,
    )


def _lowest(values: Floats, number: int) -> Floats:
    """Mean of the lowest values of the last axis."""
    return np.asarray(np.partition(values, number - 1, axis=-1)[..., :number].mean(-1))
