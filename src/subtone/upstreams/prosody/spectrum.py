"""What a short-time power spectrum tells of the voice: tilt, slopes, balance of bands, cepstrum, flux."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

NUM_MEL = 24
NUM_CEPSTRA = 4
_DB = 10 / math.log(10)


def decibels(power: Tensor) -> Tensor:
    """Return ``10 log10``, of nothing -300."""
    return _DB * power.clamp(min=1e-30).log()


def mel_bands(power: Tensor, bin_hz: float) -> Tensor:
    """Return ``(frames, NUM_MEL)``: power in triangles on the mel scale from 50 Hz to 8 kHz."""
    return power @ _triangles(power.shape[1], bin_hz).to(power.device)


def cepstra(bands: Tensor) -> Tensor:
    """Return cepstral coefficients 1 to `NUM_CEPSTRA` of mel bands, ``(frames, NUM_CEPSTRA)``; no gain in them."""
    floored = bands + 1e-5 * bands.mean(dim=1, keepdim=True) + 1e-30
    return floored.log() @ _cosines().to(bands.device)


def alpha_ratio(power: Tensor, bin_hz: float) -> Tensor:
    """Return energy of 50 Hz to 1 kHz over that of 1 to 5 kHz, in decibels, ``(frames,)``."""
    return _ratio(_band(power, bin_hz, 50, 1_000).sum(dim=1), _band(power, bin_hz, 1_000, 5_000).sum(dim=1))


def hammarberg_index(power: Tensor, bin_hz: float) -> Tensor:
    """Return the strongest partial of 0 to 2 kHz over that of 2 to 5 kHz, in decibels, ``(frames,)``."""
    return _ratio(_band(power, bin_hz, 0, 2_000).amax(dim=1), _band(power, bin_hz, 2_000, 5_000).amax(dim=1))


def slope(power: Tensor, bin_hz: float, low_hz: float, high_hz: float) -> Tensor:
    """Return the slope of the spectrum in decibels between two frequencies, in dB per kHz, ``(frames,)``."""
    levels = _levels(_band(power, bin_hz, low_hz, high_hz), power)  # (frames, bins)
    khz = torch.linspace(0, (levels.shape[1] - 1) * bin_hz / 1_000, levels.shape[1], device=power.device)
    khz = khz - khz.mean()
    return levels @ (khz / khz.square().sum())


def centroid(power: Tensor, bin_hz: float, low_hz: float, high_hz: float) -> Tensor:
    """Return the centre of gravity of amplitude between two frequencies, in kHz, ``(frames,)``."""
    band = _band(power, bin_hz, low_hz, high_hz).clamp(min=1e-30).sqrt()
    khz = (round(low_hz / bin_hz) + torch.arange(band.shape[1], device=power.device)) * bin_hz / 1_000
    return (band @ khz) / band.sum(dim=1)


def flatness(bands: Tensor) -> Tensor:
    """Return the geometric over the arithmetic mean of mel bands in decibels, ``(frames,)``: 0 is flat."""
    floored = bands + 1e-5 * bands.mean(dim=1, keepdim=True) + 1e-30
    return _DB * floored.log().mean(dim=1) - decibels(floored.mean(dim=1))


def _band(power: Tensor, bin_hz: float, low_hz: float, high_hz: float) -> Tensor:
    return power[:, round(low_hz / bin_hz) : round(high_hz / bin_hz) + 1]


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    """Return a ratio in decibels, within 60 of even."""
    return _DB * ((one + 1e-6 * other + 1e-30).log() - (other + 1e-6 * one + 1e-30).log())


def _levels(band: Tensor, power: Tensor) -> Tensor:
    """Return decibels, floored 60 below the strongest of the frame."""
    return _DB * (band + 1e-6 * power.amax(dim=1, keepdim=True) + 1e-30).log()


@lru_cache(maxsize=2)
def _triangles(num_bins: int, bin_hz: float) -> Tensor:
    """Return triangles over the bins, equally wide on the mel scale, ``(bins, NUM_MEL)``."""

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    low, high = mel(torch.tensor([50.0, 8_000.0], dtype=torch.float64))
    step = (high - low) / (NUM_MEL + 1)
    left = low + step * torch.arange(NUM_MEL, dtype=torch.float64)  # (NUM_MEL,)
    bins = mel(bin_hz * torch.arange(num_bins, dtype=torch.float64))[:, None]  # (bins, 1)
    rising, falling = (bins - left) / step, (left + 2 * step - bins) / step  # (bins, NUM_MEL)
    return torch.minimum(rising, falling).clamp(min=0.0).float()


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """Return the discrete cosine transform without its mean, ``(NUM_MEL, NUM_CEPSTRA)``."""
    band = torch.arange(NUM_MEL, dtype=torch.float64)[:, None] + 0.5
    order = torch.arange(1, NUM_CEPSTRA + 1, dtype=torch.float64)
    return (torch.cos(math.pi / NUM_MEL * band * order) * math.sqrt(2 / NUM_MEL)).float()
