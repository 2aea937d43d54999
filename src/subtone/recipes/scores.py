"""What remains of a finished fold: the scores of its test clips, and what is told of its trainings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subtone.errors import TrainingError
from subtone.files import appears_whole
from subtone.training.end_to_end.finetune import Finetuned

Logits = npt.NDArray[np.float32]


def write_scores(path: Path, scores: Mapping[str, Logits], about: Mapping[str, Any]) -> None:
    """Write the logits ``(clips, classes)`` of every network, and what is told of them; whole or not at all.

    Raises
    ------
    TrainingError
        If they cannot be written.
    """
    tensors = {str(number): one for number, one in enumerate(scores.values())}
    try:
        with appears_whole(path) as partial:
            save_file(tensors, partial, {"names": json.dumps(list(scores)), "about": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: could not be written: {error}; make room, then give the same command again"
        ) from error


def read_scores(path: Path) -> tuple[dict[str, Logits], dict[str, Any]]:
    """Return what :func:`write_scores` wrote.

    Raises
    ------
    TrainingError
        If it is damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
            names = json.loads(metadata["names"])
            logits = {name: file.get_tensor(str(number)) for number, name in enumerate(names)}
            return logits, json.loads(metadata["about"])
    except (OSError, SafetensorError, ValueError, LookupError) as error:
        raise TrainingError(
            f"{path}: is damaged ({error}); delete it and give the same command again"
        ) from error


def told_of(tuned: Finetuned) -> dict[str, Any]:
    """Return what a result tells of a fine-tuning."""
    fitted = tuned.fitted
    return {
        "epochs": fitted.epochs,
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 1),
        "kept": [one.epoch + 1 for one in fitted.best.kept],
        "dev_ua": {
            name: None if np.isnan(value) else round(value, 4) for name, value in tuned.dev_ua.items()
        },
        "history": [{name: rounded(value) for name, value in row.items()} for row in fitted.history],
    }


def rounded(value: float) -> float | None:
    """Return a figure for JSON: five digits, null for NaN."""
    return None if np.isnan(value) else float(f"{value:.5g}")
