"""Score a run's systems and compare them in pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.evaluation import Comparison, Evaluation, compare, evaluate, soft_vote
from subtone.protocols import Split, speaker_ids
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
    """

    split: Split
    tested: npt.NDArray[np.bool_]
    scores: Mapping[str, Scores]

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

        Files are told from the folder that holds them all: where a corpus lies on a machine is nobody's business.
        """
        rows, classes = self.rows, self.split.protocol.classes
        folds, speakers, truth = self.folds, rows["speaker"], rows["emotion"]
        index = _without_root(rows.index)
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


def judge(recipe: Recipe, answers: Answers) -> tuple[dict[str, Evaluation], list[Comparison]]:
    """Evaluate each system twice: as one classifier (the mean over seeds) and as the vote of all its seeds.

    Paired tests are made of the former, for UA and WA.
    """
    plan, labels = recipe.evaluation, answers.split.protocol.classes
    truth = answers.rows["emotion"].to_numpy(object)
    speakers, folds = speaker_ids(answers.rows), list(answers.folds)
    systems: dict[str, Evaluation] = {}
    for name, scores in answers.scores.items():
        forms = {name: scores, name + VOTE: soft_vote(scores)} if len(scores) > 1 else {name: scores}
        for form, given in forms.items():
            systems[form] = evaluate(
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
