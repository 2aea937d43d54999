"""What pooling over speech buys when clips hold more and more that is no speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from subtone.evaluation import holm
from subtone.studies.attentive import NETWORKS, network_cell
from subtone.studies.cells import Cell, Earlier
from subtone.studies.conditions import Condition, dilutions
from subtone.studies.context import Context, Made, Study
from subtone.studies.dilution_findings import (
    CONTESTS,
    TRAININGS,
    TRIMMED,
    Contest,
    Training,
    findings_of,
    key,
    labels_of,
)
from subtone.studies.figures import Examined, decided, paired_p
from subtone.studies.hearing import Hearing, check_memory, sounds_cell
from subtone.studies.material import Material
from subtone.studies.options import SoundsOptions, StudyOptions
from subtone.studies.systems import CUT_POOLED, POOLED, Features, system_cell

MIXED = Condition("mixed")
_DETECTOR = "own"
#: Statistics that all pooled systems look at.
STATISTICS = tuple(dict.fromkeys(name for names in POOLED.values() for name in names))


class DilutionOptions(SoundsOptions):
    """Settings of the study.

    Parameters
    ----------
    networks
        Whether systems that look at frames (attentive pooling, SAP with attention) take part.
    cut_s
        Longest silence that is left in clips for the systems called ``…-cut``, whose upstream does not hear the rest.
    """

    networks: bool = True
    cut_s: float = Field(default=0.3, gt=0)


@dataclass(frozen=True)
class _Corpus:
    """The cells of one corpus, and what is in them."""

    material: Material
    conditions: tuple[Condition, ...]
    cells: tuple[Cell, ...]
    #: (system, training) → condition → (cell, array)
    answers: Mapping[tuple[str, Training], Mapping[str, list[tuple[str, str]]]]


def make(context: Context) -> Made:
    """Make the study."""
    options = context.options
    assert isinstance(options, DilutionOptions)
    basis = [] if options.sounds is None else [sounds_cell(options.sounds, options.seed)]
    planned = [_plan(context, options, material) for material in context.gather()]
    whole, earlier, failed = context.run_planned(planned, basis)
    conditions, examined = whole[0].conditions, [_examined(one, earlier) for one in whole]
    findings = findings_of(
        {
            one.material.name: found.resampled(resamples=options.resamples, seed=[options.seed, place])
            for place, (one, found) in enumerate(zip(whole, examined, strict=True))
        },
        conditions,
        _tests(examined, conditions, options),
        networks=options.networks,
        protocol=_protocol(context, options, whole),
        limits=context.taught([one.material for one in whole]),
        settings={"upstream": context.upstream, **options.model_dump(mode="json")},
    )
    return Made(findings, failed)


def _plan(context: Context, options: DilutionOptions, material: Material) -> _Corpus:
    if options.networks:
        check_memory(context.upstream, material.seconds * MIXED.length)
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
    learned: dict[Training, Cell] = {"clean": clean, "diluted": diluted}
    networks = list(_networks(context, material, learned)) if options.networks else []
    judges = [cell.name for _, _, cell in networks]
    heard = {one.label: hearing.cell(one, judges=judges) for one in conditions}
    shorter = replace(hearing, statistics=POOLED["gap+sap"], cut_s=options.cut_s)
    learned_cut: dict[Training, Cell] = {
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
    context: Context, material: Material, learned: Mapping[Training, Cell]
) -> Iterator[tuple[str, Training, Cell]]:
    """Yield a network for each fold, system and training; one seed, since each takes minutes."""
    for training, frames in learned.items():
        for system in NETWORKS:
            for number, fold in enumerate(material.split.folds):  # whose names may be anything
                name = f"{material.name}/networks/{system}-{training}-{number}"
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
                        name,
                    ),
                )


def _examined(one: _Corpus, earlier: Earlier) -> Examined:
    answers = {
        key(system, training, label): decided(_joined(places, earlier))
        for (system, training), by_condition in one.answers.items()
        for label, places in by_condition.items()
    }
    return Examined.of(one.material, answers)


def _joined(places: Sequence[tuple[str, str]], earlier: Earlier) -> npt.NDArray[np.floating]:
    """Return the scores ``(seeds, clips, classes)``: of one array, or of several that each hold some of the clips."""
    logits = [earlier.array(cell, array) for cell, array in places]
    joined = logits[0]
    for more in logits[1:]:
        joined = np.where(np.isnan(joined), more, joined)
    found: npt.NDArray[np.floating] = joined if joined.ndim == 3 else joined[None]
    return found


def _tests(
    examined: Sequence[Examined], conditions: Sequence[Condition], options: StudyOptions
) -> dict[Contest, float]:
    """Return the p value of each contest, Holm over all of them."""

    def named(system: str, contest: Contest) -> list[str]:
        return [key(system, contest.training, label) for label in labels_of(contest.speech, conditions)]

    raw = [
        paired_p(
            [one.pair(named(contest.second, contest), named(contest.first, contest)) for one in examined],
            permutations=options.permutations,
            seed=options.seed,
        )
        for contest in CONTESTS
    ]
    return dict(zip(CONTESTS, holm(raw), strict=True))


def _protocol(context: Context, options: DilutionOptions, whole: Sequence[_Corpus]) -> str:
    corpora = "; ".join(one.material.sentence() for one in whole)
    return (
        f"{corpora}. Upstream {context.upstream.rstrip('/').split('/')[-1]}, {options.precision}. Classifiers of the "
        "recipe sap on mean and deviation of every layer; networks on frames learn a mix of layers. Detector: "
        f"{options.detector.name}. 'clean' learned from clips cut to their speech, 'diluted' from the same clips, each "
        "in one dilution drawn for it, with sounds that no test hears. '…-cut' shortens what the detector calls "
        f"silence to {options.cut_s:g} s before the upstream hears the clip. Test speakers are in no training."
    )


STUDY = Study(
    "dilution",
    "What does pooling over speech buy when clips hold silence, noise and other sounds?",
    DilutionOptions,
    make,
)
