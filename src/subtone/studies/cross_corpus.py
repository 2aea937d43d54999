"""What a classifier that was taught on one corpus is worth on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone import corpora as corpora_room
from subtone import upstreams
from subtone.corpora import EMOTIONS
from subtone.errors import UsageError
from subtone.evaluation.comparison import Comparison, corrected
from subtone.evaluation.findings import Findings
from subtone.studies.cells import Cell as WorkCell
from subtone.studies.cells import Earlier
from subtone.studies.conditions import Condition
from subtone.studies.context import Context, Made, Study, failures
from subtone.studies.cross_cells import (
    ADJUSTMENTS,
    ASSUMED,
    VARIANTS,
    Source,
    Variant,
    cross_fold,
    source,
    taught_cell,
)
from subtone.studies.cross_figures import OTHERS, Answers, Scores, Setting, System
from subtone.studies.cross_findings import Found, Tested, conclusions, heat_maps, tables
from subtone.studies.hearing import Hearing
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.studies.systems import POOLED
from subtone.training.heard import taught_on

POOLINGS = ("gap", "gap+sap")
_DETECTOR = "own"
_STATISTICS = POOLED["gap+sap"]


@dataclass(frozen=True)
class _Taught:
    """A cell, who taught its classifiers, and whom they answer."""

    cell: WorkCell
    pooling: str
    variants: tuple[Variant, ...]
    teacher: str
    tested: tuple[str, ...]


def make(context: Context) -> Made:
    """Make the study.

    Raises
    ------
    UsageError
        If there are fewer than two corpora, or they have fewer than two emotions in common.
    """
    context = replace(context, options=with_common_classes(context))
    options = context.options
    materials = context.gather()
    for one in materials:
        if one.classes != tuple(options.classes or ()):
            lacking = sorted(set(options.classes or ()) - set(one.classes))
            raise UsageError(
                f"corpus {one.name!r}: no clip of {lacking[0]!r} is left; thin it less (every), or leave the class out"
            )
    heard = [_heard(context, one) for one in materials]
    basis = [*(one.waves for one in materials), *heard]
    _, lost = context.run(basis)
    bad = {one.cell for one in lost}
    sources = [
        source(one, cell, options.seed)
        for one, cell in zip(materials, heard, strict=True)
        if cell.name not in bad
    ]
    if len(sources) < 2:
        raise UsageError(
            f"only {len(sources)} of {len(materials)} corpora could be heard, two are needed; the first that could "
            f"not: {lost[0].cell}: {lost[0].message}"
        )
    taught = plan(sources, options)
    cells = [cell for cell in basis if cell.name not in bad] + [one.cell for one in taught]
    earlier, missing = context.run(cells)
    gone = {one.cell for one in missing}
    there = [one for one in taught if one.cell.name not in gone]
    if not there:
        raise UsageError(
            f"no classifier could be trained; the first: {missing[0].cell}: {missing[0].message}"
        )
    used = [one.material for one in sources]
    return Made(_findings(context, used, there, earlier), failures(materials, [*lost, *missing]))


def with_common_classes(context: Context) -> StudyOptions:
    """Return the options with the emotions that all corpora have: one set, so that all figures compare.

    Raises
    ------
    UsageError
        If there are fewer than two corpora or common emotions, or a corpus lacks one that the options name.
    """
    options = context.options
    if len(context.corpora) < 2:
        raise UsageError("cross-corpus: two or more corpora are needed; pass --corpus NAME=PATH for each")
    have: dict[str, set[str]] = {}
    for name, path in context.corpora.items():
        found = corpora_room.read(name, path, **options.reading_of(name))["emotion"].dropna()
        have[name] = {options.merges.get(str(one), str(one)) for one in found.unique()}
    if options.classes is not None:
        for name, emotions in have.items():
            lacking = [one for one in options.classes if one not in emotions]
            if lacking:
                raise UsageError(
                    f"classes: corpus {name!r} has no {lacking[0]!r} (it has {', '.join(sorted(emotions))}), but all "
                    "corpora must have all classes; leave the class or the corpus out, or set merges"
                )
        return options
    common = [one for one in EMOTIONS if all(one in emotions for emotions in have.values())]
    if len(common) < 2:
        each = "; ".join(f"{name}: {', '.join(sorted(emotions))}" for name, emotions in have.items())
        raise UsageError(
            f"cross-corpus: the corpora have {len(common)} emotions in common, two are needed ({each}); leave a corpus "
            "out, or set merges"
        )
    return options.model_copy(update={"classes": common})


def _heard(context: Context, material: Material) -> WorkCell:
    detectors = {_DETECTOR: context.detector()}
    hearing = Hearing(material, context.upstream, context.options, _STATISTICS, detectors)
    return hearing.cell(Condition("plain"))


def plan(sources: Sequence[Source], options: StudyOptions) -> list[_Taught]:
    """Return the cells of all classifiers: within each corpus, from each to the others, from all others to each.

    Within one corpus both variants are the same, since training standardises in any case.
    """
    taught = []
    names = tuple(one.name for one in sources)
    for pooling in POOLINGS:
        for one in sources:
            cell = taught_cell(
                f"{one.name}/within/{pooling}",
                [one],
                one.material.split.folds,
                _DETECTOR,
                POOLED[pooling],
                "raw",
                options,
            )
            taught.append(_Taught(cell, pooling, VARIANTS, one.name, (one.name,)))
        for variant in VARIANTS:
            for place, one in enumerate(sources):
                others = [i for i in range(len(sources)) if i != place]
                routes = [("to-others", [place], one.name, tuple(n for n in names if n != one.name))]
                if len(sources) > 2:
                    routes.append(("from-others", others, OTHERS, (one.name,)))
                for route, teachers, teacher, tested in routes:
                    cell = taught_cell(
                        f"{one.name}/{route}/{pooling}-{variant}",
                        sources,
                        [cross_fold(sources, teachers, options.seed)],
                        _DETECTOR,
                        POOLED[pooling],
                        variant,
                        options,
                    )
                    taught.append(_Taught(cell, pooling, (variant,), teacher, tested))
    return taught


def _findings(
    context: Context, materials: Sequence[Material], taught: Sequence[_Taught], earlier: Earlier
) -> Findings:
    answers = Answers(materials, _answers(materials, taught, earlier), context.options)
    found = Found(
        answers,
        {metric: Scores.of(answers, metric, POOLINGS, VARIANTS) for metric in ("ua", "wa")},
        _tests(answers),
        _off(taught, earlier),
    )
    heard = taught_on(
        [upstreams.load(context.upstream)], pd.concat([one.split.table for one in materials])
    ).removeprefix("; ")
    unfinished = sum(int(earlier[one.cell.name].values["unfinished"]) for one in taught)
    return Findings(
        study="cross-corpus",
        title="Cross-corpus: what a classifier that was taught on one corpus is worth on another",
        question=(
            "Taught on each corpus and tested on each other one: how much is left of what is reached within a corpus, "
            "and do all other corpora together, SAP, standardising each corpus by itself or adjusted class shares help?"
        ),
        protocol=_protocol(context, materials, heard),
        conclusions=conclusions(found),
        limits=(
            *context.taught(materials),
            "Corpora differ in language, text, acting, room and microphone at once: a pair's figure does not say which "
            "of them matters.",
            "Within a corpus, texts that go with an emotion flatter the figure; across corpora they do not.",
            "Adjusting class shares supposes that an emotion sounds alike in both corpora and only its share differs. "
            "UA weighs classes alike, so where teaching did too, shares are already right for UA, and adjusting them "
            "can serve WA alone.",
            "Standardising by corpus and estimating shares look at the test corpus as a whole, without labels: they "
            "are transductive, and no answer to a single recording. The oracle looks at its labels.",
            "Intervals resample the tested speakers and the seeds; shares of classes are not estimated anew."
            + (f" {unfinished} runs of EM ended before they stood still." if unfinished else ""),
        ),
        tables=tables(found),
        heat_maps=heat_maps(found),
        settings={"upstream": context.upstream, **context.options.model_dump(mode="json")},
    )


def _answers(
    materials: Sequence[Material], taught: Sequence[_Taught], earlier: Earlier
) -> dict[str, dict[str, npt.NDArray[np.int64]]]:
    given: dict[str, dict[str, npt.NDArray[np.int64]]] = {one.name: {} for one in materials}
    for one in taught:
        for tested in one.tested:
            for adjustment in ADJUSTMENTS:
                array = earlier.array(one.cell.name, f"{tested}/{adjustment}")
                for variant in one.variants:
                    given[tested][System(one.pooling, variant, adjustment).key(one.teacher)] = array
    return given


def _off(taught: Sequence[_Taught], earlier: Earlier) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return how far assumed class shares are from the true ones (points) for GAP ‖ SAP as it is, by pair."""
    return {
        (one.teacher, tested): {
            shares: 100 * float(earlier.array(one.cell.name, f"{tested}/off-{shares}").mean())
            for shares in ASSUMED
        }
        for one in taught
        if one.pooling == "gap+sap" and "raw" in one.variants
        for tested in one.tested
    }


def _tests(answers: Answers) -> tuple[Tested, ...]:
    """Return all paired tests of the study, corrected together."""
    main = System("gap+sap")
    asked: list[tuple[Setting, System, System, tuple[str, str]]] = []
    for setting in answers.settings():
        for variant in VARIANTS if setting != "within" else VARIANTS[:1]:
            label = "" if variant == "raw" else ", standardised by corpus"
            names = (f"GAP{label}", f"GAP ‖ SAP{label}")
            asked.append((setting, System("gap", variant), System("gap+sap", variant), names))
        if setting != "within":
            names = ("GAP ‖ SAP as it is", "GAP ‖ SAP standardised by corpus")
            asked.append((setting, main, System("gap+sap", "standardised"), names))
        names = ("GAP ‖ SAP as it is", "GAP ‖ SAP adjusted by EM")
        asked.append((setting, main, System("gap+sap", "raw", "em"), names))
    kept: list[tuple[Setting, Comparison]] = []
    for setting, first, second, names in asked:
        comparison = answers.compare(setting, first, second, names)
        if comparison is not None:
            kept.append((setting, comparison))
    fixed = corrected([comparison for _, comparison in kept])
    return tuple(Tested(setting, one) for (setting, _), one in zip(kept, fixed, strict=True))


def _protocol(context: Context, materials: Sequence[Material], heard: str) -> str:
    options = context.options
    classes = ", ".join(materials[0].classes)
    upstream = f"{context.upstream.rstrip('/').split('/')[-1]}, {options.precision}"
    return (
        f"{'; '.join(one.sentence() for one in materials)}. One set of emotions for all: {classes}"
        f"{'' if options.merges else ', those that all corpora have'}. Upstream "
        f"{upstream}{f' ({heard})' if heard else ''}. Classifiers of the recipe sap on "
        f"mean and deviation of every layer, over {', '.join(map(str, options.seeds))} as seeds; class weights: "
        f"{options.fit.class_weights}. Within a corpus: folds of speakers, as named. Across: taught on all of a corpus "
        "but a fifth of its speakers, who tell when to stop and then join in; tested on all clips of the others. All "
        "others: every corpus but the tested one, clips repeated until each corpus weighs alike in each class. "
        "Standardised: each corpus by mean and deviation of all its clips, without labels; within one corpus that "
        "changes nothing. EM, BBSE: class shares of the tested clips estimated without labels, after a temperature "
        "fitted on development speakers of the corpora that teach; oracle: the true shares."
    )


STUDY = Study(
    "cross-corpus",
    "What is a classifier that was taught on one corpus worth on another?",
    StudyOptions,
    make,
)
