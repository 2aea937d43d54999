"""The part of a run that fits support vector machines: each fold by itself, finished ones kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.protocols import Split
from subtone.recipes.claims import claim_anew
from subtone.recipes.data import targets
from subtone.recipes.judge import Scores, probabilities
from subtone.recipes.progress import OnProgress
from subtone.recipes.scores import read_scores, rounded, write_scores
from subtone.recipes.systems import SvmSection
from subtone.training.end_to_end.launching import alone
from subtone.training.svm import SvmChoice, train_svm

SCORES = "scores.safetensors"


def fit_machine(
    name: str,
    section: SvmSection,
    features: npt.NDArray[np.float32],
    split: Split,
    folder: Path,
    tell: OnProgress,
    *,
    overwrite: bool = False,
) -> tuple[Scores, list[dict[str, Any]]]:
    """Fit a machine a fold, unless that is done.

    Parameters
    ----------
    name, section
        Of the system.
    features
        ``(clips, dim)``.
    split
        Of these clips.
    folder
        Of the system's folds; made if new.
    tell
        See :data:`subtone.recipes.progress.OnProgress`.
    overwrite
        Whether machines of other settings may be replaced.

    Returns
    -------
    (ndarray, list)
        Probabilities ``(1, clips, classes)``, since nothing is drawn, NaN for a clip of no test fold; and what
        development chose, a fold each.

    Raises
    ------
    RecipeError
        If a fold trains on fewer than two classes.
    TrainingError
        If the folder holds machines of other settings or clips, or cannot be written.
    """
    classes, wanted = len(split.protocol.classes), targets(split)
    scores: Scores = np.full((1, len(wanted), classes), np.nan)
    chosen: list[dict[str, Any]] = []
    for number, fold in enumerate(split.folds):
        tell(f"training {name}", number, len(split.folds))
        own = folder / f"fold{number + 1}"
        about = {
            "settings": asdict(section.svm),
            "features, or choice or division of clips": _digest(
                features, wanted, (fold.train, fold.dev, fold.test)
            ),
            "classes": list(split.protocol.classes),
        }
        claim_anew(alone("fp32"), own, about, whole=folder, overwrite=overwrite)
        if not (own / SCORES).exists():
            fitted = train_svm(features, wanted, [fold], classes, section.svm)
            logits = np.ascontiguousarray(fitted.logits[fold.test])
            write_scores(own / SCORES, {"clips": logits}, _told(fitted.chosen[0]))
        found, told = read_scores(own / SCORES)
        scores[0, fold.test] = probabilities(found["clips"])
        chosen.append(told)
    return scores, chosen


def _digest(
    features: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.int64],
    sides: Sequence[npt.NDArray[np.int64]],
) -> str:
    """Tell the rows of a fold, and what they are called, from others."""
    digest = hashlib.sha256()
    for rows in sides:
        digest.update(np.ascontiguousarray(features[rows]).tobytes())
        digest.update(wanted[rows].tobytes())
    return digest.hexdigest()


def _told(one: SvmChoice) -> dict[str, Any]:
    """Return what development chose, for JSON."""
    return {
        name: rounded(value) if isinstance(value, float) else value for name, value in asdict(one).items()
    }
