"""Pitch: how surely a frame is voiced and at what fundamental frequency, octave errors smoothed away.

Autocorrelations at lags spaced like semitones give each frame's evidence; a chain of hidden pitches, read forwards
and backwards over a fixed number of frames, weighs it against its neighbours'. So a frame depends on a bounded
stretch of the clip, and a chunk tells as much as the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

REACH = 8
"""Frames to each side that the chain of hidden pitches sees."""
LOW_HZ = 55.0
"""The lowest fundamental frequency; an octave over the reference of the semitones, 27.5 Hz."""
SEMITONES = 39
"""How far the highest fundamental frequency lies above the lowest: 523 Hz."""
_LOW_SEMITONE = 12.0
_FINE = 6  # lags a semitone
_STATE = 3  # lags a hidden pitch: half a semitone
_SHARPNESS = 14.0  # of the evidence, a natural logarithm for each unit of correlation
_THRESHOLD = 0.38  # correlation at which voiced and unvoiced are equally likely
_OCTAVE_COST = 0.02  # of correlation, for each octave down: a period is also periodic twice over
_SWITCH = 0.06  # probability that voicing changes from a frame to the next
_GLIDE = 0.6  # semitones over which the probability of a change of pitch falls by e
_LEAP = 0.01  # probability of any other pitch
_PICKING = 30.0  # sharpness of the choice among the lags of a hidden pitch
_NEAR = 1.0  # semitones from the pitch where periodicity is not looked for any more
_COMPRESSION = 0.6  # of the spectrum for the evidence: formants weigh less, partials stay


@dataclass(frozen=True)
class Pitch:
    """The pitch of frames.

    Attributes
    ----------
    voicing
        ``(frames,)``, the probability that a frame is voiced.
    semitones
        ``(frames,)``, the fundamental frequency in semitones over 27.5 Hz, were the frame voiced.
    weights
        ``(frames, lags)``, how sure each lag of `frequencies_hz` is; rows sum to 1.
    periodicity
        ``(frames,)``, the correlation of a frame with itself one period on, 0 to 1.
    """

    voicing: Tensor
    semitones: Tensor
    weights: Tensor
    periodicity: Tensor


@lru_cache(maxsize=1)
def frequencies_hz() -> Tensor:
    """Return the fundamental frequencies that are looked at, ``(lags,)``."""
    return 27.5 * torch.exp2(_semitones() / 12)


def correlation(power: Tensor, bin_hz: float) -> Tensor:
    """Return autocorrelations at one period of each of `frequencies_hz`, ``(frames, lags)``, at most 1.

    Parameters
    ----------
    power
        ``(frames, bins)``, power spectra from 0 Hz on.
    bin_hz
        From one bin to the next.
    """
    cosines = _cosines(power.shape[1], bin_hz).to(power.device)  # (bins, lags)
    return (power @ cosines) / (power.sum(dim=1, keepdim=True) + 1e-30)


def track(power: Tensor, bin_hz: float, of_window: Tensor) -> Pitch:
    """Return the pitch of frames; `REACH` frames are lost at each end.

    Parameters
    ----------
    power
        ``(frames, bins)``, from 0 Hz on, of windows that hold at least two of the longest periods, transformed
        with as many zeros as the longest lag.
    bin_hz
        From one bin to the next.
    of_window
        ``(lags,)``, autocorrelation of the window alone, by which the frames' is divided (Boersma 1993).

    Returns
    -------
    Pitch
        Of ``frames - 2 * REACH`` frames.
    """
    middle = slice(REACH, len(power) - REACH)
    grid = _semitones().to(power.device)  # (lags,)
    # Not the power alone: a root of nothing has no gradient.
    flat = power * (power + 1e-30).pow(_COMPRESSION - 1)  # (frames, bins)
    evidence = correlation(flat, bin_hz) - _OCTAVE_COST / 12 * (grid[-1] - grid)  # (frames, lags)
    states = _smoothed(evidence)  # (frames - 2 REACH, states)
    voiced = states[:, :-1]
    # Sharpened, so that what little an octave error still has weighs next to nothing in the mean.
    weights = voiced.square().repeat_interleave(_STATE, dim=1) * torch.exp(_PICKING * evidence[middle])
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-30)  # (frames - 2 REACH, lags)
    semitones = weights @ grid
    away = ((grid - semitones[:, None]) / _NEAR).square()  # (frames - 2 REACH, lags)
    periodic = correlation(power[middle], bin_hz) / of_window
    return Pitch(voiced.sum(dim=1), semitones, weights, (periodic - away).amax(dim=1).clamp(0.0, 1.0))


def _smoothed(evidence: Tensor) -> Tensor:
    """Return the probability of each hidden pitch, unvoiced last, ``(frames - 2 REACH, states)``."""
    best = evidence.reshape(len(evidence), -1, _STATE).amax(dim=2)  # (frames, states - 1)
    likely = torch.exp(_SHARPNESS * (best - _THRESHOLD))
    likely = torch.cat([likely, torch.ones_like(likely[:, :1])], dim=1)  # (frames, states)
    likely = likely / likely.amax(dim=1, keepdim=True)
    transitions, prior = (part.to(evidence) for part in _chain())
    before, after = prior.expand_as(likely), torch.ones_like(likely)
    for _ in range(REACH):
        # What a frame passes on, its neighbour has heard; the outermost frames are dropped in the end.
        before = torch.cat([prior[None], _normed((before * likely) @ transitions)[:-1]])
        after = torch.cat([_normed((after * likely) @ transitions.T)[1:], after[-1:]])
    return _normed(before * likely * after)[REACH : len(evidence) - REACH]


def _normed(rows: Tensor) -> Tensor:
    return rows / rows.sum(dim=1, keepdim=True)


@lru_cache(maxsize=1)
def _chain() -> tuple[Tensor, Tensor]:
    """Return the probabilities of change ``(states, states)`` and the states' own ``(states,)``, unvoiced last."""
    count = SEMITONES * _FINE // _STATE
    where = torch.arange(count) * _STATE / _FINE  # semitones
    glide = torch.exp(-(where[:, None] - where).abs() / _GLIDE)
    glide = (1 - _LEAP) * glide / glide.sum(dim=1, keepdim=True) + _LEAP / count
    transitions = torch.empty(count + 1, count + 1)
    transitions[:-1, :-1], transitions[:-1, -1] = (1 - _SWITCH) * glide, _SWITCH
    transitions[-1, :-1], transitions[-1, -1] = _SWITCH / count, 1 - _SWITCH
    prior = torch.full((count + 1,), 0.5 / count)
    prior[-1] = 0.5
    return transitions, prior


@lru_cache(maxsize=1)
def _semitones() -> Tensor:
    """Return the lags' semitones over 27.5 Hz, ``(lags,)``, rising."""
    return _LOW_SEMITONE + (torch.arange(SEMITONES * _FINE) + 0.5) / _FINE


@lru_cache(maxsize=4)
def _cosines(num_bins: int, bin_hz: float) -> Tensor:
    """Return what turns a power spectrum into autocorrelations at the lags, ``(bins, lags)``."""
    hz = bin_hz * torch.arange(num_bins, dtype=torch.float64)[:, None]
    return torch.cos(2 * math.pi * hz / frequencies_hz().double()).float()
