"""The options of frozen-feature training, one documented field each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from subtone.classifier import LayersMode
from subtone.errors import RecipeError
from subtone.heads import HeadKind

ClassWeights = Literal["balanced", "none"]

#: ``__pydantic_config__`` of options that a recipe holds as they are: an unknown key is an error.
STRICT: ConfigDict = ConfigDict(extra="forbid")


class OptionError(RecipeError, ValueError):
    """An option out of range; a ``ValueError`` too, so that a recipe's schema tells in which section it stands."""


@dataclass(frozen=True)
class FrozenOptions:
    """How a small classifier is trained on pooled features.

    Parameters
    ----------
    layers
        ``"mix"``: learned softmax mix of the layers; ``"concat"``: all layers side by side.
    components
        Project the standardised features onto so many principal components of the training rows; None keeps
        all features.
    head, hidden, dropout
        The classifier; ``hidden`` and ``dropout`` are those of the ``mlp`` head.
    input_dropout
        Share of the inputs of the head that is dropped while training, in [0, 1).
    learning_rate, weight_decay, batch_size, steps
        AdamW with a cosine fall of the learning rate over all steps. Steps, not epochs: the same budget suits a
        corpus of 300 clips and one of 5,000.
    check_every
        Development UA is taken after each so many steps.
    patience
        A member stops once its development UA has not been better for so many checks.
    label_smoothing
        Share of the target spread evenly over the classes, in [0, 1).
    class_weights
        ``"balanced"`` weighs each class by the inverse of its share of the training rows.
    refit
        Train once more on training and development rows together, for as many steps as development chose.
    """

    layers: LayersMode = "concat"
    components: int | None = 512
    head: HeadKind = "mlp"
    hidden: int = 128
    dropout: float = 0.5
    input_dropout: float = 0.0
    learning_rate: float = 5e-3
    weight_decay: float = 0.01
    batch_size: int = 64
    steps: int = 150
    check_every: int = 10
    patience: int = 5
    label_smoothing: float = 0.1
    class_weights: ClassWeights = "balanced"
    refit: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size", "steps", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise RecipeError(f"training: {name} = {getattr(self, name)} must be at least 1")
        for name in ("dropout", "input_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"training: {name} = {getattr(self, name)} must lie in [0, 1)")
        if self.components is not None and self.components < 1:
            raise RecipeError(f"training: components = {self.components} must be at least 1, or null")
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise RecipeError("training: learning_rate must be above 0 and weight_decay at least 0")
