"""What remains of a published network once `Upstream.front` is done, for one clip alone: no masks, no padding."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from subtone.upstreams import convolutions

_TAPPED: ContextVar[list[Tensor] | None] = ContextVar("tapped_layers", default=None)


class LayersCore(nn.Module):
    """Map what a network projects, ``(1, channels, inputs)``, to ``(layers, frames, dim)``, for one clip.

    Shares the parts of the network it is made from. The hidden states are taken where the layers hand them on,
    so that whatever the family's encoder does between layers is done here too.

    Parameters
    ----------
    network
        The published network, its encoder tapped by `tap_layers`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.projection: nn.Module = network.feature_projection
        self.encoder: nn.Module = network.encoder
        self.training = network.training

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class; the layers are in the precision of the weights."""
        return self.layers_of(inputs.to(self.dtype).transpose(1, 2))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.projection.parameters()).dtype

    def layers_of(self, features: Tensor) -> Tensor:
        """Return ``(layers, frames, dim)`` of unprojected features ``(1, frames, channels)``."""
        projected = self.projection(features)  # (1, frames, dim)
        layers: list[Tensor] = []
        token = _TAPPED.set(layers)
        try:
            self.encoder(projected[0] if isinstance(projected, tuple) else projected)
        finally:
            _TAPPED.reset(token)
        return torch.cat(layers)  # (layers, frames, dim)


class CnnCore(LayersCore):
    """A `LayersCore` behind the convolutions over the wave that were not done before.

    Parameters
    ----------
    network
        As for `LayersCore`.
    first
        How many of its convolutions are done before.
    """

    def __init__(self, network: Any, first: int) -> None:
        super().__init__(network)
        self.convolutions = nn.ModuleList(network.feature_extractor.conv_layers[first:])

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class; the layers are in the precision of the weights."""
        x = inputs.to(self.dtype)  # (1, channels, inputs)
        if convolutions.are_faster(self.convolutions, x):
            return self.layers_of(convolutions.frames_first(self.convolutions, x))
        for convolution in self.convolutions:
            x = convolution(x)  # (1, channels, fewer)
        return self.layers_of(x.transpose(1, 2))


def tap_layers(encoder: Any) -> None:
    """Have the layers of an encoder hand their hidden states to the `LayersCore` that runs, and to none else."""
    encoder.layers[0].register_forward_pre_hook(_tap_input)
    for layer in encoder.layers:
        layer.register_forward_hook(_tap_output)


def _tap_input(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    tapped = _TAPPED.get()
    if tapped is not None:
        tapped.append(inputs[0])


def _tap_output(_layer: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
    tapped = _TAPPED.get()
    if tapped is not None:
        tapped.append(output[0] if isinstance(output, tuple) else output)
