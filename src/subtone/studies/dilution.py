"""What pooling over speech buys when clips hold more and more that is no speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from subtone.errors import UsageError
from subtone.evaluation.findings import Cell, Curves, Findings, Measure, Series, Table, rows_of
from subtone.studies.attentive import FIT, NETWORKS, network_cell
from subtone.studies.cells import Cell as WorkCell
from subtone.studies.cells import Earlier
from subtone.studies.conditions import SHARES, SNRS_DB, Condition, dilutions
from subtone.studies.context import Context, Made, Study, failures
from subtone.studies.encode import Hearing, sounds_cell
from subtone.studies.figures import Resampled, pooled_over, resampled_ua, without_condition
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.studies.systems import CUT_POOLED, POOLED, Features, system_cell

Training = Literal["clean", "diluted"]
TRAININGS: tuple[Training, ...] = ("clean", "diluted")

_ALL = "all of these"
TRIMMED, MIXED = Condition("trimmed"), Condition("mixed")
_DETECTOR = "own"
#: Statistics that all pooled systems look at.
STATISTICS = tuple(dict.fromkeys(name for names in POOLED.values() for name in names))


class DilutionOptions(StudyOptions):
    """Settings of the study.

    Parameters
    ----------
    sounds
        Folder of non-speech human sounds, one kind in each folder below; null leaves that filler away.
    networks
        Whether systems that look at frames (attentive pooling, SAP with attention) take part.
    cut_s
        Longest silence that is left in clips for the systems called ``…-cut``, whose upstream does not hear the rest.
    """

    sounds: str | None = None
    networks: bool = True
    cut_s: float = Field(default=0.3, gt=0)


@dataclass(frozen=True)
class _Corpus:
    """The cells of one corpus, and what is in them."""

    material: Material
    conditions: tuple[Condition, ...]
    cells: tuple[WorkCell, ...]
    #: (system, training) → condition → (cell, array)
    answers: Mapping[tuple[str, Training], Mapping[str, list[tuple[str, str]]]]


def make(context: Context) -> Made:
    """Make the study."""
    options = context.options
    assert isinstance(options, DilutionOptions)
    materials = context.gather()
    cells = [one.waves for one in materials]
    if options.sounds is not None:
        cells.append(sounds_cell(options.sounds, options.seed))
    planned = [_plan(context, options, material) for material in materials]
    for one in planned:
        cells += one.cells
    earlier, missing = context.run(cells)
    bad = {one.cell for one in missing}
    whole = [one for one in planned if not bad & {cell.name for cell in one.cells}]
    if not whole:
        raise UsageError(f"no corpus could be finished; the first: {missing[0].cell}: {missing[0].message}")
    return Made(_findings(context, options, whole, earlier), failures(materials, missing))


def _plan(context: Context, options: DilutionOptions, material: Material) -> _Corpus:
    conditions = [TRIMMED, *(one for one in dilutions() if one.filler != "sounds" or options.sounds)]
    hearing = Hearing(
        material,
        context.upstream,
        options,
        STATISTICS,
        {_DETECTOR: context.detector()},
        options.sounds is not None,
    )
    # What is learned from: the trimmed clips, and the same clips each in a dilution drawn for it.
    clean = hearing.cell(TRIMMED, keep_frames=options.networks, prefix="learned")
    diluted = hearing.cell(MIXED, keep_frames=options.networks, prefix="learned", rehearsal=True)
    learned: dict[Training, WorkCell] = {"clean": clean, "diluted": diluted}
    networks = list(_networks(context, material, learned)) if options.networks else []
    judges = [cell.name for _, _, cell in networks]
    heard = {one.label: hearing.cell(one, judges=judges) for one in conditions}
    shorter = replace(hearing, statistics=POOLED["gap+sap"], cut_s=options.cut_s)
    learned_cut: dict[Training, WorkCell] = {
        "clean": shorter.cell(TRIMMED, prefix="learned-cut"),
        "diluted": shorter.cell(MIXED, prefix="learned-cut", rehearsal=True),
    }
    heard_cut = {one.label: shorter.cell(one, prefix="cut") for one in conditions}
    cells = [clean, diluted, *(cell for _, _, cell in networks), *heard.values()]
    cells += [*learned_cut.values(), *heard_cut.values()]
    answers: dict[tuple[str, Training], Mapping[str, list[tuple[str, str]]]] = {}
    for training in TRAININGS:
        for system, statistics in {**POOLED, **CUT_POOLED}.items():
            own, tests = (learned_cut, heard_cut) if system in CUT_POOLED else (learned, heard)
            trained = system_cell(
                f"{material.name}/systems/{system}-{training}",
                material,
                Features(own[training].name, _DETECTOR, statistics),
                {label: Features(one.name, _DETECTOR, statistics) for label, one in tests.items()},
                options,
            )
            cells.append(trained)
            answers[system, training] = {label: [(trained.name, label)] for label in tests}
    for system, training, _ in networks:
        numbers = [i for i, (s, t, _) in enumerate(networks) if (s, t) == (system, training)]
        answers[system, training] = {
            label: [(one.name, f"judges/{i}") for i in numbers] for label, one in heard.items()
        }
    return _Corpus(material, tuple(conditions), tuple(cells), answers)


def _networks(
    context: Context, material: Material, learned: Mapping[Training, WorkCell]
) -> Iterator[tuple[str, Training, WorkCell]]:
    """Yield a network for each fold, system and training; one seed, since each takes minutes."""
    for training, frames in learned.items():
        for system in NETWORKS:
            for fold in material.split.folds:
                name = f"{material.name}/networks/{system}-{training}-{fold.name}"
                yield (
                    system,
                    training,
                    network_cell(
                        system,
                        frames,
                        context.upstream,
                        material.targets,
                        fold,
                        len(material.classes),
                        context.options.seeds[0],
                        name.replace(" ", "_"),
                    ),
                )


def key(system: str, training: Training, condition: str) -> str:
    """Name of a system's answers under a condition."""
    return f"{system} | {training} | {condition}"


def _resampled(one: _Corpus, options: StudyOptions, earlier: Earlier) -> Resampled:
    answers: dict[str, npt.NDArray[np.int64]] = {}
    for (system, training), by_condition in one.answers.items():
        for label, places in by_condition.items():
            answers[key(system, training, label)] = _decided(places, earlier)
    material = one.material
    return resampled_ua(
        material.targets,
        answers,
        len(material.classes),
        material.speakers,
        resamples=options.resamples,
        seed=options.seed,
        model_of=without_condition,
    )


def _decided(places: Sequence[tuple[str, str]], earlier: Earlier) -> npt.NDArray[np.int64]:
    """Return the answers ``(seeds, clips)``: of one array, or of several that each hold some of the clips."""
    logits = [earlier.array(cell, array) for cell, array in places]
    if len(logits) == 1:
        joined = logits[0]
    else:
        joined = np.where(np.isnan(logits[0]), 0, logits[0])
        for more in logits[1:]:
            joined = joined + np.where(np.isnan(more), 0, more)
    joined = joined if joined.ndim == 3 else joined[None]  # (seeds, clips, classes)
    chosen: npt.NDArray[np.int64] = joined.argmax(-1).astype(np.int64)
    return chosen


def _findings(
    context: Context, options: DilutionOptions, whole: Sequence[_Corpus], earlier: Earlier
) -> Findings:
    each = {one.material.name: _resampled(one, options, earlier) for one in whole}
    scopes = dict(each)
    if len(each) > 1:
        scopes = {"mean of corpora": pooled_over(list(each.values())), **each}
    systems = [*POOLED, *CUT_POOLED, *(NETWORKS if options.networks else ())]
    conditions = whole[0].conditions
    tables: list[Table] = []
    curves: list[Curves] = []
    for scope, found in scopes.items():
        short = scope.replace(" ", "-")
        for training in TRAININGS:
            tables.append(_ua_table(short, scope, training, found, systems, conditions))
        tables.append(_loss_table(short, scope, found, systems, conditions))
        curves += _curves(short, scope, found, systems, conditions)
    first = next(iter(scopes))
    return Findings(
        study="dilution",
        title="Dilution: what pooling over speech buys when clips hold less and less speech",
        question=(
            "Clips are cut to their speech and embedded in silence, room tone, noise and non-speech human sounds, so "
            "that speech is all, three quarters, half or a quarter of what is heard. How much accuracy does each "
            "pooling lose?"
        ),
        protocol=_protocol(context, options, whole),
        conclusions=_conclusions(first, scopes[first], conditions, each),
        limits=(
            "Silence, tone and noise are added, not recorded; sounds are acted. Speakers do not speak louder in noise.",
            "Intervals resample speakers and training seeds. "
            + (
                f"Networks on frames have one seed and {FIT.epochs} epochs: their levels are not those of a network "
                "that was trained to its end, their losses tell more."
                if options.networks
                else ""
            ),
        ),
        tables=tuple(tables),
        curves=tuple(curves),
        settings={"upstream": context.upstream, **options.model_dump(mode="json")},
    )


def _protocol(context: Context, options: DilutionOptions, whole: Sequence[_Corpus]) -> str:
    corpora = "; ".join(one.material.sentence() for one in whole)
    return (
        f"{corpora}. Upstream {context.upstream.rstrip('/').split('/')[-1]}, {options.precision}. Classifiers of the "
        "recipe sap on mean and deviation of every layer; networks on frames learn a mix of layers. Detector: "
        f"{options.detector.name}. 'clean' learned from clips cut to their speech, 'diluted' from the same clips, each "
        "in one dilution drawn for it, with sounds that no test hears. '…-cut' shortens what the detector calls "
        f"silence to {options.cut_s:g} s before the upstream hears the clip. Test speakers are in no training."
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
        "95 % intervals by resampling speakers and seeds.",
    )


def _loss_table(
    short: str, scope: str, found: Resampled, systems: Sequence[str], conditions: Sequence[Condition]
) -> Table:
    """UA lost between clips that are all speech and those that are a quarter speech, mean over conditions."""
    rows: list[list[Cell]] = []
    for group, members in _groups(conditions).items():
        for training in TRAININGS:
            rows.append(
                [group, _name_of(training), *(_loss(found, system, training, members) for system in systems)]
            )
    return Table(
        f"loss-{short}",
        f"UA lost (points) at 25 % speech, {scope}",
        ("embedded in", "training", *systems),
        rows_of(rows),
        "Against the same system on clips cut to their speech; mean over the levels of a filler.",
    )


def _groups(conditions: Sequence[Condition]) -> dict[str, list[str]]:
    """Return filler → labels of its conditions at a quarter of speech, and all of them together."""
    quarter = [one for one in conditions if one.kind == "diluted" and one.share == 0.25]
    groups: dict[str, list[str]] = {}
    for one in quarter:
        groups.setdefault(str(one.filler), []).append(one.label)
    return {**groups, _ALL: [one.label for one in quarter]}


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


def _conclusions(
    scope: str, found: Resampled, conditions: Sequence[Condition], each: Mapping[str, Resampled]
) -> tuple[str, ...]:
    groups = _groups(conditions)
    told = []
    for training in TRAININGS:
        where = f"{scope}, {_name_of(training)}"
        for group, members in reversed(groups.items()):
            gap = _loss(found, "gap", training, members)
            others = [
                f"{name} {_loss(found, system, training, members).text()}{_share(found, system, training, members)}"
                for name, system in (
                    ("GAP ‖ SAP", "gap+sap"),
                    ("SAP alone", "sap"),
                    ("GAP ‖ SAP with the silence cut first", "gap+sap-cut"),
                    ("GAP with the silence cut first", "gap-cut"),
                )
            ]
            told.append(
                f"{where}, a quarter speech in {group}: GAP loses {gap.text()} points of UA, {', '.join(others)}."
            )
        members = groups[_ALL]
        for name, first, second in (
            ("GAP ‖ SAP less GAP", "gap+sap", "gap"),
            ("SAP less GAP ‖ SAP", "sap", "gap+sap"),
            ("GAP ‖ SAP less GAP, the silence cut first in both", "gap+sap-cut", "gap-cut"),
        ):
            ahead = _ahead(found, first, second, training, members)
            told.append(
                f"{where}, a quarter speech, mean of all fillers: {name} is {ahead.text()} points of UA."
            )
    for name, one in each.items():
        clean = _ahead(one, "gap+sap", "gap", "clean", [TRIMMED.label])
        told.append(f"{name}, clips that are all speech: GAP ‖ SAP less GAP is {clean.text()} points of UA.")
    return tuple(told)


def _ahead(found: Resampled, first: str, second: str, training: Training, members: Sequence[str]) -> Measure:
    """Points by which one system is ahead of another, mean over conditions."""
    count = len(members)
    return found.of(
        lambda *values: (sum(values[:count]) - sum(values[count:])) / count,
        *(key(system, training, label) for system in (first, second) for label in members),
    )


def _share(found: Resampled, system: str, training: Training, members: Sequence[str]) -> str:
    """Say which share of GAP's loss a system loses, where there is a loss to speak of, and whether the aim is met."""
    gap = _loss(found, "gap", training, members)
    if gap.low is None or gap.low <= 1.0:
        return ""
    names = [key(one, training, TRIMMED.label) for one in ("gap", system)]
    names += [key(one, training, label) for one in ("gap", system) for label in members]
    count = len(members)

    def ratio(gap_clean: float, own_clean: float, *rest: float) -> float:
        lost = gap_clean - sum(rest[:count]) / count
        return 100 * (own_clean - sum(rest[count:]) / count) / lost

    share = found.of(ratio, *names)
    aim = "at most a third, the aim" if share.value <= 100 / 3 else "more than a third, the aim"
    return f" ({share.text(0)} % of that: {aim})"


STUDY = Study(
    "dilution",
    "What does pooling over speech buy when clips hold silence, noise and other sounds?",
    DilutionOptions,
    make,
)
