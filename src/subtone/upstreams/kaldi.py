"""Kaldi's log-mel filter banks and deltas on torch tensors: vectorised, differentiable, on any device.

The numbers are those of Kaldi's ``compute-fbank-feats --dither=0`` and ``add-deltas``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE_HZ = 16_000
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
FULL_SCALE = 32_768.0  # Kaldi reads 16-bit integers as they are
_FFT = 512
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0
_FLOOR = 1.1920928955078125e-07  # float32 epsilon, Kaldi's floor under the logarithm
_BLOCK = 8192  # frames a piece, so that hours of audio need no more memory than minutes


def filter_bank(wave: Tensor, num_mel: int = 80) -> Tensor:
    """Return the log-mel filter-bank energies of a clip.

    Frames of 25 ms every 10 ms, only where they fit (``snip-edges``); each frame loses its mean, is
    pre-emphasised (0.97, also its first sample), windowed (Povey), transformed (512 points), squared, pooled
    by triangles on the mel scale from 20 Hz to 8 kHz, floored at 1.2e-7 and logged (natural).

    Parameters
    ----------
    wave
        ``(samples,)`` float in [-1, 1], 16 kHz, at least 400 samples. It is scaled to 16-bit integers' range
        first.
    num_mel
        Triangles, 80 by default.

    Returns
    -------
    Tensor
        ``(frames, num_mel)`` float32, ``frames = (samples - 400) // 160 + 1``.

    Examples
    --------
    >>> filter_bank(torch.zeros(560)).shape
    torch.Size([2, 80])
    """
    # Double precision where there is any: quiet bands lie twelve orders below loud ones.
    exact = torch.float32 if wave.device.type == "mps" else torch.float64
    window = _povey(exact, wave.device)  # (window,)
    triangles = _triangles(num_mel).to(wave.device, exact)  # (bins, num_mel)
    frames = (wave * FULL_SCALE).unfold(0, WINDOW, HOP)  # (frames, window)
    blocks = []
    for block in torch.split(frames, _BLOCK):
        x = block.to(exact)
        x = x - x.mean(dim=1, keepdim=True)
        x = torch.cat([x[:, :1] * (1 - _PREEMPHASIS), x[:, 1:] - _PREEMPHASIS * x[:, :-1]], dim=1)
        spectrum = torch.fft.rfft(x * window, n=_FFT)[:, :-1]  # (frames, bins): Kaldi leaves out Nyquist's
        power = spectrum.real.square() + spectrum.imag.square()
        blocks.append((power @ triangles).clamp(min=_FLOOR).log().float())  # (frames, num_mel)
    return torch.cat(blocks)


def add_deltas(features: Tensor, order: int = 2) -> Tensor:
    """Append time derivatives up to ``order`` to each frame.

    ``d_t = sum_{n=-2..2} n x_{t+n} / 10``, the higher orders by the same filter run over itself; beyond its
    ends a clip goes on with its first and last frame.

    Parameters
    ----------
    features
        ``(frames, dim)``.
    order
        Highest derivative; 0 returns the features as they are.

    Returns
    -------
    Tensor
        ``(frames, dim * (order + 1))``: static, first, second, ...

    Examples
    --------
    >>> add_deltas(torch.arange(5.0)[:, None], order=1)[2]
    tensor([2., 1.])
    """
    ramp = torch.arange(-2.0, 3.0, device=features.device, dtype=features.dtype) / 10
    parts = [features]
    weights = torch.ones(1, device=features.device, dtype=features.dtype)
    for _ in range(order):
        # The filter of the next order: this one convolved with the ramp.
        weights = functional.conv1d(weights.view(1, 1, -1), ramp.flip(0).view(1, 1, -1), padding=4).flatten()
        reach = len(weights) // 2
        positions = torch.arange(len(features), device=features.device)[:, None]  # (frames, 1)
        around = torch.arange(-reach, reach + 1, device=features.device)[None]  # (1, taps)
        taps = features[(positions + around).clamp(0, len(features) - 1)]  # (frames, taps, dim)
        parts.append(torch.einsum("ftd,t->fd", taps, weights))
    return torch.cat(parts, dim=1)


def reach(order: int) -> int:
    """Return how many frames to each side the derivatives up to ``order`` see."""
    return 2 * order


def deltas_in_blocks(blocks: Iterable[Tensor], order: int) -> Iterator[Tensor]:
    """Yield what `add_deltas` gives of a whole clip, block by block.

    Parameters
    ----------
    blocks
        The features of a clip in order, each ``(frames, dim)``; at least one frame in all.
    order
        As for `add_deltas`.
    """
    margin, start = reach(order), 0
    held: Tensor | None = None
    for block in blocks:
        held = block if held is None else torch.cat([held, block])
        if len(held) <= 2 * margin:
            continue
        yield add_deltas(held, order)[start : len(held) - margin]
        held, start = held[len(held) - 2 * margin :], margin
    if held is not None:
        yield add_deltas(held, order)[start:]


def _povey(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the window ``(0.5 - 0.5 cos(2 pi i / (N - 1))) ** 0.85``."""
    return torch.hann_window(WINDOW, periodic=False, dtype=dtype, device=device).pow(0.85)


@lru_cache(maxsize=8)
def _triangles(num_mel: int) -> Tensor:
    """Return the weights of the triangular mel filters over the FFT bins, ``(256, num_mel)`` float64."""

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    nyquist = SAMPLE_RATE_HZ / 2
    low, high = (1127.0 * math.log1p(hz / 700.0) for hz in (_LOW_HZ, nyquist))
    step = (high - low) / (num_mel + 1)
    left = low + step * torch.arange(num_mel, dtype=torch.float64)  # (num_mel,)
    bins = mel(torch.arange(_FFT // 2, dtype=torch.float64) * SAMPLE_RATE_HZ / _FFT)[:, None]  # (bins, 1)
    rising, falling = (bins - left) / step, (left + 2 * step - bins) / step  # (bins, num_mel)
    return torch.minimum(rising, falling).clamp(min=0.0)
