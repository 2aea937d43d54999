"""Reverberation: a wave as it sounds in a room, in place and at its level."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from subtone.acoustics.levels import rms
from subtone.acoustics.randomness import Seed, stream
from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError
from subtone.speech import Wave

SHORTEST_S, LONGEST_S = 0.05, 10.0
"""Reverberation times that can be asked for; shorter, and a single reflection could exceed the direct sound."""


def reverberate(wave: Wave, rt60_s: float, seed: Seed, *, direct_db: float = 0.0) -> Wave:
    """Put a wave into a room: exponentially decaying noise behind the direct sound.

    Length, level (RMS) and the place of the direct sound stay; the tail behind the end is cut off.

    Parameters
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz.
    rt60_s
        Seconds until the reverberation has decayed by 60 dB, within [0.05, 10]: 0.3 an office, 0.6 a meeting room,
        1.0 a lecture hall.
    seed
        Draws the reflections.
    direct_db
        Energy of the direct sound over that of the reverberation in dB. 0: as far away as the room's critical
        distance, across a table; a microphone near the mouth has 12 and more.

    Raises
    ------
    UsageError
        If the reverberation time is out of its range.

    Source
    ------
    Decaying Gaussian noise as a model of late reverberation: Polack 1988 (thesis, Université du Maine).
    """
    if not SHORTEST_S <= rt60_s <= LONGEST_S:
        raise UsageError(f"reverberate: rt60_s = {rt60_s!r} must lie within [{SHORTEST_S:g}, {LONGEST_S:g}]")
    return in_room(wave, decaying_noise(rt60_s, stream(seed, 0), (direct_db, direct_db)))


def in_room(wave: Wave, response: Wave) -> Wave:
    """Convolve a wave with an impulse response; its length, level (RMS) and the place of the direct sound stay.

    Parameters
    ----------
    wave
        ``(samples,)`` float32. A silent one comes back as it is.
    response
        ``(samples,)`` float32, not silent; the direct sound is its peak.
    """
    before = rms(wave)
    if before == 0:
        return wave
    wet = convolved(wave, response)
    after = rms(wet)
    # The level stays: rooms that were recorded at any level must not act as a second, unbounded gain.
    return wet * np.float32(before / after) if after > 0 else wave


def decaying_noise(rt60_s: float, rng: np.random.Generator, direct_db: tuple[float, float]) -> Wave:
    """Return an impulse response: the direct sound at sample 0, noise that falls by 60 dB in ``rt60_s`` behind it.

    Parameters
    ----------
    rt60_s
        Seconds.
    rng
        Gives the noise, then the ratio.
    direct_db
        Range of the energy of the direct sound over that of the noise in dB, from which one is drawn.
    """
    times = np.arange(1, max(2, round(rt60_s * SAMPLE_RATE_HZ)), dtype=np.float32)
    tail = rng.standard_normal(len(times), dtype=np.float32)
    tail *= np.exp(times * np.float32(-3 * math.log(10) / (rt60_s * SAMPLE_RATE_HZ)))
    energy = float(np.square(tail, dtype=np.float64).sum())
    ratio_db = rng.uniform(*direct_db)
    tail *= np.float32(10 ** (-ratio_db / 20) / math.sqrt(energy))
    return np.concatenate([np.ones(1, dtype=np.float32), tail])


def convolved(wave: Wave, response: Wave) -> Wave:
    """Convolve and shift so that the direct sound, the response's peak, does not move; same length."""
    length = len(wave)
    direct = int(np.abs(response).argmax())
    # What lies further off the peak than the clip is long cannot be heard.
    first = max(0, direct - length + 1)
    used = response[first : direct + length] / np.abs(response[direct])
    direct -= first
    size = scipy.fft.next_fast_len(length + len(used) - 1, real=True)
    # In float32, and in one piece: faster than scipy.signal's convolutions at these lengths.
    spectrum = scipy.fft.rfft(wave, size) * scipy.fft.rfft(used, size)
    wet: Wave = scipy.fft.irfft(spectrum, size)[direct : direct + length]
    return wet
