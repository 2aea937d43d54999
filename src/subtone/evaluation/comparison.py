"""Is one system better than another? Both on the same clips, speaker by speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from subtone.errors import UsageError
from subtone.evaluation.answers import check_labels, predicted_classes
from subtone.evaluation.bootstrap import (
    METRICS,
    IntervalUnit,
    Metric,
    Units,
    percentile_interval,
    resample,
    resample_within,
    seed_weights,
    units_of,
    weighted_metric,
)
from subtone.evaluation.correction import holm
from subtone.evaluation.metrics import Codes, Floats, class_numbers

EXACT_UNITS = 13  # up to so many speakers all 2 ** n exchanges are tried


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same clips.

    Attributes
    ----------
    a, b
        Names of the systems.
    metric
        ``"ua"`` or ``"wa"``.
    value_a, value_b, difference
        The metric of both (0..1), and b − a.
    ci
        Interval of the difference, by resampling speakers (and seeds), the same for both systems.
    p
        Two-sided p value: how often exchanging the systems' answers of whole speakers at random gives a
        difference as large.
    p_corrected, tests
        The same corrected for the number of tests that were looked at together, see `corrected`; None as long as
        a test stands alone.
    p_exact
        True when all exchanges were tried instead of random ones.
    n, unit, units
        Clips, and what was resampled and exchanged: speakers, or clips where speakers are unknown.
    confidence, resamples, permutations, seed
        Of interval and test.
    """

    a: str
    b: str
    metric: Metric
    value_a: float
    value_b: float
    difference: float
    ci: tuple[float, float]
    p: float
    p_exact: bool
    n: int
    unit: IntervalUnit
    units: int
    confidence: float
    resamples: int
    permutations: int
    seed: int
    p_corrected: float | None = None
    tests: int = 1

    @property
    def significant(self) -> bool:
        """True when the test, corrected where it is one of several, rejects "no difference" and the interval
        leaves zero out.
        """
        p = self.p if self.p_corrected is None else self.p_corrected
        return p < 1.0 - self.confidence and not self.ci[0] <= 0.0 <= self.ci[1]

    def sentence(self) -> str:
        """The verdict in one line, in points (percent)."""
        name = self.metric.upper()
        p = _p_text(self.p)
        if self.p_corrected is not None and self.tests > 1:
            p += f", corrected for {self.tests} tests {_p_text(self.p_corrected)}"
        sign = -1.0 if self.significant and self.difference < 0 else 1.0
        low, high = sorted(100.0 * sign * end for end in self.ci)
        evidence = f"({100 * self.confidence:g} % interval {_signed(low)} to {_signed(high)}, {p})"
        if self.significant:
            better, worse = (self.b, self.a) if self.difference > 0 else (self.a, self.b)
            return f"{better} beats {worse} by {100 * abs(self.difference):.1f} points {name} {evidence}"
        return (
            f"no evidence of a difference between {self.a} and {self.b}: "
            f"{_signed(100 * self.difference)} points {name} {evidence}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON object for ``metrics.json``; `from_dict` reads it back."""
        record = asdict(self)
        return {**record, "ci": list(self.ci), "sentence": self.sentence()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Comparison:
        """Read back what `to_dict` wrote."""
        values = {key: value for key, value in record.items() if key != "sentence"}
        return cls(**{**values, "ci": (values["ci"][0], values["ci"][1])})


def _signed(points: float) -> str:
    """A number with a true minus sign and no negative zero.

    >>> _signed(-0.31), _signed(-0.01)
    ('−0.3', '0.0')
    """
    text = f"{points:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.{2 if p >= 0.0095 else 3}f}"


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p values of tests that are looked at together for their number.

    The tests of each metric are a family: UA and WA of the same answers say nearly the same. What was corrected before
    is corrected anew.

    Parameters
    ----------
    comparisons
        All that a reader chooses from, e.g. those of a result folder.

    Returns
    -------
    list of Comparison
        In the same order, with ``p_corrected`` and ``tests`` (Holm, see :func:`subtone.evaluation.holm`).
    """
    fixed: dict[int, Comparison] = {}
    for metric in METRICS:
        at = [i for i, one in enumerate(comparisons) if one.metric == metric]
        ps = holm([comparisons[i].p for i in at])
        fixed |= {
            i: replace(comparisons[i], p_corrected=p, tests=len(at)) for i, p in zip(at, ps, strict=True)
        }
    return [fixed[i] for i in range(len(comparisons))]


def compare(
    truth: Any,
    a: Any,
    b: Any,
    labels: Sequence[str],
    speakers: Sequence[Any] | None = None,
    *,
    strata: Sequence[Any] | None = None,
    names: tuple[str, str] = ("a", "b"),
    metric: Metric = "ua",
    seed: int = 0,
    resamples: int = 2000,
    permutations: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two systems' answers to the same clips.

    The interval resamples speakers, the same ones for both systems. The p value is that of approximate
    randomisation: if the systems were equally good, exchanging their answers for all clips of a speaker would
    make no difference, so the difference found is ranked among those of random exchanges, ``p = (k + 1) /
    (permutations + 1)`` with k as large or larger; with up to 13 speakers all exchanges are tried. Few
    speakers bound p from below (four: 0.125).

    Parameters
    ----------
    truth
        ``(clips,)`` labels or class numbers.
    a, b
        Answers as in `subtone.evaluation.evaluate`; they may have different numbers of seeds, whose mean is
        compared.
    labels
        Classes, in the order of the score columns.
    speakers
        ``(clips,)``; without it clips are resampled and exchanged, and ``unit`` says so.
    strata
        ``(clips,)``, e.g. the corpus of each. The interval then draws the speakers of each stratum by themselves, as
        many as it has, so that none is missing from a resample; of a stratum with one speaker nothing is drawn.
        The p value knows no strata: exchanges leave every speaker where they are.
    names
        Of the systems.
    metric
        ``"ua"`` or ``"wa"``.
    seed, resamples, permutations, confidence
        Of interval and test.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If lengths disagree, a speaker is in several strata, or a label or the metric is unknown.

    Examples
    --------
    >>> truth = ["anger", "sadness"] * 8
    >>> speakers = [number // 2 for number in range(16)]
    >>> result = compare(truth, ["anger"] * 16, truth, truth[:2], speakers, names=("GAP", "GAP+SAP"))
    >>> print(result.sentence())
    GAP+SAP beats GAP by 50.0 points UA (95 % interval 50.0 to 50.0, p = 0.008)
    """
    if metric not in METRICS:
        raise UsageError(f"metric {metric!r} cannot be compared; known: ua, wa")
    if resamples < 1 or permutations < 1:
        raise UsageError(f"resamples = {resamples}, permutations = {permutations}; both must be 1 or more")
    classes = check_labels(labels)
    codes = class_numbers(truth, classes, "truth")
    first = predicted_classes(a, classes, len(codes), names[0])
    second = predicted_classes(b, classes, len(codes), names[1])
    units = units_of(codes, np.concatenate([first, second]), len(classes), speakers, strata)
    split = len(first)
    score = METRICS[metric]

    hits, support = units.totals()
    value_a = float(score(hits[:split].mean(0), support))
    value_b = float(score(hits[split:].mean(0), support))

    rng = np.random.default_rng(seed)
    drawn, drawn_support = (
        resample(units, resamples, rng)
        if units.strata is None
        else resample_within(units, units.strata, resamples, rng)
    )  # (resamples, seeds of a and b, classes)
    parts = [
        weighted_metric(metric, part, drawn_support, seed_weights(part.shape[1], resamples, rng))
        for part in (drawn[:, :split], drawn[:, split:])
    ]
    p, exact = _randomisation_p(_unit_differences(units, split, metric), units.copies, permutations, rng)
    return Comparison(
        a=names[0],
        b=names[1],
        metric=metric,
        value_a=value_a,
        value_b=value_b,
        difference=value_b - value_a,
        ci=percentile_interval(parts[1] - parts[0], confidence),
        p=p,
        p_exact=exact,
        n=len(codes),
        unit=units.unit,
        units=units.number,
        confidence=float(confidence),
        resamples=int(resamples),
        permutations=int(permutations),
        seed=int(seed),
    )


def _unit_differences(units: Units, split: int, metric: Metric) -> Floats:
    """``(units,)`` what each adds to the difference b − a; with a shared truth UA and WA are such sums."""
    gained = units.hits[:, split:].mean(1) - units.hits[:, :split].mean(1)  # (units, classes)
    _, support = units.totals()
    if metric == "wa":
        return np.asarray(gained.sum(1) / support.sum(), dtype=np.float64)
    present = support > 0
    return np.asarray((gained[:, present] / support[present]).sum(1) / present.sum(), dtype=np.float64)


def _randomisation_p(
    differences: Floats, copies: Codes, permutations: int, rng: np.random.Generator
) -> tuple[float, bool]:
    """Two-sided p value under exchanges, which turn the sign of a unit's difference; True when exact."""
    found = abs(float(copies @ differences)) - 1e-12  # equal sums may differ in their last bit
    moving = np.abs(differences) > 1e-15  # a unit on which both agree changes nothing
    differences, copies = differences[moving], copies[moving]
    number = int(copies.sum())
    if number <= EXACT_UNITS:
        each = np.repeat(differences, copies)
        signs = 1.0 - 2.0 * ((np.arange(2**number)[:, None] >> np.arange(number)) & 1)
        return float(np.mean(np.abs(signs @ each) >= found)), True
    # Of m equal units, binomially many keep their sign.
    kept = rng.binomial(copies, 0.5, size=(permutations, len(copies)))
    exchanged = np.abs((2.0 * kept - copies) @ differences)
    return (int((exchanged >= found).sum()) + 1) / (permutations + 1), False
