"""Coloured noise, and a wave in it."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from subtone.acoustics.levels import rms
from subtone.audio import SAMPLE_RATE_HZ
from subtone.speech import Wave

_COLOUR_FROM_HZ = 50.0  # flat below, lest brown noise be all rumble that nobody hears


def coloured_noise(length: int, slope_db: float, rng: np.random.Generator) -> Wave:
    """Return Gaussian noise, ``(length,)``, whose spectrum changes by ``slope_db`` per octave from 50 Hz; of any level.

    White noise has a slope of 0, pink of -3, brown of -6, blue of 3.

    Parameters
    ----------
    length
        Samples, 1 or more.
    slope_db
        dB per octave.
    rng
        Gives the samples; no more is drawn for a colour than for another.
    """
    size = scipy.fft.next_fast_len(length, real=True)
    bins = size // 2 + 1
    parts = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)  # (bins,)
    hz = np.arange(bins, dtype=np.float32) * np.float32(SAMPLE_RATE_HZ / size)
    octaves = np.log2(np.maximum(hz, np.float32(_COLOUR_FROM_HZ)) / np.float32(_COLOUR_FROM_HZ))
    parts *= np.exp2(octaves * np.float32(slope_db / (20 * math.log10(2))))
    parts[0] = 0  # no offset
    noise: Wave = scipy.fft.irfft(parts, size)[:length]
    return noise


def with_noise(wave: Wave, noise: Wave, snr_db: float, *, level: float | None = None) -> Wave:
    """Add noise so that the wave lies ``snr_db`` above it, by the RMS of both over their whole length.

    A silent wave, for which no level could be told, and silent noise change nothing.

    Parameters
    ----------
    wave, noise
        ``(samples,)`` float32, equally long; the noise of any level.
    level
        RMS that counts as the wave's, e.g. that of a clip in it; None: that of the whole wave.
    """
    given = rms(noise)
    if given == 0:  # a pause in the recording, or a wave of one sample
        return wave
    return wave + noise * np.float32((rms(wave) if level is None else level) / given * 10 ** (-snr_db / 20))
