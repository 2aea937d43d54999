"""A tape that runs at another speed: time and pitch change alike."""

from __future__ import annotations

import numpy as np
import soxr

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError
from subtone.speech import Wave

SLOWEST, FASTEST = 0.25, 4.0


def at_speed(wave: Wave, factor: float) -> Wave:
    """Compress time by a factor, pitch included: ``(samples,)`` → ``(round(samples / factor),)``, at least 1.

    Parameters
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz.
    factor
        Above 1 faster and higher, within [0.25, 4].

    Raises
    ------
    UsageError
        If the factor is out of its range.
    """
    if not SLOWEST <= factor <= FASTEST:
        raise UsageError(f"at_speed: factor = {factor!r} must lie within [{SLOWEST:g}, {FASTEST:g}]")
    if factor == 1.0 or not len(wave):
        return wave
    # To another rate, then taken for 16 kHz again; the rate need be no whole number.
    changed = soxr.resample(wave, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ / factor, quality="HQ")
    return fitted(changed, length_at(len(wave), factor))


def length_at(samples: int, factor: float) -> int:
    """Return how many samples so many become at another speed.

    >>> length_at(3, 2.0), length_at(1, 4.0), length_at(0, 4.0)
    (2, 1, 0)
    """
    return max(round(samples / factor), min(samples, 1))


def fitted(wave: Wave, length: int) -> Wave:
    """Cut a wave to a length, or fill it up with zeros."""
    if len(wave) < length:
        wave = np.pad(wave, (0, length - len(wave)))
    return np.ascontiguousarray(wave[:length], dtype=np.float32)
