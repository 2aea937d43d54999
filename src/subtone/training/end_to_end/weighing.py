"""What the classes of a training weigh, and how well answers do when all classes weigh the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.evaluation.metrics import confusion, unweighted_accuracy
from subtone.training.options import ClassWeights

Codes = npt.NDArray[np.int64]


def class_weights(targets: Codes, classes: int, kind: ClassWeights) -> Tensor:
    """Return ``(classes,)`` weights in the loss; a class without clips weighs as if it had one.

    >>> class_weights(np.array([0, 0, 0, 1]), 2, "balanced")
    tensor([0.6667, 2.0000])
    """
    if kind == "none":
        return torch.ones(classes)
    counts = np.bincount(targets, minlength=classes)
    return torch.from_numpy(counts.sum() / (classes * np.maximum(counts, 1))).float()


def unweighted(truth: Codes, answers: Codes, classes: int) -> float:
    """Return UA in [0, 1] of answers, ``(clips,)`` both."""
    matrix = confusion(truth, answers, classes)
    return float(unweighted_accuracy(matrix.diagonal(), matrix.sum(1)))
