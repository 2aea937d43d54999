"""Whether a system's probabilities are true, before and after a temperature that development clips chose.

The temperature of a fold is fitted on that fold's own development clips and applied to its test clips. A temperature of
all folds together would have seen the test speakers, since a development clip of one fold is a test clip of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError
from subtone.evaluation.answers import soft_vote
from subtone.evaluation.calibration import apply_temperature, fit_temperature, reliability
from subtone.evaluation.metrics import Codes, Floats

BINS = 15

#: Development clips that are all recognised ask for a temperature of 0, and so for probabilities of 1.
COLDEST = 0.1

#: ``"fitted"``: on development clips, to report it. ``"built-in"``: the probabilities are scaled already, by a
#: temperature of development clips. ``"none"``: there is none.
Temperature = Literal["fitted", "built-in", "none"]


@dataclass(frozen=True, eq=False)
class Development:
    """What a system said of the development clips of one fold, by members that did not train on them.

    Attributes
    ----------
    scores
        ``(seeds, clips, classes)`` probabilities.
    truth
        ``(clips,)`` class numbers.
    """

    scores: Floats
    truth: Codes

    def vote(self) -> Development:
        """The same with the mean of the seeds as the one seed."""
        return Development(soft_vote(self.scores)[None], self.truth)


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of like confidence.

    Attributes
    ----------
    low, high
        Its edges: confidences above the one and up to the other.
    answers
        How many.
    confidence, accuracy
        Mean highest probability, and share of right answers; None in an empty bin.
    """

    low: float
    high: float
    answers: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far a system's probabilities can be trusted, on test clips.

    Answers of all seeds are counted together.

    Attributes
    ----------
    answers
        Clips times seeds.
    ece
        Expected calibration error in 15 bins (0..1).
    nll
        Mean negative log-likelihood of the truth, in nats.
    bins
        Of the reliability diagram.
    temperature
        Whether there is one.
    temperatures
        Fold → the temperature of its test clips; None where there is none.
    ece_after, nll_after, bins_after
        The same for probabilities at these temperatures; None and empty unless every fold has had one fitted.
    note
        What a reader must know of the temperature, in a sentence.
    """

    answers: int
    ece: float
    nll: float
    bins: tuple[ReliabilityBin, ...]
    temperature: Temperature
    temperatures: Mapping[str, float | None]
    ece_after: float | None
    nll_after: float | None
    bins_after: tuple[ReliabilityBin, ...]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """JSON object for ``metrics.json``; `from_dict` reads it back."""
        record = asdict(self)
        return {**record, "bins": list(record["bins"]), "bins_after": list(record["bins_after"])}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Calibration:
        """Read back what `to_dict` wrote."""
        bins = {key: tuple(ReliabilityBin(**one) for one in record[key]) for key in ("bins", "bins_after")}
        return cls(**{**record, **bins})


def calibrate(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    folds: Sequence[str],
    development: Mapping[str, Development] | None = None,
    *,
    built_in: Mapping[str, float] | None = None,
) -> Calibration:
    """Measure calibration on test clips, as given and after temperature scaling.

    Truth of test clips is only ever compared with; each fold's temperature comes from its own development clips (Guo et
    al. 2017, arXiv 1706.04599), those of all seeds together, and is 0.1 or more.

    Parameters
    ----------
    scores
        ``(seeds, clips, classes)`` probabilities of the test clips.
    truth
        ``(clips,)`` class numbers.
    folds
        ``(clips,)`` name of the fold that tested the clip.
    development
        Fold → its development clips; without one for each fold nothing is scaled.
    built_in
        Fold → temperature that the probabilities hold already; then no further one is fitted.

    Returns
    -------
    Calibration

    Raises
    ------
    UsageError
        If shapes disagree, scores are no probabilities, or a class number is out of range.

    Examples
    --------
    >>> sure = [[0.9, 0.1]] * 10  # claims 90 %, is right in 6 of 10
    >>> truth = np.array([0] * 6 + [1] * 4)
    >>> found = calibrate([sure], truth, ["1"] * 10, {"1": Development(np.array([sure]), truth)})
    >>> round(found.ece, 3), round(found.ece_after, 3)
    (0.3, 0.0)
    """
    array, codes = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if array.ndim != 3 or codes.shape != array.shape[1:2] or len(folds) != len(codes):
        raise UsageError(
            "calibration needs scores (seeds, clips, classes), and truth and fold of each clip; got "
            f"{array.shape}, {codes.shape} and {len(folds)} folds"
        )
    tested = list(dict.fromkeys(folds))
    ece, nll, bins = _measured(array, codes)
    given = {name: one for name, one in (development or {}).items() if one.scores.size}
    lacking = [name for name in tested if name not in given]
    kind: Temperature = "fitted"
    temperatures: dict[str, float | None]
    after: tuple[float | None, float | None, tuple[ReliabilityBin, ...]] = (None, None, ())
    if built_in is not None:
        kind, temperatures = "built-in", {name: built_in.get(name) for name in tested}
        note = (
            "Its probabilities are scaled already, by a temperature fitted on each fold's development clips."
        )
    else:
        temperatures = {name: _fitted(given[name]) if name in given else None for name in tested}
        note = "A temperature fitted on each fold's own development clips, applied to its test clips."
        if len(lacking) == len(tested):
            kind, note = "none", "No development clips to fit a temperature on."
        elif lacking:
            note = f"{len(lacking)} of {len(tested)} folds have no development clips, so nothing is scaled."
        else:
            scaled = np.empty_like(array)
            for name, value in temperatures.items():
                assert value is not None
                rows = np.array([fold == name for fold in folds])
                scaled[:, rows] = apply_temperature(_logits(array[:, rows]), value)
            after = _measured(scaled, codes)
    return Calibration(
        answers=array.shape[0] * array.shape[1],
        ece=ece,
        nll=nll,
        bins=bins,
        temperature=kind,
        temperatures=temperatures,
        ece_after=after[0],
        nll_after=after[1],
        bins_after=after[2],
        note=note,
    )


def _measured(scores: Floats, truth: Codes) -> tuple[float, float, tuple[ReliabilityBin, ...]]:
    """ECE, negative log-likelihood and bins of ``(seeds, clips, classes)``."""
    flat, codes = scores.reshape(-1, scores.shape[-1]), np.tile(truth, len(scores))
    found = reliability(flat, codes, BINS)
    nll = -float(_logits(flat)[np.arange(len(codes)), codes].mean())
    columns = (found.edges[:-1], found.edges[1:], found.clips, found.confidence, found.accuracy)
    bins = tuple(
        ReliabilityBin(
            float(low), float(high), int(n), float(sure) if n else None, float(right) if n else None
        )
        for low, high, n, sure, right in zip(*columns, strict=True)
    )
    return found.error, nll, bins


def _fitted(one: Development) -> float:
    flat = one.scores.reshape(-1, one.scores.shape[-1])
    return max(COLDEST, fit_temperature(_logits(flat), np.tile(one.truth, len(one.scores))))


def _logits(scores: Floats) -> Floats:
    """Log probabilities, which are logits: a softmax gives the scores back. None counts as less than 1e-300."""
    return np.asarray(np.log(np.maximum(scores, 1e-300)))
