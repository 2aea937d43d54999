"""What an objective of pre-training is: a batch of features goes in, a loss and what it is a mean over come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from subtone.errors import UsageError
from subtone.pretraining.masking import Masking, check_intensity, draw_keys

DEFAULT_MASKING = Masking()


class ObjectiveError(UsageError, ValueError):
    """A batch or a choice that an objective cannot learn from."""


class Batch(
    NamedTuple
):  # not a dataclass: Lightning Fabric takes apart what it passes on, frozen ones it refuses
    """Utterances as an objective takes them.

    Attributes
    ----------
    features
        ``(batch, frames, input_dim)`` float32, as the upstream's front gives them, transposed; on padding anything
        finite.
    mask
        ``(batch, frames)`` bool, True where a frame is valid; padding stands at the end.
    intensity
        ``(batch, frames)`` float32 in [0, 1], on padding anything; or None.
    keys
        ``(batch,)`` int64, or None. What masks and their corruption are random by, an utterance at a time. With
        keys that depend on, say, seed, epoch and utterance, an utterance is masked alike however many
        processes share an epoch; without, keys are drawn from the generator.
    """

    features: Tensor
    mask: Tensor
    intensity: Tensor | None = None
    keys: Tensor | None = None

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch on another device."""
        intensity, keys = (None if part is None else part.to(device) for part in (self.intensity, self.keys))
        return Batch(self.features.to(device), self.mask.to(device), intensity, keys)


class Losses(NamedTuple):
    """A loss of one batch, and what is needed to join it with those of others.

    Attributes
    ----------
    total
        Scalar with gradient: the sum of the parts, each a mean over ``weight`` positions; 0 if there are none.
    parts
        Name → scalar, detached.
    weight
        Scalar int64: positions that the means are over.
    masked, valid
        Scalars int64: hidden frames and all valid frames of the batch.
    """

    total: Tensor
    parts: dict[str, Tensor]
    weight: Tensor
    masked: Tensor
    valid: Tensor

    @classmethod
    def of(cls, parts: dict[str, Tensor], *, weight: Tensor, masked: Tensor, valid: Tensor) -> Losses:
        """Add up parts, each a scalar with gradient."""
        total = torch.stack(list(parts.values())).sum()
        return cls(total, {name: part.detach() for name, part in parts.items()}, weight, masked, valid)

    @property
    def summed(self) -> Tensor:
        """``total · weight``. The sum of it over batches, by the sum of ``weight``, is the loss of all as one batch."""
        return self.total * self.weight

    @property
    def coverage(self) -> Tensor:
        """The share of the valid frames that is hidden."""
        return self.masked / self.valid.clamp(min=1)


class Objective(nn.Module, ABC):
    """An encoder, the heads that pre-training needs beside it, and a loss.

    Only the encoder is what pre-training is for: it alone becomes an upstream, and hears plain features there.

    Parameters
    ----------
    encoder
        What is trained.
    masking
        What is hidden.
    intensity_input
        Add the intensity of each frame to each of its features.
    intensity_target
        Predict intensity, too.
    """

    def __init__(
        self,
        encoder: nn.Module,
        masking: Masking = DEFAULT_MASKING,
        *,
        intensity_input: bool = False,
        intensity_target: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.masking = masking
        self.intensity_input = intensity_input
        self.intensity_target = intensity_target

    @property
    def needs_intensity(self) -> bool:
        """Whether batches must carry intensity."""
        return self.intensity_input or self.intensity_target or self.masking.needs_intensity

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The same as `losses`, for what wraps modules (Lightning Fabric)."""
        return self.losses(batch, generator)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Hide frames, predict, compare.

        Parameters
        ----------
        batch
            On the encoder's device.
        generator
            For keys, if the batch brings none, and whatever else the objective draws; on the CPU or that device.

        Raises
        ------
        ObjectiveError
            (a ``ValueError``) If shapes disagree.
        MaskingError
            (a ``ValueError``) If no mask can be made of it, or an intensity that is needed is missing or no score.
        """
        _check(batch)
        features, mask, intensity, keys = batch
        batch = batch._replace(intensity=check_intensity(intensity, mask) if self.needs_intensity else None)
        keys = draw_keys(len(features), generator) if keys is None else keys
        return self._losses(batch, keys.to(features.device), generator)

    @abstractmethod
    def _losses(self, batch: Batch, keys: Tensor, generator: torch.Generator) -> Losses:
        """Do what `losses` says, on a checked batch: its intensity zero on padding, None unless needed."""


def _check(batch: Batch) -> None:
    features, mask, _, keys = batch
    if features.dim() != 3 or mask.shape != features.shape[:2] or mask.dtype != torch.bool:
        raise ObjectiveError(
            "a batch holds features (batch, frames, input_dim) and mask (batch, frames) bool, "
            f"got {tuple(features.shape)} and {tuple(mask.shape)} {mask.dtype}"
        )
    if keys is not None and keys.shape != mask.shape[:1]:
        raise ObjectiveError(f"keys must be (batch,) = {tuple(mask.shape[:1])}, got {tuple(keys.shape)}")


def mean_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean L1 distance of frames ``(positions, dim)``; 0 if there are none, half precision as float32."""
    return (predicted.float() - target.float()).abs().sum() / max(1, predicted.numel())
