"""How much accuracy lines, rooms and recorders take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subtone.acoustics import conditions as acoustics
from subtone.errors import UsageError, nearest
from subtone.evaluation import holm
from subtone.evaluation.findings import Cell, Findings, HeatMap, Measure, Table, rows_of
from subtone.studies.cells import Cell as WorkCell
from subtone.studies.cells import Earlier
from subtone.studies.conditions import Condition
from subtone.studies.context import Context, Made, Study
from subtone.studies.figures import (
    Examined,
    Resampled,
    decided,
    p_cell,
    paired_p,
    pooled_over,
)
from subtone.studies.hearing import Hearing
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.studies.systems import POOLED, Features, system_cell

CLEAN = "clean"
SYSTEMS = ("gap", "sap", "gap+sap")
_DETECTOR = "own"
STATISTICS = POOLED["gap+sap"]


class RobustnessOptions(StudyOptions):
    """Settings of the study.

    Parameters
    ----------
    conditions
        Names of :data:`subtone.acoustics.conditions.CONDITIONS`; null takes all that can be applied here.
    """

    conditions: list[str] | None = None


@dataclass(frozen=True)
class _Corpus:
    material: Material
    heard: Mapping[str, WorkCell]
    systems: Mapping[str, WorkCell]

    @property
    def cells(self) -> tuple[WorkCell, ...]:
        """Of its conditions, and of the systems on them."""
        return (*self.heard.values(), *self.systems.values())


def make(context: Context) -> Made:
    """Make the study."""
    options = context.options
    assert isinstance(options, RobustnessOptions)
    chosen, unavailable = choose(options.conditions)
    planned = [_plan(context, material, chosen) for material in context.gather()]
    whole, earlier, failed = context.run_planned(planned)
    return Made(_findings(context, whole, chosen, unavailable, earlier), failed)


def choose(names: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Return the conditions to measure, the clean one first, and those that cannot be applied here, with the reason.

    Raises
    ------
    UsageError
        If one is unknown, or was asked for and cannot be applied.
    """
    there = acoustics.available()
    for name in names or ():
        if name not in there:
            raise UsageError(f"conditions: no condition {name!r}; {nearest(name, there)}")
        if there[name] is not None:
            raise UsageError(f"conditions: {name!r} cannot be applied here: {there[name]}; leave it out")
    chosen = [CLEAN, *(name for name in names or there if name != CLEAN and there[name] is None)]
    return chosen, {name: why for name, why in there.items() if why is not None}


def _plan(context: Context, material: Material, chosen: Sequence[str]) -> _Corpus:
    hearing = Hearing(
        material, context.upstream, context.options, STATISTICS, {_DETECTOR: context.detector()}
    )
    heard = {name: hearing.cell(Condition("acoustic", name=name)) for name in chosen}
    systems = {
        system: system_cell(
            f"{material.name}/systems/{system}",
            material,
            Features(heard[CLEAN].name, _DETECTOR, POOLED[system]),
            {name: Features(cell.name, _DETECTOR, POOLED[system]) for name, cell in heard.items()},
            context.options,
        )
        for system in SYSTEMS
    }
    return _Corpus(material, heard, systems)


def _key(system: str, condition: str) -> str:
    return f"{system} | {condition}"


def _examined(one: _Corpus, chosen: Sequence[str], earlier: Earlier) -> Examined:
    answers = {
        _key(system, name): decided(earlier.array(cell.name, name))
        for system, cell in one.systems.items()
        for name in chosen
    }
    return Examined.of(one.material, answers)


def _ahead(
    examined: Sequence[Examined], found: Resampled, chosen: Sequence[str], options: StudyOptions
) -> dict[str, tuple[Measure, float]]:
    """Return by how much GAP ‖ SAP is ahead of GAP under each condition, and the p value, Holm over all of them."""
    raw = [
        paired_p(
            [one.pair([_key("gap", name)], [_key("gap+sap", name)]) for one in examined],
            permutations=options.permutations,
            seed=options.seed,
        )
        for name in chosen
    ]
    return {
        name: (found.of(lambda both, gap: both - gap, _key("gap+sap", name), _key("gap", name)), p)
        for name, p in zip(chosen, holm(raw), strict=True)
    }


def _findings(
    context: Context,
    whole: Sequence[_Corpus],
    chosen: Sequence[str],
    unavailable: Mapping[str, str],
    earlier: Earlier,
) -> Findings:
    options = context.options
    examined = [_examined(one, chosen, earlier) for one in whole]
    each = {
        one.material.name: found.resampled(resamples=options.resamples, seed=[options.seed, place])
        for place, (one, found) in enumerate(zip(whole, examined, strict=True))
    }
    scopes = {"mean of corpora": pooled_over(list(each.values())), **each} if len(each) > 1 else dict(each)
    first = next(iter(scopes))
    changed = [name for name in chosen if name != CLEAN]
    ahead = _ahead(examined, scopes[first], chosen, options)
    maps = HeatMap(
        "loss",
        "UA lost (points) by gap+sap",
        "what happened to the test clips",
        "corpus",
        tuple(acoustics.condition(name).title for name in changed),
        tuple(scopes),
        tuple(tuple(_lost(found, "gap+sap", name) for found in scopes.values()) for name in changed),
        "Against the same system on the clips as they are.",
    )
    return Findings(
        study="robustness",
        title="Robustness: what lines, rooms and recorders take",
        question="Trained on clips as they are: how much UA is lost when the test clips reach the model otherwise?",
        protocol=(
            f"{'; '.join(one.material.sentence() for one in whole)}. Upstream "
            f"{context.upstream.rstrip('/').split('/')[-1]}, {options.precision}. Classifiers of the recipe sap, "
            "trained on the clips as they are; only test clips are changed. Detector: "
            f"{options.detector.name}, on the changed clip."
        ),
        conclusions=_conclusions(first, scopes[first], changed, ahead),
        limits=(
            *context.taught([one.material for one in whole]),
            "Rooms are decaying noise, not recorded; conditions come one at a time, not together.",
            "The corpora at hand may be coded already; what a codec loses comes on top of that.",
            *(f"Not measured: {name} ({why})." for name, why in unavailable.items()),
        ),
        tables=(
            *(_table(scope, found, chosen) for scope, found in scopes.items()),
            _ahead_table(first, ahead),
        ),
        heat_maps=(maps,),
        settings={"upstream": context.upstream, **options.model_dump(mode="json")},
    )


def _lost(found: Resampled, system: str, name: str) -> Measure:
    return found.of(lambda clean, changed: clean - changed, _key(system, CLEAN), _key(system, name))


def _table(scope: str, found: Resampled, chosen: Sequence[str]) -> Table:
    rows: list[list[Cell]] = []
    for name in chosen:
        about = acoustics.condition(name)
        figures = [found.measure(_key(system, name)) for system in SYSTEMS]
        losses = [None if name == CLEAN else _lost(found, system, name) for system in SYSTEMS]
        rows.append([about.group, about.title, *figures, *losses])
    return Table(
        f"loss-{scope.replace(' ', '-')}",
        f"UA (%) and UA lost (points), {scope}",
        ("group", "what happened", *SYSTEMS, *(f"lost by {system}" for system in SYSTEMS)),
        rows_of(rows),
        "95 % intervals by resampling speakers and seeds; losses on the same resamples.",
    )


def _ahead_table(scope: str, ahead: Mapping[str, tuple[Measure, float]]) -> Table:
    rows: list[list[Cell]] = [
        [acoustics.condition(name).title, figure, p_cell(p)] for name, (figure, p) in ahead.items()
    ]
    return Table(
        "ahead",
        f"GAP ‖ SAP less GAP (points of UA), {scope}",
        ("what happened", "gap+sap less gap", f"p, Holm over {len(ahead)}"),
        rows_of(rows),
        "Paired tests: speakers of all corpora exchange the answers of the two.",
    )


def _conclusions(
    scope: str, found: Resampled, changed: Sequence[str], ahead: Mapping[str, tuple[Measure, float]]
) -> tuple[str, ...]:
    losses = {name: _lost(found, "gap+sap", name) for name in changed}
    ordered = sorted(losses, key=lambda name: -losses[name].value)
    titles = {name: acoustics.condition(name).title for name in changed}
    told = []
    harmful = [name for name in ordered if (losses[name].low or 0.0) > 0]
    harmless = [name for name in ordered if (losses[name].high or 0.0) < 2.0]
    if harmful:
        worst = "; ".join(f"{titles[name]}: {losses[name].text()}" for name in harmful[:5])
        told.append(f"{scope}: most is lost by GAP ‖ SAP (points of UA) to {worst}.")
    if harmless:
        names = ", ".join(titles[name] for name in harmless)
        told.append(f"{scope}: less than two points, interval included, are lost to: {names}.")
    for words, sign in (("ahead of", 1.0), ("behind", -1.0)):
        found_so = [
            f"{titles[name]} ({ahead[name][0].text()})"
            for name in changed
            if ahead[name][1] < 0.05 and sign * ahead[name][0].value > 0
        ]
        told.append(
            f"{scope}: GAP ‖ SAP is {words} GAP beyond chance (points of UA; Holm over {len(ahead)} conditions) under "
            f"{'; '.join(found_so) if found_so else 'none of them'}."
        )
    return tuple(told)


STUDY = Study(
    "robustness",
    "What do codecs, telephone lines, rooms, levels, clipping, speed and noise take?",
    RobustnessOptions,
    make,
)
