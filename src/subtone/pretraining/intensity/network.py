"""The network of the intensity model: log-mel frames to one score every 40 ms, from what lies around each alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from subtone.errors import BundleError

NUM_MEL = 80
STRIDE = 4  # frames of 10 ms to one step of the network: intensity moves slowly
QUIETEST = -9.0  # 39 dB under the clip's level: below lie the rooms and codecs of corpora, not voices
_SILENT = (
    math.log(1.1920928955078125e-07) - QUIETEST
)  # a level so near the floor of the filter banks is no voice
_CHUNK = 3_000  # steps at once, two minutes, so that memory does not grow with the recording

_Count = TypeVar("_Count", int, Tensor)


@dataclass(frozen=True)
class IntensityOptions:
    """Sizes of the network.

    Attributes
    ----------
    hidden
        Channels, 1 to 1024.
    kernel
        Steps that a convolution sees, odd, at most 31.
    dilations
        Distance between these steps in each residual block, 1 to 256; at most 32 blocks.
    dropout
        Share of channels that training leaves out, in ``[0, 1)``.

    Raises
    ------
    BundleError
        If a value is out of range: a saved model from a stranger must not ask for all memory.
    """

    hidden: int = 64
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        fits = (
            _whole(self.hidden, 1024)
            and _whole(self.kernel, 31)
            and self.kernel % 2 == 1
            and isinstance(self.dilations, tuple)
            and len(self.dilations) <= 32
            and all(_whole(dilation, 256) for dilation in self.dilations)
            and isinstance(self.dropout, int | float)
            and 0 <= self.dropout < 1
        )
        if not fits:
            raise BundleError(
                f"intensity network: {self} is out of range; take hidden 1–1024, kernel odd and at most 31, at most "
                "32 dilations of 1–256, dropout in [0, 1)"
            )


class IntensityNetwork(nn.Module):
    """Dilated convolutions over log-mel frames whose level was taken off.

    A step sees `reach` steps to each side and nothing else, so a clip may be cut anywhere, and what lies far
    away, or in another clip of the batch, changes nothing.

    Parameters
    ----------
    options
        Sizes.

    Source
    ------
    The task is StrengthNet's (Liu, Sisman & Li 2021, arXiv 2110.03156): mel frames in, one strength a frame, a clip's
    strength their mean. The network is ours: convolutions alone instead of 2-D convolutions and an LSTM.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, options: IntensityOptions | None = None) -> None:
        super().__init__()
        self.options = options or IntensityOptions()
        hidden = self.options.hidden
        # What training saw of each band, the level taken off.
        self.register_buffer("mean", torch.zeros(NUM_MEL))
        self.register_buffer("scale", torch.ones(NUM_MEL))
        self.front = nn.Conv1d(NUM_MEL, hidden, 2 * STRIDE, stride=STRIDE, padding=STRIDE // 2)
        self.blocks = nn.ModuleList(_Block(self.options, dilation) for dilation in self.options.dilations)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, 1)

    @property
    def reach(self) -> int:
        """Steps to each side whose frames a step sees."""
        return 1 + sum(self.options.dilations) * (self.options.kernel // 2)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return a logit a step.

        Parameters
        ----------
        frames
            ``(batch, frames, 80)`` from `level_free`; padding may hold anything finite.
        lengths
            ``(batch,)`` frames of each clip.

        Returns
        -------
        Tensor
            ``(batch, steps)``, ``steps = ceil(frames / 4)``; step ``j`` stands for frames ``4j`` to ``4j + 3``. A
            clip of n frames has ``ceil(n / 4)`` of them, what follows is padding.
        """
        longest = -(-frames.shape[1] // STRIDE) * STRIDE
        x = (frames - self.mean) / self.scale  # (batch, frames, 80)
        x = x * (torch.arange(frames.shape[1], device=x.device) < lengths[:, None])[..., None]
        x = functional.pad(x, (0, 0, 0, longest - frames.shape[1])).transpose(1, 2)  # (batch, 80, frames)
        x = self.front(x).transpose(1, 2)  # (batch, steps, hidden)
        valid = (torch.arange(x.shape[1], device=x.device) < num_steps(lengths)[:, None])[..., None]
        for block in self.blocks:
            x = block(x, valid)
        logits: Tensor = self.head(self.norm(x)).squeeze(-1)  # (batch, steps)
        return logits

    @torch.no_grad()
    def curve(self, frames: Tensor) -> Tensor:
        """Return the intensity of every frame of one clip, ``(frames,)`` in [0, 1], from ``(frames, 80)``.

        Steps are 40 ms apart; between their middles the logit is interpolated linearly, before the first and after
        the last it stays. Long clips go through in pieces that see all that their steps see of the whole.
        """
        steps, margin = num_steps(len(frames)), self.reach
        pieces = []
        for start in range(0, steps, _CHUNK):
            first, stop = max(0, start - margin), min(steps, start + _CHUNK + margin)
            part = frames[first * STRIDE : stop * STRIDE]
            logits = self(part[None], torch.tensor([len(part)], device=part.device))[
                0
            ]  # (steps of the piece,)
            pieces.append(logits[start - first : min(start + _CHUNK, steps) - first])
        return torch.sigmoid(between(torch.cat(pieces), len(frames)))


class _Block(nn.Module):
    """Norm, dilated convolution, GELU, mixing of channels; added to what came in."""

    def __init__(self, options: IntensityOptions, dilation: int) -> None:
        super().__init__()
        hidden = options.hidden
        self.norm = nn.LayerNorm(hidden)
        self.convolution = nn.Conv1d(
            hidden, hidden, options.kernel, dilation=dilation, padding=dilation * (options.kernel // 2)
        )
        self.dropout = nn.Dropout1d(options.dropout)  # whole channels: as good, and far fewer random numbers
        self.mixing = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map ``(batch, steps, hidden)``; ``valid (batch, steps, 1)`` keeps padding from being heard."""
        y = (self.norm(x) * valid).transpose(1, 2)  # (batch, hidden, steps)
        y = self.dropout(functional.gelu(self.convolution(y))).transpose(1, 2)  # (batch, steps, hidden)
        out: Tensor = x + self.mixing(y)
        return out


def num_steps(num_frames: _Count) -> _Count:
    """Return how many steps a clip of so many frames has."""
    return -(-num_frames // STRIDE)


def between(steps: Tensor, num_frames: int) -> Tensor:
    """Interpolate ``(steps,)`` linearly to ``(num_frames,)``; the middle of step ``j`` lies at frame ``4j + 1.5``.

    Examples
    --------
    >>> between(torch.tensor([0.0, 4.0]), 8)
    tensor([0.0000, 0.0000, 0.5000, 1.5000, 2.5000, 3.5000, 4.0000, 4.0000])
    """
    at = (torch.arange(num_frames, device=steps.device) - (STRIDE - 1) / 2) / STRIDE  # (frames,), in steps
    at = at.clamp(0, len(steps) - 1)
    before = at.floor().long()
    after = (before + 1).clamp(max=len(steps) - 1)
    return torch.lerp(steps[before], steps[after], (at - before).to(steps.dtype))


def loudness(banks: Tensor) -> Tensor:
    """Return the logarithm of each frame's energy, ``(frames,)``, from ``(frames, 80)`` log-mel values."""
    return banks.logsumexp(1) - math.log(banks.shape[1])


def level_free(banks: Tensor) -> Tensor:
    """Take a clip's level off its filter banks, and floor what is far below.

    The level is ``log Σ e² − log Σ e`` over the energies e of its frames, as for ``fbank+level``: silence around speech
    does not move it. Values under 39 dB below it are set there, so that digital silence is quiet and not a level of its
    own.

    Parameters
    ----------
    banks
        ``(frames, 80)`` log-mel values of a whole clip.

    Returns
    -------
    Tensor
        ``(frames, 80)``; the same whatever the recording's gain, down to the floor of the filter banks.
    """
    return (banks - level_of(banks).clamp(min=_SILENT)).clamp(min=QUIETEST)


def level_of(banks: Tensor) -> Tensor:
    """Return the level of a clip, a number, from its filter banks ``(frames, 80)``; see `level_free`."""
    energy = loudness(banks)  # (frames,)
    return (2 * energy).logsumexp(0) - energy.logsumexp(0)


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
