"""Measures of frames that depend on their surroundings alone, before anything of the clip is taken off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from subtone.upstreams.prosody import pitch, spectrum
from subtone.upstreams.prosody.pitch import Pitch

HOP = 320  # samples: 20 ms
LONG, SHORT = 960, 640  # samples: 60 ms for the pitch, 40 ms for the spectrum
EXPONENT = 0.3  # from power to loudness (Stevens)
_LONG_FFT = 1280  # room for the longest lag after the window
_RATE_HZ = 16_000
_LONG_BIN_HZ, _SHORT_BIN_HZ = _RATE_HZ / _LONG_FFT, _RATE_HZ / SHORT
_PITCH_BINS, _PARTIALS_BINS = 161, 86  # up to 2 kHz, and to the second partial of the highest pitch
_CHANGES = 1  # frames to each side that a change is seen over
_SYLLABLE = 5  # frames to each side that a loudness peak stands out from

REACH = pitch.REACH + _CHANGES
"""Frames to each side that a frame depends on."""
WINDOW = LONG + 2 * REACH * HOP
"""Samples that a frame depends on, centred on it."""

VOICED = (
    "f0",
    "f0_rise",
    "f0_fall",
    "f0_jitter",
    "harmonicity",
    "shimmer",
    "h1_h2",
    "slope_0_500",
    "slope_500_1500",
)
"""Measures that mean something in voiced frames only."""
LOUD = (
    "alpha_ratio",
    "hammarberg",
    "centroid",
    "flatness",
    *(f"mfcc_{order + 1}" for order in range(spectrum.NUM_CEPSTRA)),
)
"""Measures that mean something where there is sound."""
UNVOICED = ("alpha_ratio_unvoiced", "slope_0_500_unvoiced", "slope_500_1500_unvoiced", "flatness_unvoiced")
"""Measures that mean something where there is sound without a pitch."""


@dataclass(frozen=True)
class Measures:
    """Frames of a stretch of a clip, in the units of its recording.

    Attributes
    ----------
    energy
        ``(frames,)``, mean power of the samples.
    loudness
        ``(frames,)``, mean over mel bands of power to the 0.3.
    loudness_change
        ``(frames,)``, since the frame before.
    flux
        ``(frames,)``, mean over mel bands of the absolute change.
    voicing
        ``(frames,)``, probability.
    voicing_change
        ``(frames,)``, its absolute change since the frame before.
    peak
        ``(frames,)``, 0 to 1: how near a frame is to the loudest of a syllable's length.
    loud, voiced, unvoiced
        ``(frames, len(LOUD))`` and so on.
    """

    energy: Tensor
    loudness: Tensor
    loudness_change: Tensor
    flux: Tensor
    voicing: Tensor
    voicing_change: Tensor
    peak: Tensor
    loud: Tensor
    voiced: Tensor
    unvoiced: Tensor


def measure(samples: Tensor) -> Measures:
    """Measure the frames whose `WINDOW` lies wholly in ``samples``, every `HOP`.

    Parameters
    ----------
    samples
        ``(samples,)`` float32, at least `WINDOW`.
    """
    count = (len(samples) - WINDOW) // HOP + 1
    long = _power(samples, LONG, _LONG_FFT)  # (frames + 2 REACH, bins)
    short = _power(samples[(LONG - SHORT) // 2 :], SHORT, SHORT)[: len(long)]  # (frames + 2 REACH, bins)
    here, around = slice(REACH, REACH + count), slice(REACH - _CHANGES, REACH + count + _CHANGES)
    tracked = pitch.track(long[:, :_PITCH_BINS], _LONG_BIN_HZ, _of_window(samples.device))  # frames + 2
    bands = spectrum.mel_bands(short, _SHORT_BIN_HZ)  # (frames + 2 REACH, NUM_MEL)
    heard = bands.clamp(min=1e-30).pow(EXPONENT)  # (frames + 2 REACH, NUM_MEL)
    changes = heard[here] - heard[REACH - 1 : REACH + count - 1]
    loudness = heard.mean(dim=1)
    top = functional.max_pool1d(loudness[None, None], 2 * _SYLLABLE + 1, 1, _SYLLABLE)[0, 0]
    energy = short[around, 2:].sum(dim=1)  # (frames + 2,), from 50 Hz
    short, bands, middle = short[here], bands[here], slice(_CHANGES, _CHANGES + count)
    return Measures(
        energy=energy[middle],
        loudness=loudness[here],
        loudness_change=changes.mean(dim=1),
        flux=changes.abs().mean(dim=1),
        voicing=tracked.voicing[middle],
        voicing_change=(tracked.voicing[1:-1] - tracked.voicing[:-2]).abs(),
        peak=torch.exp(20 * (loudness / top - 1))[here],
        loud=_loud(short, bands),
        voiced=_voiced(tracked, energy, long[here], short),
        unvoiced=_unvoiced(short, bands),
    )


def _voiced(tracked: Pitch, energy: Tensor, long: Tensor, short: Tensor) -> Tensor:
    f0 = tracked.semitones
    before, here, after = f0[:-2], f0[1:-1], f0[2:]
    # Where a neighbour is not voiced it has no pitch to differ from.
    sure = tracked.voicing[:-2] * tracked.voicing[2:]
    change = ((after - before) / 2).clamp(-6, 6) * sure
    jitter = (here - (before + after) / 2).abs().clamp(max=6) * sure
    level = spectrum.decibels(energy)
    shimmer = (level[1:-1] - (level[:-2] + level[2:]) / 2).abs().clamp(max=20) * sure
    ratio = tracked.periodicity[1:-1].clamp(0.01, 0.999)
    levels = spectrum.decibels(long[:, :_PARTIALS_BINS])  # (frames, bins)
    first, second = (_partials(levels, tracked.weights[1:-1], number) for number in (1, 2))
    columns = [
        here,
        change.clamp(min=0),
        (-change).clamp(min=0),
        jitter,
        spectrum.decibels(ratio) - spectrum.decibels(1 - ratio),
        shimmer,
        (first - second).clamp(-40, 40),
        spectrum.slope(short, _SHORT_BIN_HZ, 0, 500),
        spectrum.slope(short, _SHORT_BIN_HZ, 500, 1_500),
    ]
    return torch.stack(columns, dim=1)  # (frames, len(VOICED))


def _loud(short: Tensor, bands: Tensor) -> Tensor:
    columns = [
        spectrum.alpha_ratio(short, _SHORT_BIN_HZ),
        spectrum.hammarberg_index(short, _SHORT_BIN_HZ),
        spectrum.centroid(short, _SHORT_BIN_HZ, 50, 8_000),
        spectrum.flatness(bands),
    ]
    return torch.cat([torch.stack(columns, dim=1), spectrum.cepstra(bands)], dim=1)  # (frames, len(LOUD))


def _unvoiced(short: Tensor, bands: Tensor) -> Tensor:
    columns = [
        spectrum.alpha_ratio(short, _SHORT_BIN_HZ),
        spectrum.slope(short, _SHORT_BIN_HZ, 0, 500),
        spectrum.slope(short, _SHORT_BIN_HZ, 500, 1_500),
        spectrum.flatness(bands),
    ]
    return torch.stack(columns, dim=1)  # (frames, len(UNVOICED))


def _partials(levels: Tensor, weights: Tensor, number: int) -> Tensor:
    """Return the level of a partial in decibels, ``(frames,)``, each pitch weighed by its probability."""
    between = _interpolation(levels.shape[1], number).to(levels.device)  # (lags, bins)
    return ((weights @ between) * levels).sum(dim=1)


@lru_cache(maxsize=2)
def _interpolation(num_bins: int, number: int) -> Tensor:
    """Return the weights of bins in the level of each pitch's partial, ``(lags, bins)``."""
    where = number * pitch.frequencies_hz() / _LONG_BIN_HZ  # (lags,), in bins
    apart: Tensor = (where[:, None] - torch.arange(num_bins)).abs()
    return (1 - apart).clamp(min=0)


@lru_cache(maxsize=2)
def _of_window(device: torch.device) -> Tensor:
    """Return what dividing an autocorrelation by makes up for the window's decay, ``(lags,)``."""
    power = _power(torch.ones(LONG, device=device), LONG, _LONG_FFT)[:, :_PITCH_BINS]  # (1, bins)
    return pitch.correlation(power, _LONG_BIN_HZ)[0].clamp(min=0.1)


def _power(samples: Tensor, window: int, fft: int) -> Tensor:
    """Return power spectra ``(frames, bins)`` of Hann windows every `HOP`; their sum is the mean power."""
    shape = _hann(window).to(samples.device)
    spectra: Tensor = torch.fft.rfft(samples.unfold(0, window, HOP) * shape, n=fft)
    power = spectra.real.square() + spectra.imag.square()
    return power * (2 / (fft * float(shape.square().sum())))


@lru_cache(maxsize=2)
def _hann(window: int) -> Tensor:
    return torch.hann_window(window, periodic=False)
