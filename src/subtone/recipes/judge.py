"""Score a run's systems, compare them in pairs, and say for whom they work and how true their probabilities are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.evaluation import Comparison, Evaluation, compare, evaluate, soft_vote
from subtone.evaluation.calibrated import Calibration, Development, calibrate
from subtone.evaluation.slices import ATTRIBUTES, Slices, slices_of
from subtone.protocols import Split, speaker_ids
from subtone.recipes.data import targets
from subtone.recipes.schema import VOTE, Recipe

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What the systems of a run said of the clips that were tested.

    Parameters
    ----------
    split
        The divided table.
    tested
        ``(clips,)`` bool, clips that were in a test fold.
    scores
        System → ``(seeds, tested clips, classes)`` probabilities.
    development
        System → what it said of each fold's development clips, ``(seeds, development clips, classes)``, by members
        that did not train on them; NaN where that is not known. A system may be absent.
    built_in
        System → temperature of development clips that its probabilities hold already, one a fold. A system that
        scales nothing is absent.
    """

    split: Split
    tested: npt.NDArray[np.bool_]
    scores: Mapping[str, Scores]
    development: Mapping[str, Sequence[Scores]] = field(default_factory=dict)
    built_in: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        split: Split,
        scores: Mapping[str, Scores],
        development: Mapping[str, Sequence[Scores]],
        built_in: Mapping[str, Sequence[float]] | None = None,
    ) -> Answers:
        """Keep of the scores of all clips, ``(seeds, clips, classes)``, those that were tested.

        Clips of no test fold, which fixed lists may have, have no score.
        """
        tested = np.zeros(len(split.table), bool)
        for fold in split.folds:
            tested[fold.test] = True
        kept = {name: given[:, tested] for name, given in scores.items()}
        return cls(split, tested, kept, development, built_in or {})

    @property
    def rows(self) -> pd.DataFrame:
        """The tested clips of the table."""
        return self.split.table[self.tested]

    @property
    def folds(self) -> npt.NDArray[np.object_]:
        """Name of the fold that tested each clip."""
        name = np.empty(len(self.tested), object)
        for fold in self.split.folds:
            name[fold.test] = fold.name
        return name[self.tested]

    def table(self) -> pd.DataFrame:
        """One row a clip, system and seed, and one for the vote of the seeds, under the names of ``metrics.json``.

        After the probabilities stands what the corpora know of the speakers: gender, language, age, corpus.
        Files are told from the folder that holds them all: where a corpus lies on a machine is nobody's business.
        """
        rows, classes = self.rows, self.split.protocol.classes
        folds, speakers, truth = self.folds, rows["speaker"], rows["emotion"]
        index = _without_root(rows.index)
        known = [column for column in ATTRIBUTES if column in rows and rows[column].notna().any()]
        parts = []
        for system, scores in self.scores.items():
            forms: list[tuple[str, int | None, Scores]] = [(system, i, s) for i, s in enumerate(scores)]
            if len(scores) > 1:
                forms.append((system + VOTE, None, soft_vote(scores)))
            for name, seed, probabilities in forms:  # (clips, classes)
                part = pd.DataFrame(probabilities, index=index, columns=list(classes))
                part.insert(0, "truth", truth.to_numpy(object))
                part.insert(0, "speaker", speakers.to_numpy(object))
                part.insert(0, "fold", folds)
                part.insert(0, "seed", seed)
                part.insert(0, "system", name)
                part.insert(5, "label", np.array(classes)[probabilities.argmax(1)])
                part = part.assign(**{column: rows[column].array for column in known})
                parts.append(part.astype({"seed": "Int64"}))
        return pd.concat(parts)


def _without_root(index: pd.Index) -> pd.MultiIndex:
    files = [str(file) for file in index.get_level_values("file")]
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    told = [os.path.relpath(file, root) if root else file for file in files]
    return pd.MultiIndex.from_arrays(
        [told, index.get_level_values("start"), index.get_level_values("end")], names=index.names
    )


def probabilities(logits: npt.NDArray[np.float32]) -> Scores:
    """Return the softmax of ``(…, classes)`` over its last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def room_for_development(split: Split, seeds: int) -> list[Scores]:
    """Return a place for what a system says of development clips: NaN ``(seeds, clips, classes)``, one a fold."""
    classes = len(split.protocol.classes)
    return [np.full((seeds, len(fold.dev), classes), np.nan) for fold in split.folds]


def judge(recipe: Recipe, answers: Answers) -> tuple[dict[str, Evaluation], list[Comparison]]:
    """Evaluate each system twice: as one classifier (the mean over seeds) and as the vote of all its seeds.

    Paired tests are made of the former, for UA and WA.
    """
    plan, labels = recipe.evaluation, answers.split.protocol.classes
    truth = answers.rows["emotion"].to_numpy(object)
    speakers, folds = speaker_ids(answers.rows), list(answers.folds)
    systems: dict[str, Evaluation] = {}
    for name, _, given in _forms(answers):
        systems[name] = evaluate(
            truth, given, labels, speakers, folds, seed=plan.seed, resamples=plan.resamples
        )
    comparisons = [
        compare(
            truth,
            answers.scores[a],
            answers.scores[b],
            labels,
            speakers,
            names=(a, b),
            metric=metric,
            seed=plan.seed,
            resamples=plan.resamples,
            permutations=plan.permutations,
        )
        for a, b in recipe.compare
        for metric in ("ua", "wa")
    ]
    return systems, comparisons


def for_whom(recipe: Recipe, answers: Answers) -> dict[str, Slices]:
    """Score each system by the speakers' gender, language, age and corpus, and speaker by speaker."""
    plan, labels = recipe.evaluation, answers.split.protocol.classes
    rows = answers.rows
    truth, speakers = rows["emotion"].to_numpy(object), speaker_ids(rows)
    return {
        name: slices_of(truth, given, labels, rows, speakers, seed=plan.seed, resamples=plan.resamples)
        for name, _, given in _forms(answers)
    }


def calibrations(answers: Answers) -> dict[str, Calibration]:
    """Measure how true each system's probabilities are, before and after temperatures of development clips."""
    codes = targets(answers.split)
    truth, tested_by = codes[answers.tested], [str(name) for name in answers.folds]
    folds = answers.split.folds
    found = {}
    for name, system, given in _forms(answers):
        heard = {
            fold.name: Development(scores, codes[fold.dev])
            for fold, scores in zip(folds, answers.development.get(system, ()), strict=False)
            if scores.size and np.isfinite(scores).all()
        }
        if name != system:
            heard = {fold: one.vote() for fold, one in heard.items()}
        applied = answers.built_in.get(system)
        built_in = None if applied is None else {f.name: t for f, t in zip(folds, applied, strict=True)}
        found[name] = calibrate(given, truth, tested_by, heard, built_in=built_in)
    return found


def _forms(answers: Answers) -> Iterator[tuple[str, str, Scores]]:
    """Yield all that is measured: name, the system that it is of, ``(seeds, clips, classes)``."""
    for system, scores in answers.scores.items():
        yield system, system, scores
        if len(scores) > 1:
            yield system + VOTE, system, soft_vote(scores)[None]
