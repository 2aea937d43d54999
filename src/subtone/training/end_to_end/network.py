"""The networks that are trained: frames to logits, and an upstream with that on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from subtone.aggregation import Aggregator, AggregatorOptions, align, build_aggregator
from subtone.errors import RecipeError
from subtone.heads import LayerMix
from subtone.speech import SpeechSegments
from subtone.training.end_to_end.options import LayerChoice
from subtone.training.end_to_end.spec_masking import SpecMasker
from subtone.upstreams import FrameGrid, Upstream

Fusion = Literal["early", "late"]


class Batch:
    """Clips on their way through a network, with what they should be called.

    A plain class on purpose: Fabric goes through data classes and would round what it finds to half precision.

    Parameters
    ----------
    inputs
        What the network takes, each of which can be moved to a device: waves, or :class:`Stream`, or what else it is.
    speech
        Where each clip holds speech.
    targets
        ``(batch,)`` class numbers.
    seeds
        A random number for each clip; empty when nothing is to be drawn.
    seconds
        Of audio without padding.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        speech: Sequence[SpeechSegments],
        targets: Tensor,
        seeds: Sequence[int] = (),
        seconds: float = 0.0,
    ) -> None:
        self.inputs, self.speech, self.targets = inputs, speech, targets
        self.seeds, self.seconds = seeds, seconds

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        if device.type == "cpu":
            return self
        inputs = [one.to(device) for one in self.inputs]
        return Batch(inputs, self.speech, self.targets.to(device), self.seeds, self.seconds)


@dataclass(frozen=True, eq=False)
class Stream:
    """The frames of one upstream for a batch.

    Parameters
    ----------
    frames
        ``(batch, layers, frames, dim)``; the last layer alone, or all.
    mask, speech
        ``(batch, frames)`` bool.
    """

    frames: Tensor
    mask: Tensor
    speech: Tensor

    def to(self, device: torch.device) -> Stream:
        """Return the stream on a device."""
        return Stream(self.frames.to(device), self.mask.to(device), self.speech.to(device))


@dataclass(frozen=True)
class StreamShape:
    """What is known of a stream beforehand: its layers, the width of a frame, where its frames lie."""

    layers: int
    dim: int
    grid: FrameGrid


class Downstream(nn.Module):
    """From frames to logits: layers mixed, streams joined, frames aggregated, one linear layer.

    Parameters
    ----------
    shapes
        Of the streams, one an upstream.
    classes
        Number of classes.
    aggregator
        What makes one vector of the frames.
    fusion
        With several streams: ``"early"`` joins their frames and aggregates once, on the coarsest of their grids;
        ``"late"`` aggregates each and joins the vectors.
    dropout
        Share of the joined vector that is dropped in training.

    Raises
    ------
    RecipeError
        If several streams come without fusion, or one with.

    Notes
    -----
    Morais et al. 2022, "Speech Emotion Recognition using Self-Supervised Features" (arXiv 2202.03896).
    """

    def __init__(
        self,
        shapes: Sequence[StreamShape],
        classes: int,
        aggregator: AggregatorOptions | None = None,
        fusion: Fusion | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if (len(shapes) > 1) != (fusion is not None):
            raise RecipeError(
                f"fusion {fusion!r} with {len(shapes)} upstream{'s' if len(shapes) > 1 else ''}: several are joined by "
                "'early' or 'late', one by nothing"
            )
        options = aggregator or AggregatorOptions()
        self._grids = [shape.grid for shape in shapes]
        self._coarsest = max(range(len(shapes)), key=lambda i: shapes[i].grid.hop)
        self.fusion = fusion
        self.scales = nn.ModuleList(Standardisation(shape.layers, shape.dim) for shape in shapes)
        self.mixes = nn.ModuleList(
            LayerMix(shape.layers) if shape.layers > 1 else nn.Identity() for shape in shapes
        )
        dims = [sum(shape.dim for shape in shapes)] if fusion == "early" else [shape.dim for shape in shapes]
        self.aggregators = nn.ModuleList(build_aggregator(options, dim) for dim in dims)
        width = sum(aggregator.dim for aggregator in self._each())
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)

    def _each(self) -> list[Aggregator]:
        return [one for one in self.aggregators if isinstance(one, Aggregator)]

    def forward(self, streams: Sequence[Stream]) -> Tensor:
        """Score clips, ``(batch, classes)``; the logits are not normalised."""
        frames = [
            mix(scale(stream.frames)) if isinstance(mix, LayerMix) else scale(stream.frames)[:, 0]
            for scale, mix, stream in zip(self.scales, self.mixes, streams, strict=True)
        ]  # each (batch, frames, dim)
        vectors = []
        if self.fusion == "early":
            onto = streams[self._coarsest]
            grid = self._grids[self._coarsest]
            joined = torch.cat(
                [
                    align(one, stream.mask, own, grid, onto.mask)
                    for one, stream, own in zip(frames, streams, self._grids, strict=True)
                ],
                dim=-1,
            )  # (batch, frames, dims of all)
            vectors.append(self._each()[0](joined, onto.mask, onto.speech))
        else:
            for aggregator, one, stream in zip(self._each(), frames, streams, strict=True):
                vectors.append(aggregator(one, stream.mask, stream.speech))
        logits: Tensor = self.linear(self.dropout(torch.cat(vectors, dim=-1)))
        return logits


class Standardisation(nn.Module):
    """Centre and scale each feature of each layer; as it is made, it changes nothing.

    Fitted on the frames of training clips before a downstream is trained: the features of an upstream may differ in
    size a hundredfold, and those of two upstreams more.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(layers, dim))
        self.register_buffer("scale", torch.ones(layers, dim))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Take over means and deviations, ``(layers, dim)``; a feature that never varies is only centred."""
        self.mean.copy_(mean)
        steady = deviation <= 1e-6 * (1 + mean.abs())
        self.scale.copy_(torch.where(steady, torch.ones_like(deviation), deviation))

    def forward(self, frames: Tensor) -> Tensor:
        """Scale ``(batch, layers, frames, dim)``."""
        return (frames - self.mean[:, None]) / self.scale[:, None]


class Tuned(nn.Module):
    """An upstream and a downstream on its frames, from waves to logits.

    Parameters
    ----------
    upstream
        Whose network is trained, in place.
    downstream
        On its last layer, or on all.
    layers
        Which.
    masker
        Hides some of what enters the upstream's blocks, in training.
    """

    def __init__(
        self,
        upstream: Upstream,
        downstream: Downstream,
        layers: LayerChoice,
        masker: SpecMasker | None = None,
    ) -> None:
        super().__init__()
        if upstream.module is not None:
            self.network = upstream.module
        self.downstream = downstream
        self.blocks = tuple(upstream.blocks)
        self._upstream, self._layers, self._masker = upstream, layers, masker

    def forward(self, batch: Batch) -> Tensor:
        """Score the waves of a batch, ``(batch, classes)``."""
        if self._masker is not None:
            if batch.seeds:
                counts = [self._upstream.grid.num_frames(len(wave)) for wave in batch.inputs]
                self._masker.plan(counts, batch.seeds)
            else:
                self._masker.clear()
        logits: Tensor = self.downstream([self._stream(batch)])
        return logits

    def _stream(self, batch: Batch) -> Stream:
        encoded = self._upstream.encode(batch.inputs)
        frames = encoded.frames if self._layers == "mix" else encoded.frames[:, -1:]
        return Stream(
            frames.float(), encoded.mask, speech_of(batch.speech, self._upstream.grid, encoded.mask)
        )


def shape_of(upstream: Upstream, layers: LayerChoice) -> StreamShape:
    """Return the shape of an upstream's stream."""
    return StreamShape(upstream.num_layers if layers == "mix" else 1, upstream.dim, upstream.grid)


def speech_of(speech: Sequence[SpeechSegments], grid: FrameGrid, mask: Tensor) -> Tensor:
    """Return which frames of the clips are speech, ``(batch, frames)`` bool."""
    found = np.zeros(tuple(mask.shape), bool)
    for row, (segments, length) in enumerate(zip(speech, mask.sum(1).tolist(), strict=True)):
        found[row, :length] = segments.project(grid, length)
    return torch.from_numpy(found).to(mask.device)


class Scorer(nn.Module):
    """A downstream as the network of a training on its own: it takes the streams of a batch."""

    def __init__(self, downstream: Downstream) -> None:
        super().__init__()
        self.downstream = downstream

    def forward(self, batch: Batch) -> Tensor:
        """Score the streams of a batch, ``(batch, classes)``."""
        logits: Tensor = self.downstream(batch.inputs)
        return logits
