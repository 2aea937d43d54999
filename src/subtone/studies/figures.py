"""From answers to figures with intervals: all systems and conditions of a study on the same resampled speakers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.evaluation import compare
from subtone.evaluation.bootstrap import (
    percentile_interval,
    resample,
    seed_weights,
    units_of,
    weighted_metric,
)
from subtone.evaluation.findings import Measure
from subtone.evaluation.metrics import unweighted_accuracy
from subtone.studies.material import Material

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Resampled:
    """UA of several sets of answers to the same clips, and of the same resamples of their speakers.

    Parameters
    ----------
    values
        Name → UA in points (percent).
    draws
        Name → ``(resamples,)`` the same of resampled speakers; row for row of the same speakers under every name.
    """

    values: Mapping[str, float]
    draws: Mapping[str, Floats]

    def measure(self, name: str) -> Measure:
        """UA in percent, with its interval."""
        return Measure(self.values[name], *percentile_interval(self.draws[name]))

    def of(self, what: Callable[..., Any], *names: str) -> Measure:
        """Whatever is computed of the UA of several names, with its interval.

        Examples
        --------
        >>> both = Resampled({"a": 60.0, "b": 50.0}, {"a": np.array([61.0, 59.0]), "b": np.array([51.0, 49.0])})
        >>> both.of(lambda a, b: a - b, "a", "b").text()
        '10.0 (10.0 to 10.0)'
        """
        value = float(what(*(self.values[name] for name in names)))
        draws = what(*(self.draws[name] for name in names))
        return Measure(value, *percentile_interval(draws))


def decided(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Return the answers ``(seeds, clips)`` of scores ``(seeds, clips, classes)``; -1 for a clip without scores.

    >>> decided(np.array([[[0.1, 0.9], [np.nan, np.nan]]]))
    array([[ 1, -1]])
    """
    chosen = np.where(np.isnan(logits).any(-1), -1, logits.argmax(-1))
    return np.asarray(chosen, np.int64)


def answered(answers: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return the clips to which all answers are there: only those are compared.

    >>> answered({"a": np.array([[0, -1, 1]]), "b": np.array([[0, 1, 1]])})
    array([0, 2])
    """
    return np.flatnonzero(np.all([(one >= 0).all(0) for one in answers.values()], axis=0))


@dataclass(frozen=True, eq=False)
class Examined:
    """What one corpus answered, of the clips to which all systems answered under all conditions.

    Parameters
    ----------
    truth, speakers
        ``(clips,)``.
    classes
        How many.
    answers
        Name → ``(seeds, clips)``.
    """

    truth: npt.NDArray[np.int64]
    speakers: Sequence[Any]
    classes: int
    answers: Mapping[str, npt.NDArray[np.int64]]

    @classmethod
    def of(cls, material: Material, answers: Mapping[str, npt.NDArray[np.int64]]) -> Examined:
        """Leave out the clips that failed somewhere."""
        rows = answered(answers)
        return cls(
            material.targets[rows],
            [material.speakers[row] for row in rows.tolist()],
            len(material.classes),
            {name: one[:, rows] for name, one in answers.items()},
        )

    def resampled(self, *, resamples: int, seed: int | Sequence[int]) -> Resampled:
        """UA of all answers, named ``MODEL | CONDITION``; see :func:`resampled_ua`."""
        return resampled_ua(
            self.truth,
            self.answers,
            self.classes,
            self.speakers,
            resamples=resamples,
            seed=seed,
            model_of=without_condition,
        )

    def pair(self, first: Sequence[str], second: Sequence[str]) -> Pair:
        """Two models' answers under the same conditions, by their names."""
        below = [np.concatenate([self.answers[name] for name in names]) for names in (first, second)]
        return Pair(self.truth, self.classes, self.speakers, *below)


def resampled_ua(
    truth: npt.NDArray[np.int64],
    answers: Mapping[str, npt.NDArray[np.int64]],
    classes: int,
    speakers: Sequence[Any],
    *,
    resamples: int,
    seed: int | Sequence[int],
    model_of: Callable[[str], str] = str,
) -> Resampled:
    """Take the UA of many sets of answers on the same resamples of speakers, the seeds of each model drawn as well.

    Parameters
    ----------
    truth
        ``(clips,)`` class numbers.
    answers
        Name → ``(seeds, clips)`` class numbers; the UA is the mean over the seeds.
    classes
        How many classes.
    speakers
        ``(clips,)``.
    resamples, seed
        Of the draws; each corpus needs a seed of its own, lest all draw alike.
    model_of
        Name → whose answers these are: what one model says under several conditions shares its draws of seeds. By
        default each name is a model of its own.
    """
    names = list(answers)
    seeds = [len(answers[name]) for name in names]
    units = units_of(truth, np.concatenate([answers[name] for name in names]), classes, speakers)
    hits, support = units.totals()
    rng = np.random.default_rng(seed)
    drawn, drawn_support = resample(units, resamples, rng)
    ends = np.cumsum(seeds)
    values, draws = {}, {}
    weights: dict[str, Floats] = {}
    for name, start, end in zip(names, ends - seeds, ends, strict=True):
        model = model_of(name)
        if model not in weights:
            weights[model] = seed_weights(int(end - start), resamples, rng)
        values[name] = 100.0 * float(unweighted_accuracy(hits[start:end].mean(0), support))
        draws[name] = 100.0 * weighted_metric("ua", drawn[:, start:end], drawn_support, weights[model])
    return Resampled(values, draws)


def without_condition(name: str) -> str:
    """Return what stands before the last bar of a name: the model, where names are ``MODEL | CONDITION``.

    >>> without_condition("gap | clean | silence-25")
    'gap | clean'
    """
    return name.rpartition(" | ")[0]


def pooled_over(parts: Sequence[Resampled]) -> Resampled:
    """Return the mean over corpora, each resampled by itself; of the names that all of them have."""
    names = [name for name in parts[0].values if all(name in part.values for part in parts)]
    return Resampled(
        {name: float(np.mean([part.values[name] for part in parts])) for name in names},
        {name: np.mean([part.draws[name] for part in parts], axis=0) for name in names},
    )


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models' answers to the clips of one corpus.

    Parameters
    ----------
    truth
        ``(clips,)`` class numbers.
    classes
        How many classes.
    speakers
        ``(clips,)``.
    first, second
        ``(seeds, clips)`` class numbers; answers under several conditions stand one below the other, as seeds do.
    """

    truth: npt.NDArray[np.int64]
    classes: int
    speakers: Sequence[Any]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]


def paired_p(pairs: Sequence[Pair], *, permutations: int, seed: int) -> float:
    """Test two models on several corpora at once: the p value of their difference in UA.

    Each class of each corpus counts as a class of its own, so that the UA that is tested is the mean over corpora of
    their UA (where corpora have equally many classes; else one with more of them weighs more). Speakers of all corpora
    exchange the answers of the two models, those under all conditions together.
    """
    offsets = np.cumsum([0, *(pair.classes for pair in pairs)])

    def joined(name: str) -> npt.NDArray[np.int64]:
        parts = [getattr(pair, name) + offset for pair, offset in zip(pairs, offsets)]
        found: npt.NDArray[np.int64] = np.concatenate(parts, axis=-1)
        return found

    return compare(
        joined("truth"),
        joined("first"),
        joined("second"),
        [str(number) for number in range(int(offsets[-1]))],
        [speaker for pair in pairs for speaker in pair.speakers],
        seed=seed,
        resamples=1,  # of an interval that nobody looks at
        permutations=permutations,
    ).p


def p_cell(p: float) -> str:
    """Return a p value as it stands in a table.

    >>> p_cell(0.0004), p_cell(0.0312)
    ('< 0.001', '0.031')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_words(p: float) -> str:
    """Return a p value as it is printed.

    >>> p_words(0.0004), p_words(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    return f"p {p_cell(p)}" if p < 0.001 else f"p = {p_cell(p)}"
