"""Training of classifiers on frozen features."""

from __future__ import annotations

from subtone.training.final import TrainedModel, train_model
from subtone.training.frozen import FrozenRun, train_final, train_frozen
from subtone.training.options import FrozenOptions

__all__ = ["FrozenOptions", "FrozenRun", "TrainedModel", "train_final", "train_frozen", "train_model"]
