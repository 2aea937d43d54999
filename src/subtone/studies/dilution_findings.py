"""What the study of dilution found: tables, curves, and how far the aim for GAP ‖ SAP is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from subtone.evaluation.findings import Cell, Curves, Findings, Measure, Series, Table, rows_of
from subtone.studies.attentive import FIT, NETWORKS
from subtone.studies.conditions import SHARES, SNRS_DB, Condition
from subtone.studies.figures import Resampled, p_cell, p_words, pooled_over
from subtone.studies.systems import CUT_POOLED, POOLED

Training = Literal["clean", "diluted"]
TRAININGS: tuple[Training, ...] = ("clean", "diluted")
TRIMMED = Condition("trimmed")
#: At a quarter speech GAP ‖ SAP should lose at most so many percent of what GAP loses.
AIM = 100 / 3
_ALL = "all of these"
Speech = Literal["all", "a quarter"]


@dataclass(frozen=True)
class Contest:
    """Two systems that are tested against each other: is the first ahead of the second?"""

    first: str
    second: str
    training: Training
    speech: Speech


#: What is tested; p values are corrected for all of these.
CONTESTS: tuple[Contest, ...] = (
    *(
        Contest(first, second, training, "a quarter")
        for training in TRAININGS
        for first, second in (
            ("gap+sap", "gap"),
            ("sap", "gap+sap"),
            ("gap+sap-cut", "gap+sap"),
            ("gap+sap-cut", "gap-cut"),
        )
    ),
    Contest("gap+sap", "gap", "clean", "all"),
    Contest("sap", "gap", "clean", "all"),
)


def key(system: str, training: Training, condition: str) -> str:
    """Name of a system's answers under a condition."""
    return f"{system} | {training} | {condition}"


def findings_of(
    each: Mapping[str, Resampled],
    conditions: Sequence[Condition],
    tests: Mapping[Contest, float],
    *,
    networks: bool,
    protocol: str,
    limits: Sequence[str],
    settings: Mapping[str, Any],
) -> Findings:
    """Return what was found.

    Parameters
    ----------
    each
        Corpus → UA under the names of :func:`key`.
    conditions
        What was heard in the test, the trimmed clips among them.
    tests
        p value of each of `CONTESTS`, corrected.
    networks
        Whether systems that look at frames took part.
    protocol, limits, settings
        See :class:`subtone.evaluation.findings.Findings`.
    """
    scopes = dict(each)
    if len(each) > 1:
        scopes = {"mean of corpora": pooled_over(list(each.values())), **each}
    systems = [*POOLED, *CUT_POOLED, *(NETWORKS if networks else ())]
    tables: list[Table] = []
    for scope, found in scopes.items():
        short = scope.replace(" ", "-")
        for training in TRAININGS:
            tables.append(_ua_table(short, scope, training, found, systems, conditions))
        tables.append(_loss_table(short, scope, found, systems, conditions))
        tables.append(_share_table(short, scope, found, systems, conditions))
    first = next(iter(scopes))  # drawn; single corpora have tables
    return Findings(
        study="dilution",
        title="Dilution: what pooling over speech buys when clips hold less and less speech",
        question=(
            "Clips are cut to their speech and embedded in silence, room tone, noise and non-speech human sounds, so "
            "that speech is all, three quarters, half or a quarter of what is heard. How much accuracy does each "
            "pooling lose?"
        ),
        protocol=protocol,
        conclusions=_conclusions(first, scopes[first], conditions, tests),
        limits=(
            *limits,
            "Silence, tone and noise are added, not recorded; sounds are acted. Speakers do not speak louder in noise.",
            "Intervals resample speakers and training seeds. "
            + (
                f"Networks on frames have one seed and {FIT.epochs} epochs: their levels are not those of a network "
                "that was trained to its end, their losses tell more."
                if networks
                else ""
            ),
        ),
        tables=(*tables, _contest_table(first, scopes[first], conditions, tests)),
        curves=tuple(_curves(first.replace(" ", "-"), first, scopes[first], systems, conditions)),
        settings=settings,
    )


def _name_of(training: Training) -> str:
    return "trained clean" if training == "clean" else "trained diluted"


def _ua_table(
    short: str,
    scope: str,
    training: Training,
    found: Resampled,
    systems: Sequence[str],
    conditions: Sequence[Condition],
) -> Table:
    rows: list[list[Cell]] = [
        [one.words, *(found.measure(key(system, training, one.label)) for system in systems)]
        for one in conditions
    ]
    return Table(
        f"ua-{training}-{short}",
        f"UA (%), {scope}, {_name_of(training)}",
        ("heard in the test", *systems),
        rows_of(rows),
        "95 % intervals by resampling speakers and seeds; networks on frames have one seed, their intervals are of "
        "speakers alone.",
    )


def _quarter_rows(
    conditions: Sequence[Condition], figures: Callable[[Training, Sequence[str]], Sequence[Cell]]
) -> list[list[Cell]]:
    """One row a filler and training, of what is told of clips that are a quarter speech."""
    return [
        [group, _name_of(training), *figures(training, members)]
        for group, members in _groups(conditions).items()
        for training in TRAININGS
    ]


def _loss_table(
    short: str, scope: str, found: Resampled, systems: Sequence[str], conditions: Sequence[Condition]
) -> Table:
    """UA lost between clips that are all speech and those that are a quarter speech, mean over conditions."""
    rows = _quarter_rows(conditions, lambda *where: [_loss(found, system, *where) for system in systems])
    return Table(
        f"loss-{short}",
        f"UA lost (points) at 25 % speech, {scope}",
        ("embedded in", "training", *systems),
        rows_of(rows),
        "Against the same system on clips cut to their speech; mean over the levels of a filler.",
    )


def _share_table(
    short: str, scope: str, found: Resampled, systems: Sequence[str], conditions: Sequence[Condition]
) -> Table:
    """The same as shares of what GAP loses."""
    beside = [system for system in systems if system != "gap"]
    rows = _quarter_rows(conditions, lambda *where: [_share(found, system, *where) for system in beside])
    return Table(
        f"share-of-loss-{short}",
        f"UA lost at 25 % speech as a share of what GAP loses (%), {scope}",
        ("embedded in", "training", *beside),
        rows_of(rows),
        "Empty where GAP loses too little for a ratio. The aim for gap+sap: a third at most. Where GAP falls to chance "
        "it cannot lose more, and ratios come out higher than they would.",
        digits=0,
    )


def labels_of(speech: Speech, conditions: Sequence[Condition]) -> list[str]:
    """Return the conditions in which a clip is all speech, untouched, or a quarter of what is heard."""
    if speech == "all":
        return [TRIMMED.label]
    return [one.label for one in conditions if one.kind == "diluted" and one.share == 0.25]


def _groups(conditions: Sequence[Condition]) -> dict[str, list[str]]:
    """Return filler → labels of its conditions at a quarter of speech, and all of them together."""
    groups: dict[str, list[str]] = {}
    for one in conditions:
        if one.kind == "diluted" and one.share == 0.25:
            groups.setdefault(str(one.filler), []).append(one.label)
    return {**groups, _ALL: labels_of("a quarter", conditions)}


def _loss(found: Resampled, system: str, training: Training, members: Sequence[str]) -> Measure:
    return found.of(
        lambda clean, *diluted: clean - sum(diluted) / len(diluted),
        key(system, training, TRIMMED.label),
        *(key(system, training, label) for label in members),
    )


def _curves(
    short: str, scope: str, found: Resampled, systems: Sequence[str], conditions: Sequence[Condition]
) -> Iterator[Curves]:
    labels = {one.label for one in conditions}
    for training in TRAININGS:
        for filler, level in (("silence", None), ("room", None), ("noise", 10.0), ("sounds", 10.0)):
            points: list[tuple[float, str]] = []
            for share in SHARES:
                label = Condition("diluted", filler, share, level).label  # type: ignore[arg-type]
                label = TRIMMED.label if share == 1.0 and label not in labels else label
                if label in labels:
                    points.append((100 - 100 * share, label))
            if len(points) < 2:
                continue
            at = "" if level is None else f", {level:g} dB below the speech"
            yield Curves(
                f"share-{filler}-{training}-{short}",
                f"{scope}: embedded in {filler}{at}; {_name_of(training)}",
                "what is no speech in the clip (%)",
                "UA (%)",
                tuple(_series(found, system, training, points) for system in systems),
                "Bands: 95 % intervals by resampling speakers and seeds.",
            )
        for filler in ("noise", "sounds"):
            points = [
                (-snr, Condition("diluted", filler, 0.25, snr).label)  # type: ignore[arg-type]
                for snr in SNRS_DB
            ]
            if all(label in labels for _, label in points):
                yield Curves(
                    f"level-{filler}-{training}-{short}",
                    f"{scope}: a quarter speech in {filler}, by its level; {_name_of(training)}",
                    "its level against the speech (dB)",
                    "UA (%)",
                    tuple(_series(found, system, training, points) for system in systems),
                    "Bands: 95 % intervals by resampling speakers and seeds.",
                )


def _series(found: Resampled, system: str, training: Training, points: Sequence[tuple[float, str]]) -> Series:
    measures = [found.measure(key(system, training, label)) for _, label in points]
    return Series(
        system,
        tuple(x for x, _ in points),
        tuple(one.value for one in measures),
        tuple(one.low for one in measures),
        tuple(one.high for one in measures),
    )


_NAMES = {
    "gap": "GAP",
    "sap": "SAP",
    "gap+sap": "GAP ‖ SAP",
    "gap-cut": "GAP with the silence cut first",
    "gap+sap-cut": "GAP ‖ SAP with the silence cut first",
}


def _contest_table(
    scope: str, found: Resampled, conditions: Sequence[Condition], tests: Mapping[Contest, float]
) -> Table:
    rows: list[list[Cell]] = [
        [
            _NAMES[contest.first],
            _NAMES[contest.second],
            _name_of(contest.training),
            contest.speech,
            _ahead(found, contest, conditions),
            p_cell(p),
        ]
        for contest, p in tests.items()
    ]
    return Table(
        "contests",
        f"Paired tests, {scope}",
        (
            "first",
            "second",
            "training",
            "speech",
            "first less second (points of UA)",
            f"p, Holm over {len(tests)}",
        ),
        rows_of(rows),
        "A quarter speech: mean of all its conditions. Speakers of all corpora exchange the answers of the two.",
    )


def _conclusions(
    scope: str, found: Resampled, conditions: Sequence[Condition], tests: Mapping[Contest, float]
) -> tuple[str, ...]:
    members = _groups(conditions)[_ALL]
    told = []
    for training in TRAININGS:
        where = f"{scope}, {_name_of(training)}"
        lost = []
        for name, system in (
            ("GAP ‖ SAP", "gap+sap"),
            ("SAP alone", "sap"),
            ("GAP ‖ SAP with the silence cut first", "gap+sap-cut"),
            ("GAP with the silence cut first", "gap-cut"),
        ):
            share = _share(found, system, training, members)
            beside = "" if share is None else f" or {share.text(0)} % of that, the aim {_aim(share)}"
            lost.append(f"{name} {_loss(found, system, training, members).text()}{beside}")
        gap = _loss(found, "gap", training, members)
        told.append(
            f"{where}: at a quarter speech, mean of all conditions, GAP loses {gap.text()} points of UA; "
            f"{'; '.join(lost)}."
        )
    for contest, p in tests.items():
        ahead = _ahead(found, contest, conditions)
        verdict = "beyond chance" if p < 0.05 else "not told from chance"
        told.append(
            f"{scope}, {_name_of(contest.training)}, {contest.speech} speech: {_NAMES[contest.first]} less "
            f"{_NAMES[contest.second]} is {ahead.text()} points of UA, {verdict} "
            f"({p_words(p)}, Holm over {len(tests)})."
        )
    return tuple(told)


def _aim(share: Measure) -> str:
    """Whether at most a third of GAP's loss is lost: only an interval on one side of a third decides."""
    if share.high is not None and share.high <= AIM:
        return "(a third at most) met"
    if share.low is not None and share.low > AIM:
        return "(a third at most) missed"
    return "(a third at most) neither surely met nor missed"


def _ahead(found: Resampled, contest: Contest, conditions: Sequence[Condition]) -> Measure:
    """Points by which the first system is ahead of the second, mean over conditions."""
    labels = labels_of(contest.speech, conditions)
    count = len(labels)
    return found.of(
        lambda *values: (sum(values[:count]) - sum(values[count:])) / count,
        *(
            key(system, contest.training, label)
            for system in (contest.first, contest.second)
            for label in labels
        ),
    )


def _share(found: Resampled, system: str, training: Training, members: Sequence[str]) -> Measure | None:
    """Percent of GAP's loss that a system loses; None where GAP loses too little for a ratio."""
    gap = _loss(found, "gap", training, members)
    if gap.low is None or gap.low <= 1.0:
        return None
    names = [key(one, training, TRIMMED.label) for one in ("gap", system)]
    names += [key(one, training, label) for one in ("gap", system) for label in members]
    count = len(members)

    def ratio(gap_clean: float, own_clean: float, *rest: float) -> float:
        lost = gap_clean - sum(rest[:count]) / count
        return 100 * (own_clean - sum(rest[count:]) / count) / lost

    return found.of(ratio, *names)
