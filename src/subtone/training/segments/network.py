"""The network on segments: layers mixed, feature maps encoded, one linear layer, segments joined per clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subtone.training.end_to_end.network import Batch
from subtone.training.options import STRICT, OptionError
from subtone.training.segments.decision import Decision, SegmentScores, joined
from subtone.training.segments.image_cnn import ImageCNN
from subtone.training.segments.stack import ConvStack, StackOptions


@dataclass(frozen=True)
class ImageOptions:
    """A CNN that was pre-trained on images, over feature maps seen as pictures, fine-tuned in two stages.

    First a new linear layer learns on the network as it is; then all of it learns.

    Parameters
    ----------
    weights
        Name or folder; see :func:`subtone.training.segments.image_cnn.load_image_cnn`.
    head_epochs
        Passes of the first stage.
    learning_rate
        Of the pre-trained network in the second.
    """

    __pydantic_config__ = STRICT

    weights: str = "subtone-pictures"
    head_epochs: int = 3
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.head_epochs < 1:
            raise OptionError(f"head_epochs = {self.head_epochs} must be at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise OptionError(f"learning_rate = {self.learning_rate} must be above 0")


Shape = tuple[int, int]
"""Layers of a feature map and width of a frame."""


class SegmentNetwork(nn.Module):
    """From the feature maps of segments to logits.

    In training each segment is scored by itself, ``(segments, classes)``. In evaluation, and with attention in training
    too, the segments of a clip are joined: log posteriors ``(clips, classes)``.

    Parameters
    ----------
    shape
        Layers and width of the maps.
    classes
        Number of classes.
    what
        What encodes a segment: a stack to be made, or a network that is there.
    decision
        How segments are joined; see :func:`subtone.training.segments.decision.joined`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Shape, classes: int, what: StackOptions | ImageCNN, decision: Decision) -> None:
        super().__init__()
        layers, dim = shape
        self.register_buffer("mean", torch.zeros(layers, dim))
        self.register_buffer("scale", torch.ones(layers, dim))
        self.mix = nn.Parameter(torch.zeros(layers))
        self.encoder: ConvStack | ImageCNN = ConvStack(what, dim) if isinstance(what, StackOptions) else what
        self.linear = nn.Linear(self.encoder.dim, classes)
        self.scores = SegmentScores(self.encoder.dim) if decision == "attention" else None
        self.decision: Decision = decision
        for part in self.modules():
            if isinstance(part, _BatchNorm):
                part.register_forward_pre_hook(_spare)

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Centre and scale features by these, ``(layers, dim)``; one that never varies is only centred."""
        steady = deviation <= 1e-6 * (1 + mean.abs())
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(steady, torch.ones_like(deviation), deviation))

    def forward(self, batch: Batch) -> Tensor:
        """Score the segments of a batch, or its clips.

        Its inputs are maps ``(segments, layers, frames, dim)``, whole or a part after the other, and the clip of each
        segment, ``(segments,)``.
        """
        maps, owner = batch.inputs
        parts = [maps] if isinstance(maps, Tensor) else maps
        vectors = torch.cat([self._encoded(part) for part in parts])  # (segments, width)
        logits: Tensor = self.linear(vectors)
        if self.training and self.decision != "attention":
            return logits
        scores = None if self.scores is None else self.scores(vectors).float()
        return joined(logits.float(), owner, len(batch.targets), self.decision, scores)

    def _encoded(self, maps: Tensor) -> Tensor:
        inverse = 1 / self.scale  # (layers, dim)
        maps = torch.addcmul((-self.mean * inverse)[:, None], maps, inverse[:, None])
        # As a product, which goes over the maps once; multiplied and summed up, they would be written twice.
        mixed = torch.einsum("l,slfd->sfd", self.mix.softmax(0), maps)  # (segments, frames, dim)
        if isinstance(self.encoder, ImageCNN):
            mixed = mixed.transpose(1, 2)[:, None]  # a picture: features upwards, time to the right
        vectors: Tensor = self.encoder(mixed)
        return vectors


def _spare(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Let a batch norm that is given one number a channel, which has no deviation, take those it has learned.

    One small segment alone in a batch would end the training otherwise. ``train`` calls the norm back.
    """
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.eval()
