"""For whom a system works: its figures by gender, language, age and corpus, and how they spread over speakers.

Speakers are what is drawn anew for every interval here, as in :mod:`subtone.evaluation.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.errors import UsageError, nearest
from subtone.evaluation.answers import check_labels, predicted_classes
from subtone.evaluation.bootstrap import (
    IntervalUnit,
    Units,
    percentile_interval,
    resample_within,
    seed_weights,
    units_of,
    weighted_metric,
)
from subtone.evaluation.correction import holm
from subtone.evaluation.metrics import Codes, Floats, class_numbers, unweighted_accuracy, weighted_accuracy
from subtone.evaluation.spread import SpeakerSpread, spread_of

Attribute = Literal["gender", "language", "age", "corpus"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)

#: Name and lower end, in years, of the groups that ages are put into.
AGE_GROUPS: tuple[tuple[str, float], ...] = (("under 30", -math.inf), ("30–49", 30.0), ("50 and over", 50.0))

#: A slice of fewer speakers is given and marked, and no gap is taken to it.
ENOUGH_SPEAKERS = 3
PERMUTATIONS = 2000

#: Why there is no gap: fewer than two slices of speakers enough, or UA is the mean over other classes in each.
NoGap = Literal["few speakers", "classes differ"]

Interval = tuple[float, float]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    """One group of clips.

    Attributes
    ----------
    name
        E.g. ``"female"``.
    n
        Clips.
    speakers
        Heard in them; None where speakers are unknown.
    classes
        How many of the labels occur: UA is the mean recall of these.
    ua, ua_ci, wa, wa_ci
        0..1, mean over seeds; no interval (None) with a single speaker.
    few
        True with fewer than three speakers (clips, where speakers are unknown): too few to say anything of others.
    """

    name: str
    n: int
    speakers: int | None
    classes: int
    ua: float
    ua_ci: Interval | None
    wa: float
    wa_ci: Interval | None
    few: bool


@dataclass(frozen=True)
class Gap:
    """How far the worst slice is behind the best; slices of too few speakers are left aside.

    Attributes
    ----------
    best, worst
        Slices, by UA.
    ua
        Difference of their UA (0..1).
    ci
        Of the difference between these two. They were chosen for being far apart: with more than two slices the
        interval lies too high, and only ``p`` allows for the choice.
    p
        How often giving the speakers' groups out at random leaves best and worst as far apart, see also
        `Slices.corrected_p`. None where a speaker belongs to several slices, or speakers are unknown.
    """

    best: str
    worst: str
    ua: float
    ci: Interval
    p: float | None


@dataclass(frozen=True)
class Cut:
    """The clips by one attribute.

    Attributes
    ----------
    by
        The attribute.
    slices
        Two or more, by name; ages in their order.
    gap
        None unless two slices have speakers enough, and all of those hold the same classes.
    unknown
        Clips of which the corpus does not say; they are in no slice.
    no_gap
        Why there is none; None where there is.
    """

    by: Attribute
    slices: tuple[Slice, ...]
    gap: Gap | None
    unknown: int
    no_gap: NoGap | None = None


@dataclass(frozen=True)
class Slices:
    """One system's figures by group and by speaker.

    Attributes
    ----------
    cuts
        One an attribute in which the clips differ.
    spread
        Over speakers; None where they are unknown, or one.
    unit
        What was resampled. ``"clip"`` where speakers are unknown: such intervals say nothing of new speakers.
    confidence, resamples, seed
        Of the intervals.
    """

    cuts: tuple[Cut, ...]
    spread: SpeakerSpread | None
    unit: IntervalUnit
    confidence: float
    resamples: int
    seed: int

    def corrected_p(self) -> dict[Attribute, float]:
        """Attribute → p of its gap, where one was tested, corrected for all of them (see `subtone.evaluation.holm`)."""
        tested = {cut.by: cut.gap.p for cut in self.cuts if cut.gap is not None and cut.gap.p is not None}
        return dict(zip(tested, holm(list(tested.values())), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON object for ``metrics.json``; `from_dict` reads it back."""
        record = asdict(self)
        interval = {key: record.pop(key) for key in ("unit", "confidence", "resamples", "seed")}
        listed: dict[str, Any] = _lists(record)
        return {**listed, "interval": interval}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Slices:
        """Read back what `to_dict` wrote."""
        return cls(
            cuts=tuple(_cut_from(cut) for cut in record["cuts"]),
            spread=None if record["spread"] is None else SpeakerSpread.from_dict(record["spread"]),
            **record["interval"],
        )


def slices_of(
    truth: Any,
    answers: Any,
    labels: Sequence[str],
    table: pd.DataFrame,
    speakers: Sequence[Any] | None = None,
    *,
    by: Sequence[Attribute] = ATTRIBUTES,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Slices:
    """Score a system for each group of clips, and each speaker, by itself.

    Intervals are those of :func:`subtone.evaluation.evaluate`, with speakers drawn from those of their own groups; a
    speaker who is in several groups is drawn for all of them at once.

    Parameters
    ----------
    truth, answers, labels, speakers
        As in :func:`subtone.evaluation.evaluate`.
    table
        One row a clip; the columns ``gender``, ``language``, ``age`` (years) and ``corpus``, as far as they are there.
    by
        Attributes to look at. One in which all clips are alike, or that is known of one speaker only, gives no cut.
    seed, resamples, confidence
        Of the bootstrap.

    Returns
    -------
    Slices

    Raises
    ------
    UsageError
        If lengths disagree, or a label or attribute is unknown.

    Examples
    --------
    >>> table = pd.DataFrame({"gender": ["female"] * 6 + ["male"] * 6})
    >>> truth, answers = ["anger", "sadness"] * 6, ["anger", "sadness"] * 3 + ["anger"] * 6
    >>> found = slices_of(truth, answers, ["anger", "sadness"], table, list("aabbccddeeff"))
    >>> [(one.name, one.speakers, one.ua) for one in found.cuts[0].slices]
    [('female', 3, 1.0), ('male', 3, 0.5)]
    >>> found.cuts[0].gap.ua, found.spread.minimum
    (0.5, 0.5)
    """
    names = check_labels(labels)
    codes = class_numbers(truth, names, "truth")
    predictions = predicted_classes(answers, names, len(codes))  # (seeds, clips)
    if len(table) != len(codes):
        raise UsageError(f"a table of {len(table)} rows for {len(codes)} clips; give one a clip")
    if resamples < 1:
        raise UsageError(f"resamples = {resamples}; it must be 1 or more")
    for attribute in by:
        if attribute not in ATTRIBUTES:
            raise UsageError(f"no slices by {attribute!r}; {nearest(attribute, ATTRIBUTES)}")
    everyone = units_of(codes, predictions, len(names), speakers)
    known = speakers if everyone.unit == "speaker" else None
    draw = _Draw(len(names), seed, resamples, confidence)
    cuts = (_cut(attribute, codes, predictions, table, known, draw) for attribute in by)
    return Slices(
        cuts=tuple(cut for cut in cuts if cut is not None),
        spread=spread_of(everyone, seed=seed, resamples=resamples, confidence=confidence),
        unit=everyone.unit,
        confidence=float(confidence),
        resamples=int(resamples),
        seed=int(seed),
    )


def groups(table: pd.DataFrame, by: Attribute) -> npt.NDArray[np.object_]:
    """The group that each row belongs to, None where the table does not say.

    Examples
    --------
    >>> groups(pd.DataFrame({"age": [29.5, 30, None]}), "age").tolist()
    ['under 30', '30–49', None]
    """
    found = np.full(len(table), None, object)
    if by not in table:
        return found
    known = table[by].notna().to_numpy(bool)
    values = table[by].to_numpy(object)[known]
    if by == "age":
        starts = [start for _, start in AGE_GROUPS]
        at = np.searchsorted(starts, values.astype(np.float64), side="right") - 1
        found[known] = [AGE_GROUPS[place][0] for place in at]
    else:
        found[known] = [str(value) for value in values]
    return found


@dataclass(frozen=True)
class _Draw:
    classes: int
    seed: int
    resamples: int
    confidence: float

    def interval(self, values: Floats) -> Interval:
        return percentile_interval(values, self.confidence)


def _cut(
    by: Attribute,
    truth: Codes,
    predictions: Codes,
    table: pd.DataFrame,
    speakers: Sequence[Any] | None,
    draw: _Draw,
) -> Cut | None:
    group = groups(table, by)
    known = np.array([one is not None for one in group], bool)
    names = sorted(set(group[known]), key=_order)
    if len(names) < 2:
        return None
    who = None if speakers is None else np.asarray(speakers, object)[known]
    if who is not None and len(set(who)) < 2:
        return None
    # A class of a slice counts as a class of its own: one table of hits then serves all slices.
    place = np.array([names.index(one) for one in group[known]]) * draw.classes
    units = units_of(
        place + truth[known], place + predictions[:, known], len(names) * draw.classes, who
    )  # classes: (slices * classes)
    within = units.support.reshape(len(units.support), len(names), -1).sum(-1) > 0  # (units, slices)
    _, strata = np.unique(within, axis=0, return_inverse=True)
    counts = units.copies @ within  # (slices,) units in each
    rng = np.random.default_rng(draw.seed)
    drawn, drawn_support = resample_within(units, strata.reshape(-1), draw.resamples, rng)
    weights = seed_weights(len(predictions), draw.resamples, rng)
    shape = (len(names), draw.classes)
    drawn = drawn.reshape(*drawn.shape[:2], *shape)  # (resamples, seeds, slices, classes)
    drawn_support = drawn_support.reshape(-1, *shape)
    ua = weighted_metric("ua", drawn, drawn_support, weights)  # (resamples, slices)
    wa = weighted_metric("wa", drawn, drawn_support, weights)
    hits, support = units.totals()
    hits, support = hits.mean(0).reshape(shape), support.reshape(shape)
    found = tuple(
        Slice(
            name=name,
            n=int(support[i].sum()),
            speakers=int(counts[i]) if units.unit == "speaker" else None,
            classes=int((support[i] > 0).sum()),
            ua=float(unweighted_accuracy(hits[i], support[i])),
            ua_ci=draw.interval(ua[:, i]) if counts[i] > 1 else None,
            wa=float(weighted_accuracy(hits[i], support[i])),
            wa_ci=draw.interval(wa[:, i]) if counts[i] > 1 else None,
            few=bool(counts[i] < ENOUGH_SPEAKERS),
        )
        for i, name in enumerate(names)
    )
    gap, no_gap = _gap(found, support > 0, ua, units, within, draw)
    return Cut(by, found, gap, int((~known).sum()), no_gap)


def _order(name: str) -> tuple[int, str]:
    ages = [group for group, _ in AGE_GROUPS]
    return (ages.index(name) if name in ages else len(ages), name)


def _gap(
    slices: Sequence[Slice], held: Bools, ua: Floats, units: Units, within: Bools, draw: _Draw
) -> tuple[Gap | None, NoGap | None]:
    """The gap, or why there is none; ``held`` is ``(slices, classes)``, ``within`` ``(units, slices)``."""
    enough = [i for i, one in enumerate(slices) if not one.few]
    if len(enough) < 2:
        return None, "few speakers"
    if (held[enough] != held[enough[0]]).any():
        return None, "classes differ"
    best = max(enough, key=lambda i: slices[i].ua)
    worst = min(reversed(enough), key=lambda i: slices[i].ua)  # of equals another than the best
    found = slices[best].ua - slices[worst].ua
    p = None
    if units.unit == "speaker" and (within.sum(1) == 1).all():
        p = _p_of_groups(found, units, within[:, enough], draw)
    ci = draw.interval(ua[:, best] - ua[:, worst])
    return Gap(slices[best].name, slices[worst].name, found, ci, p), None


def _p_of_groups(found: float, units: Units, within: Bools, draw: _Draw) -> float:
    """Give speakers' groups out at random; the groups keep their sizes. ``within`` is ``(units, slices)``."""
    rows = np.repeat(np.arange(len(within)), units.copies)
    rows = rows[within[rows].any(1)]
    group = within[rows].argmax(1)  # (speakers,)
    # A speaker's own clips, whatever slice they were counted in.
    support = units.support[rows].reshape(len(rows), -1, draw.classes).sum(1)
    hits = units.hits[rows].mean(1).reshape(len(rows), -1, draw.classes).sum(1)
    rng = np.random.default_rng([draw.seed, 1])
    dealt = rng.permuted(np.tile(group, (PERMUTATIONS, 1)), axis=1)  # (permutations, speakers)
    each = []
    for number in range(within.shape[1]):
        mine = (dealt == number).astype(np.float64)
        each.append(unweighted_accuracy(mine @ hits, mine @ support))
    gaps = np.max(each, axis=0) - np.min(each, axis=0)
    return (int((gaps >= found - 1e-12).sum()) + 1) / (PERMUTATIONS + 1)


def _lists(value: Any) -> Any:
    """The same with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _lists(entry) for key, entry in value.items()}
    return [_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _cut_from(record: Mapping[str, Any]) -> Cut:
    gap, no_gap = record["gap"], record.get("no_gap")
    slices = tuple(
        Slice(**{**one, "ua_ci": _pair(one["ua_ci"]), "wa_ci": _pair(one["wa_ci"])})
        for one in record["slices"]
    )
    if "no_gap" not in record:  # an older result, which held slices of different classes against each other
        held = [one.classes for one in slices if not one.few]
        no_gap = "few speakers" if len(held) < 2 else "classes differ" if len(set(held)) > 1 else None
    return Cut(
        by=record["by"],
        slices=slices,
        gap=None if gap is None or no_gap else Gap(**{**gap, "ci": (gap["ci"][0], gap["ci"][1])}),
        unknown=record["unknown"],
        no_gap=no_gap,
    )


def _pair(ends: Sequence[float] | None) -> Interval | None:
    return None if ends is None else (ends[0], ends[1])
