"""How well scores put clips in the order of their levels: rank correlations, and intervals over speakers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from subtone.errors import UsageError
from subtone.evaluation.bootstrap import percentile_interval
from subtone.pretraining.intensity.examples import Examples

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A figure with its interval.

    Attributes
    ----------
    value
        The figure.
    interval
        The middle 95 % of resamples of the speakers; with few speakers it is too narrow, see
        `subtone.evaluation.bootstrap.percentile_interval`.
    speakers
        Speakers that it comes from.
    """

    value: float
    interval: tuple[float, float]
    speakers: int

    def __str__(self) -> str:
        """Two decimals and the interval."""
        return f"{self.value:.2f} ({self.interval[0]:.2f}–{self.interval[1]:.2f})"


@dataclass(frozen=True)
class Agreement:
    """How scores agree with the levels of a corpus.

    Attributes
    ----------
    pooled
        Spearman's correlation over the clips of all speakers who have clips of two levels; 0 by chance.
    within
        Mean over speakers of Spearman's correlation over a speaker's clips; 0 by chance.
    pairs
        Mean over speakers of the share of pairs of a speaker's clips, of different level, that are in the right order
        (ties count half): ``(1 + Kendall's tau) / 2`` over these pairs; 0.5 by chance.
    matched
        As ``pairs``, among pairs alike in emotion and sentence: intensity with nothing else to go by. None where the
        corpus has no such pairs.
    """

    pooled: Measured
    within: Measured
    pairs: Measured
    matched: Measured | None


def agreement(
    scores: npt.ArrayLike, examples: Examples, *, resamples: int = 1000, seed: int = 0
) -> Agreement:
    """Hold scores of clips against their levels.

    Parameters
    ----------
    scores
        ``(clips,)``, any scale.
    examples
        The clips; all with a level, of one corpus.
    resamples, seed
        Of the speakers, for the intervals.

    Raises
    ------
    UsageError
        If numbers do not fit, one is NaN, or no speaker has clips of two levels.
    """
    values = np.asarray(scores, np.float64)
    levels = examples.levels
    if values.shape != levels.shape or not np.isfinite(values).all() or not np.isfinite(levels).all():
        raise UsageError(f"{len(values)} scores for {len(levels)} clips; both must be finite, one a clip")
    _, speaker = np.unique(examples.speakers, return_inverse=True)
    rows = [np.flatnonzero(speaker == code) for code in range(int(speaker.max()) + 1)]
    rows = [own for own in rows if len(np.unique(levels[own])) > 1]
    if not rows:
        raise UsageError("no speaker has clips of two levels; there is nothing to compare")
    _, alike = np.unique(np.char.add(examples.emotions, examples.sentences), return_inverse=True)
    matched = [_in_order(values[own], levels[own], alike[own]) for own in rows]
    known = np.array([share for share in matched if not np.isnan(share)])

    def pooled(drawn: npt.NDArray[np.int64]) -> float:
        chosen = np.concatenate([rows[code] for code in drawn])
        return spearman(values[chosen], levels[chosen])

    return Agreement(
        pooled=_measured(pooled, len(rows), resamples, seed),
        within=_mean([spearman(values[own], levels[own]) for own in rows], resamples, seed),
        pairs=_mean([_in_order(values[own], levels[own]) for own in rows], resamples, seed),
        matched=_mean(known, resamples, seed) if len(known) else None,
    )


def pairs_by_speaker(scores: npt.ArrayLike, examples: Examples) -> dict[str, float]:
    """Return each speaker's share of pairs in the right order, see `Agreement.pairs`; for comparing two systems."""
    values = np.asarray(scores, np.float64)
    rows = {str(name): examples.speakers == name for name in np.unique(examples.speakers)}
    shares = {name: _in_order(values[own], examples.levels[own]) for name, own in rows.items()}
    return {name: share for name, share in shares.items() if not np.isnan(share)}


def difference(
    one: dict[str, float], other: dict[str, float], *, resamples: int = 1000, seed: int = 0
) -> Measured:
    """Return the mean over speakers of ``one - other``, the speakers of both resampled together."""
    return _mean([one[name] - other[name] for name in sorted(one)], resamples, seed)


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one of the two is constant.

    Examples
    --------
    >>> round(spearman(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.3])), 6)
    1.0
    """
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (one, other)]
    scale = float(np.sqrt(np.sum(ranks[0] ** 2) * np.sum(ranks[1] ** 2)))
    return float(np.sum(ranks[0] * ranks[1])) / scale if scale else 0.0


def _in_order(scores: Floats, levels: Floats, alike: npt.NDArray[np.int64] | None = None) -> float:
    """Share of pairs of different level in the right order; NaN of no pair."""
    above = levels[:, None] > levels[None]
    if alike is not None:
        above &= alike[:, None] == alike[None]
    right = (scores[:, None] > scores[None]) + 0.5 * (scores[:, None] == scores[None])
    return float(right[above].mean()) if above.any() else float("nan")


def _mean(values: npt.ArrayLike, resamples: int, seed: int) -> Measured:
    each = np.asarray(values, np.float64)
    return _measured(lambda drawn: float(each[drawn].mean()), len(each), resamples, seed)


def _measured(
    figure: Callable[[npt.NDArray[np.int64]], float], speakers: int, resamples: int, seed: int
) -> Measured:
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.integers(0, speakers, speakers)) for _ in range(resamples)]
    return Measured(figure(np.arange(speakers)), percentile_interval(drawn), speakers)
