"""Mockingjay: a Transformer over filter banks, pre-trained by filling in hidden frames (Liu et al. 2020).

The encoder alone; what it is trained by is in `subtone.pretraining`. Source: arXiv 1910.12638, sizes as in the
configuration of Liu & Ma's EMS (Interspeech 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from subtone.errors import UpstreamError
from subtone.upstreams.dropout import FrugalDropout
from subtone.upstreams.filterbank_network import (
    FilterBankEncoder,
    FilterBankNetworkUpstream,
    NetworkOptions,
    check_counts,
    check_shares,
    unless_full,
)

_INITIAL_STD = 0.02
_EPS = 1e-12
_MOST = {"hidden": 4096, "layers": 64, "heads": 64, "feed_forward": 16_384}
_LONG = 1024  # frames from which on plain products of attention no longer fit the caches


@dataclass(frozen=True)
class MockingjayOptions(NetworkOptions):
    """Shape of a Mockingjay encoder; the defaults are the paper's.

    Attributes
    ----------
    deltas
        Highest time derivative appended to the filter banks.
    hidden
        Width of a frame; even, and a multiple of ``heads``.
    layers
        Transformer layers.
    heads
        Attention heads.
    feed_forward
        Width inside a layer.
    dropout
        Share of numbers dropped after the input, attention and feed-forward parts, in training.
    attention_dropout
        Share of attention weights dropped in training; any but 0 costs torch's fast attention on CPUs.
    """

    deltas: int = 2
    hidden: int = 768
    layers: int = 3
    heads: int = 12
    feed_forward: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        check_counts("mockingjay", self, _MOST)
        check_shares("mockingjay", self, ("dropout", "attention_dropout"))
        if self.hidden % 2 or self.hidden % self.heads:
            raise UpstreamError(
                f"mockingjay: hidden must be even and a multiple of heads ({self.heads}), got {self.hidden}"
            )


SIZES: dict[str, MockingjayOptions] = {
    "paper": MockingjayOptions(),
    "small": MockingjayOptions(hidden=192, heads=3, feed_forward=768, attention_dropout=0.0),
    "mini": MockingjayOptions(hidden=128, heads=4, feed_forward=512, attention_dropout=0.0),
    "tiny": MockingjayOptions(hidden=16, layers=2, heads=2, feed_forward=32, attention_dropout=0.0),
}


class MockingjayEncoder(FilterBankEncoder[MockingjayOptions]):
    """A post-norm Transformer encoder with sinusoidal positions over projected filter banks.

    Layer 0 is the input of the first Transformer layer, the others what each hands on.

    Parameters
    ----------
    options
        Its shape. Weights are random, normal with standard deviation 0.02, biases zero.
    """

    def __init__(self, options: MockingjayOptions) -> None:
        super().__init__(options)
        self.projection = nn.Linear(options.input_dim, options.hidden)
        self.norm = nn.LayerNorm(options.hidden, eps=_EPS)
        self.dropout = FrugalDropout(options.dropout)
        self.layers = nn.ModuleList(TransformerLayer(options) for _ in range(options.layers))
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=_INITIAL_STD)
                nn.init.zeros_(part.bias)

    @property
    def dim(self) -> int:
        """Width of a frame of any layer."""
        return self.options.hidden

    @property
    def num_layers(self) -> int:
        """Layers handed out: the input of the first Transformer layer is layer 0."""
        return self.options.layers + 1

    @property
    def stack(self) -> Sequence[nn.Module]:
        """The Transformer layers."""
        return tuple(self.layers)

    @property
    def entry(self) -> nn.Module:
        """The projection of the features: frames are hidden before it in pre-training, and keep their positions."""
        return self.projection

    @property
    def reach(self) -> int:
        """No frame to either side: all beyond is attention."""
        return 0

    def context(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the last layer, ``(batch, frames, hidden)``; see `FilterBankEncoder.context`."""
        return self._layers(features, mask)[-1]

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return all layers, ``(layers, batch, frames, hidden)``; see `FilterBankEncoder.forward`."""
        return torch.stack(self._layers(features, mask))

    def _layers(self, features: Tensor, mask: Tensor | None) -> list[Tensor]:
        mask = unless_full(mask)
        seen = None if mask is None else mask[:, None, None, :]  # (batch, 1, 1, frames)
        x = self.projection(features)  # (batch, frames, hidden)
        x = self.dropout(self.norm(x + sinusoids(features.shape[1], self.dim, x)))
        found = [x]
        for layer in self.layers:
            x = layer(x, seen)
            found.append(x)
        return found


class TransformerLayer(nn.Module):
    """Attention and a feed-forward part, each added to its input and normalised after (post-norm)."""

    def __init__(self, options: MockingjayOptions) -> None:
        super().__init__()
        hidden = options.hidden
        self.heads, self.attention_dropout = options.heads, options.attention_dropout
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=_EPS)
        self.widen = nn.Linear(hidden, options.feed_forward)
        self.narrow = nn.Linear(options.feed_forward, hidden)
        self.norm = nn.LayerNorm(hidden, eps=_EPS)
        self.dropout = FrugalDropout(options.dropout)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Map ``(batch, frames, hidden)``; ``seen`` ``(batch, 1, 1, frames)`` bool says which frames are looked at."""
        heads = self.queries_keys_values(x).unflatten(
            -1, (3, self.heads, -1)
        )  # (batch, frames, 3, heads, head)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind()  # each (batch, heads, frames, head)
        attended = attention(queries, keys, values, seen, self.attention_dropout if self.training else 0.0)
        attended = self.attended(attended.transpose(1, 2).flatten(2))  # (batch, frames, hidden)
        x = self.attention_norm(x + self.dropout(attended))
        forward = self.narrow(functional.gelu(self.widen(x)))
        normed: Tensor = self.norm(x + self.dropout(forward))
        return normed


def attention(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, dropout: float) -> Tensor:
    """Return scaled dot-product attention by whichever way is fastest.

    On CPUs, torch's fused attention knows no dropout, and its backward pass in bfloat16 takes twice as long as two
    plain products, up to about a thousand frames.

    Parameters
    ----------
    queries, keys, values
        ``(batch, heads, frames, head)``.
    seen
        ``(batch, 1, 1, frames)`` bool, frames to look at; None for all.
    dropout
        Share of weights dropped.

    Returns
    -------
    Tensor
        ``(batch, heads, frames, head)``.
    """
    trained_on_cpu = queries.device.type == "cpu" and queries.requires_grad
    if not trained_on_cpu or (queries.dtype == torch.float32 and not dropout) or len(keys[0, 0]) > _LONG:
        return functional.scaled_dot_product_attention(queries, keys, values, seen, dropout_p=dropout)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)  # (batch, heads, frames, frames)
    if seen is not None:
        scores = scores + torch.zeros(seen.shape, dtype=scores.dtype).masked_fill(~seen, -math.inf)
    return functional.dropout(scores.softmax(dim=-1), dropout) @ values


def sinusoids(num_frames: int, dim: int, like: Tensor) -> Tensor:
    """Return positions as sines and cosines of falling frequency, ``(frames, dim)`` (Vaswani et al. 2017).

    Parameters
    ----------
    num_frames
        Any number: they are made as they are needed.
    dim
        Even; sines at even places, cosines at odd ones.
    like
        Gives device and precision.
    """
    position = torch.arange(num_frames, device=like.device, dtype=torch.float32)[:, None]  # (frames, 1)
    pair = torch.arange(0, dim, 2, device=like.device, dtype=torch.float32)
    angle = position * torch.exp(pair * (-math.log(10_000.0) / dim))  # (frames, dim / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


class MockingjayUpstream(FilterBankNetworkUpstream):
    """A Mockingjay encoder over its filter banks; a chunk's positions are counted anew."""

    model_type: ClassVar[str] = "subtone-mockingjay"
    options_class = MockingjayOptions
    encoder_class = MockingjayEncoder
