"""A convolutional network over feature maps, as a recipe declares it: blocks, a pool, dense layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from subtone.errors import nearest
from subtone.training.options import STRICT, OptionError

BlockKind = Literal["conv1d", "conv2d"]
GlobalPool = Literal["mean", "max", "mean+max", "mean+std"]


def _check_dropout(value: float) -> None:
    if not 0 <= value < 1:
        raise OptionError(f"dropout = {value} must lie in [0, 1)")


@dataclass(frozen=True)
class ConvBlock:
    """A convolution, batch normalisation, ReLU, max-pool and dropout, in this order.

    Parameters
    ----------
    kind
        ``"conv1d"`` runs over frames and sees all features at once; ``"conv2d"`` runs over frames and features, as over
        a picture.
    channels
        That come out.
    kernel, stride
        Of the convolution, along every axis that it runs over; its input is padded with zeros so that a stride of 1
        keeps its length.
    batch_norm
        Whether there is any.
    max_pool
        Take the largest of so many neighbours along every axis; 1 takes all.
    dropout
        Share of the numbers that are dropped in training, in [0, 1).
    """

    __pydantic_config__ = STRICT

    channels: int
    kind: BlockKind = "conv1d"
    kernel: int = 3
    stride: int = 1
    batch_norm: bool = True
    max_pool: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.kind not in get_args(BlockKind):
            raise OptionError(f"kind {self.kind!r} is not known; {nearest(self.kind, get_args(BlockKind))}")
        for name in ("channels", "kernel", "stride", "max_pool"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} = {getattr(self, name)} must be at least 1")
        if self.kernel % 2 == 0:
            raise OptionError(f"kernel = {self.kernel} must be odd, so that it has a middle")
        _check_dropout(self.dropout)


@dataclass(frozen=True)
class StackOptions:
    """A stack of convolutions.

    Parameters
    ----------
    blocks
        From the feature maps upwards; ``conv2d`` never above ``conv1d``.
    global_pool
        What is kept of all that is left along frames (and features): the mean, the largest, the mean and the largest,
        or the mean and the deviation.
    dense
        Sizes of the dense layers behind it, each with ReLU.
    dropout
        Share that is dropped before each dense layer and before the last linear one, in [0, 1).
    """

    __pydantic_config__ = STRICT

    blocks: tuple[ConvBlock, ...] = (
        ConvBlock(64, kernel=1),
        ConvBlock(128, kernel=5, max_pool=2, dropout=0.2),
        ConvBlock(128, kernel=5, max_pool=2, dropout=0.2),
    )
    global_pool: GlobalPool = "mean+max"
    dense: tuple[int, ...] = (64,)
    dropout: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not self.blocks:
            raise OptionError("blocks: at least one is needed")
        kinds = [block.kind for block in self.blocks]
        if "conv2d" in kinds[kinds.index("conv1d") :] if "conv1d" in kinds else False:
            raise OptionError("blocks: a conv2d stands above a conv1d, which has left no picture to run over")
        if self.global_pool not in get_args(GlobalPool):
            raise OptionError(
                f"global_pool {self.global_pool!r} is not known; {nearest(self.global_pool, get_args(GlobalPool))}"
            )
        if any(size < 1 for size in self.dense):
            raise OptionError(f"dense = {self.dense}: sizes must be at least 1")
        _check_dropout(self.dropout)


class ConvStack(nn.Module):
    """Encode feature maps of one length: ``(batch, frames, dim)`` to ``(batch, width)``.

    Parameters
    ----------
    options
        What it is.
    dim
        Width of a frame.

    Attributes
    ----------
    dim : int
        Width of the vector.

    Notes
    -----
    The CNN of Soltani Tehrani et al. 2023 (arXiv 2309.12714) over wav2vec feature maps. Its layers are in no source
    that we could read; those here are ours.

    Examples
    --------
    >>> ConvStack(StackOptions(), dim=16)(torch.randn(2, 50, 16)).shape
    torch.Size([2, 64])
    """

    def __init__(self, options: StackOptions, dim: int) -> None:
        super().__init__()
        flat = [block for block in options.blocks if block.kind == "conv1d"]
        square = [block for block in options.blocks if block.kind == "conv2d"]
        channels, height = 1, dim
        self.pictures = nn.Sequential()
        for block in square:
            self.pictures.append(_block(channels, block))
            channels = block.channels
            height = math.ceil(math.ceil(height / block.stride) / block.max_pool)
        width = channels * height if square else dim
        self.frames = nn.Sequential()
        for block in flat:
            self.frames.append(_block(width, block))
            width = block.channels
        self._pool = options.global_pool
        if not flat:
            width = channels  # the pool runs over features as well
        sizes = [width * (2 if "+" in options.global_pool else 1), *options.dense]
        self.dense = nn.Sequential()
        for before, after in pairwise(sizes):
            self.dense.append(nn.Sequential(nn.Dropout(options.dropout), nn.Linear(before, after), nn.ReLU()))
        self.dense.append(nn.Dropout(options.dropout))
        self.dim = sizes[-1]

    def forward(self, maps: Tensor) -> Tensor:
        """Encode ``maps (batch, frames, dim)``."""
        x = maps.transpose(1, 2)  # (batch, dim, frames)
        if len(self.pictures):
            x = self.pictures(x[:, None])  # (batch, channels, dim, frames)
            x = x.flatten(1, 2) if len(self.frames) else x.flatten(2)
        x = self.frames(x)  # (batch, channels, what is left)
        vector: Tensor = self.dense(_pooled(x, self._pool))
        return vector


def _pooled(x: Tensor, kind: GlobalPool) -> Tensor:
    """Pool ``(batch, channels, positions)`` over all positions."""
    parts = []
    for part in kind.split("+"):
        if part == "mean":
            parts.append(x.mean(-1))
        elif part == "max":
            parts.append(x.amax(-1))
        else:  # the root of a variance of zero has no gradient
            parts.append((x.var(-1, correction=0) + 1e-6).sqrt())
    return torch.cat(parts, dim=-1)


def _block(channels: int, block: ConvBlock) -> nn.Sequential:
    """Return a block that takes ``channels``."""
    convolution: type[nn.Conv1d | nn.Conv2d] = nn.Conv2d
    norm: type[nn.BatchNorm1d | nn.BatchNorm2d] = nn.BatchNorm2d
    pool: type[nn.MaxPool1d | nn.MaxPool2d] = nn.MaxPool2d
    if block.kind == "conv1d":
        convolution, norm, pool = nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d
    layers: list[nn.Module] = [
        convolution(channels, block.channels, block.kernel, block.stride, block.kernel // 2)
    ]
    if block.batch_norm:
        layers.append(norm(block.channels))
    layers.append(nn.ReLU())
    if block.max_pool > 1:
        layers.append(pool(block.max_pool, ceil_mode=True))
    return nn.Sequential(*layers, nn.Dropout(block.dropout))
