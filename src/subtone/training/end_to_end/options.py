"""The options of end-to-end training: how a network is fitted, and how an upstream is fine-tuned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from subtone.errors import nearest
from subtone.training.end_to_end.augmentation import AugmentationOptions
from subtone.training.end_to_end.spec_masking import SpecMasking
from subtone.training.end_to_end.tuning import Tuning
from subtone.training.options import STRICT, ClassWeights, OptionError

Precision = Literal["fp32", "bf16"]
LayerChoice = Literal["last", "mix"]


@dataclass(frozen=True)
class FitOptions:
    """How the weights of a network are found, whatever network it is.

    Parameters
    ----------
    epochs
        Passes over the training clips.
    patience
        Stop once development UA has not been better for so many epochs; null trains all epochs.
    average
        Average the weights of so many epochs, those of the best development UA; 1 keeps the best one as it is.
    learning_rate, weight_decay
        AdamW; the rate of what is new (aggregator, linear layer).
    warmup_share
        The rate rises linearly over this share of all steps, and then falls linearly to 0.
    batch_s
        Seconds of audio, padding included, that go through the network together. Clips of like length share a batch.
    accumulate
        Batches to an update of the weights, in each process.
    clip_norm
        Longest gradient.
    label_smoothing
        Share of the target spread evenly over the classes, in [0, 1).
    class_weights
        ``"balanced"`` weighs each class by the inverse of its share of the training clips.
    dropout
        Share of the utterance vector that is dropped in training, in [0, 1).
    precision
        ``"bf16"``: products in half the bits, weights and sums in fp32.
    """

    __pydantic_config__ = STRICT

    epochs: int = 20
    patience: int | None = None
    average: int = 5
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    batch_s: float = 60.0
    accumulate: int = 1
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    class_weights: ClassWeights = "balanced"
    dropout: float = 0.1
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _at_least_one(self, ("epochs", "average", "accumulate"))
        if self.patience is not None:
            _at_least_one(self, ("patience",))
        for name in ("learning_rate", "batch_s", "clip_norm"):
            _above_zero(name, getattr(self, name))
        _from_zero("weight_decay", self.weight_decay)
        for name in ("warmup_share", "label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} = {getattr(self, name)} must lie in [0, 1)")
        _among(self, {"class_weights": get_args(ClassWeights), "precision": get_args(Precision)})


@dataclass(frozen=True)
class FinetuneOptions:
    """How an upstream is fine-tuned on emotions, a linear layer over the mean of its frames on top.

    Parameters
    ----------
    fit
        How the weights are found; ``fit.learning_rate`` is that of the linear layer.
    upstream_learning_rate
        Of the top of the upstream; ``tuning.layer_decay`` lowers it downwards.
    tuning
        What of the upstream is trained.
    masking
        What is hidden of the frames that enter its blocks.
    augmentation
        What is done to the waves.
    layers
        ``"last"``: the frames of the last layer; ``"mix"``: a learned mix of all.
    crop_s
        Longest stretch that is taken of a clip in training, in seconds, at random; null for all of it.
    checkpoint_every
        Steps between checkpoints, beside the one after each epoch.
    """

    __pydantic_config__ = STRICT

    fit: FitOptions = field(default_factory=FitOptions)
    upstream_learning_rate: float = 5e-5
    tuning: Tuning = field(default_factory=Tuning)
    masking: SpecMasking = field(default_factory=SpecMasking)
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    layers: LayerChoice = "last"
    crop_s: float | None = 15.0
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _above_zero("upstream_learning_rate", self.upstream_learning_rate)
        _at_least_one(self, ("checkpoint_every",))
        if self.crop_s is not None and not 0.1 <= self.crop_s <= self.fit.batch_s:
            raise OptionError(
                f"crop_s = {self.crop_s:g} must be from 0.1 to batch_s = {self.fit.batch_s:g}: the longest clip has to "
                "fit into a batch"
            )
        _among(self, {"layers": get_args(LayerChoice)})


#: What may change between two calls of the same run: it does not decide what is learned.
FREE = frozenset({"checkpoint_every"})


def binding(options: FinetuneOptions | FitOptions, processes: int) -> dict[str, Any]:
    """Return the settings that decide what is learned, by which a run is known again.

    One process that accumulates batches learns what several do side by side, so only their product counts.
    """
    settings = {name: value for name, value in asdict(options).items() if name not in FREE}
    fit = settings.get("fit", settings)
    fit["batches_per_step"] = fit.pop("accumulate") * processes
    return settings


def _at_least_one(options: object, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} = {value!r} must be a whole number from 1")


def _above_zero(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise OptionError(f"{name} = {value} must be above 0")


def _from_zero(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise OptionError(f"{name} = {value} must be at least 0")


def _among(options: object, known: dict[str, tuple[Any, ...]]) -> None:
    for name, values in known.items():
        value = getattr(options, name)
        if value not in values:
            raise OptionError(f"{name} {value!r} is not known; {nearest(str(value), values)}")
