"""Measures of frames that depend on their surroundings alone, before anything of the clip is taken off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from subtone.upstreams.prosody import pitch, spectrum
from subtone.upstreams.prosody.pitch import Pitch

HOP = 320  # samples: 20 ms
LONG, SHORT = 960, 640  # samples: 60 ms for the pitch, 40 ms for the spectrum
EXPONENT = 0.3  # from power to loudness (Stevens)
_LONG_FFT = 1280  # room for the longest lag after the window
_RATE_HZ = 16_000
_LONG_BIN_HZ, _SHORT_BIN_HZ = _RATE_HZ / _LONG_FFT, _RATE_HZ / SHORT
_PITCH_BINS = 161  # up to 2 kHz
_CHANGES = 1  # frames to each side that a change is seen over
_F0_MARKS = tuple(range(16, 49, 4))  # semitones over 27.5 Hz

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
    "h1_a3",
    "slope_0_500",
    "slope_500_1500",
    "band_1",
    "band_2",
    "band_3",
    *(f"f0_near_{mark}" for mark in _F0_MARKS),
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
    voiced
        ``(frames, len(VOICED))``.
    loud
        ``(frames, len(LOUD))``.
    """

    energy: Tensor
    loudness: Tensor
    loudness_change: Tensor
    flux: Tensor
    voicing: Tensor
    voicing_change: Tensor
    voiced: Tensor
    loud: Tensor


def measure(samples: Tensor) -> Measures:
    """Measure the frames whose `WINDOW` lies wholly in ``samples``, every `HOP`.

    Parameters
    ----------
    samples
        ``(samples,)`` float32, at least `WINDOW`.
    """
    first = (LONG - SHORT) // 2 + REACH * HOP
    count = (len(samples) - WINDOW) // HOP + 1
    long = _power(samples, LONG, _LONG_FFT)[: count + 2 * REACH]  # (frames + 2 REACH, bins)
    # The frame before and after too, whose changes are looked at.
    around = samples[first - _CHANGES * HOP :]
    short = _power(around, SHORT, SHORT)[: count + 2 * _CHANGES]  # (frames + 2, bins)
    window_power = _power(torch.ones(LONG, device=samples.device), LONG, _LONG_FFT)[0]
    tracked = pitch.track(long[:, :_PITCH_BINS], _LONG_BIN_HZ, window_power[:_PITCH_BINS])  # frames + 2
    bands = spectrum.mel_bands(short, _SHORT_BIN_HZ)  # (frames + 2, NUM_MEL)
    energy = short[:, 2:].sum(dim=1)  # (frames + 2,), from 50 Hz
    heard = bands.clamp(min=1e-20).pow(EXPONENT)  # (frames + 2, NUM_MEL)
    changes = heard[1:-1] - heard[:-2]
    here = slice(_CHANGES, _CHANGES + count)
    return Measures(
        energy=energy[here],
        loudness=heard[here].mean(dim=1),
        loudness_change=changes.mean(dim=1),
        flux=changes.abs().mean(dim=1),
        voicing=tracked.voicing[here],
        voicing_change=(tracked.voicing[1:-1] - tracked.voicing[:-2]).abs(),
        voiced=_voiced(tracked, energy, long[REACH : REACH + count], short[here]),
        loud=_loud(short[here], bands[here]),
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
    first, second = (_partials(long, tracked.weights[1:-1], number) for number in (1, 2))
    third = spectrum.decibels(long[:, round(2_000 / _LONG_BIN_HZ) : round(3_500 / _LONG_BIN_HZ)].amax(dim=1))
    marks = torch.tensor(_F0_MARKS, device=f0.device)
    near = (1 - (here[:, None] - marks).abs() / 4).clamp(min=0)  # (frames, marks)
    columns = [
        here,
        change.clamp(min=0),
        (-change).clamp(min=0),
        jitter,
        spectrum.decibels(ratio) - spectrum.decibels(1 - ratio),
        shimmer,
        (first - second).clamp(-40, 40),
        (first - third).clamp(-20, 80),
        spectrum.slope(short, _SHORT_BIN_HZ, 0, 500),
        spectrum.slope(short, _SHORT_BIN_HZ, 500, 1_500),
        spectrum.centroid(short, _SHORT_BIN_HZ, 200, 1_000),
        spectrum.centroid(short, _SHORT_BIN_HZ, 1_000, 2_500),
        spectrum.centroid(short, _SHORT_BIN_HZ, 2_500, 4_000),
    ]
    return torch.cat([torch.stack(columns, dim=1), near], dim=1)  # (frames, len(VOICED))


def _loud(short: Tensor, bands: Tensor) -> Tensor:
    columns = [
        spectrum.alpha_ratio(short, _SHORT_BIN_HZ),
        spectrum.hammarberg_index(short, _SHORT_BIN_HZ),
        spectrum.centroid(short, _SHORT_BIN_HZ, 50, 8_000),
        spectrum.flatness(bands),
    ]
    return torch.cat([torch.stack(columns, dim=1), spectrum.cepstra(bands)], dim=1)  # (frames, len(LOUD))


def _partials(power: Tensor, weights: Tensor, number: int) -> Tensor:
    """Return the level of a partial in decibels, ``(frames,)``, each pitch weighed by its probability."""
    where = number * pitch.frequencies_hz(power.device) / _LONG_BIN_HZ  # (lags,), in bins
    below = where.floor().long()
    share = where - below
    levels = spectrum.decibels(power[:, below] * (1 - share) + power[:, below + 1] * share)  # (frames, lags)
    return (weights * levels).sum(dim=1)


def _power(samples: Tensor, window: int, fft: int) -> Tensor:
    """Return power spectra ``(frames, bins)`` of Hann windows every `HOP`; their sum is the mean power."""
    shape = _hann(window).to(samples.device)
    spectra = torch.fft.rfft(samples.unfold(0, window, HOP) * shape, n=fft)
    return (spectra.real.square() + spectra.imag.square()) * (2 / (fft * float(shape.square().sum())))


@lru_cache(maxsize=2)
def _hann(window: int) -> Tensor:
    return torch.hann_window(window, periodic=False)
