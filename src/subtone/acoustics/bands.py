"""What is left of a wave behind a line or a recorder of a narrow band."""

from __future__ import annotations

import numpy as np
import soxr

from subtone.audio import SAMPLE_RATE_HZ
from subtone.speech import Wave

_TELEPHONE_HZ = (300.0, 3_400.0)
_TAPS = 511  # falls by 60 dB within 100 Hz or so


def at_8_khz(wave: Wave) -> Wave:
    """Bring a wave to 8 kHz and back: nothing above 4 kHz is left, length and place stay."""
    if not len(wave):
        return wave
    narrow = soxr.resample(wave, SAMPLE_RATE_HZ, 8_000, quality="HQ")
    wide = soxr.resample(narrow, 8_000, SAMPLE_RATE_HZ, quality="HQ")
    return np.ascontiguousarray(np.pad(wide, (0, max(0, len(wave) - len(wide))))[: len(wave)])


def telephone_band(wave: Wave) -> Wave:
    """Keep 300 to 3,400 Hz, as an analogue telephone line does; without delay, at the same length.

    A linear-phase filter: 6 dB down at the edges, 60 dB at 200 and 3,500 Hz.
    """
    if not len(wave):
        return wave
    low, high = (2 * hz / SAMPLE_RATE_HZ for hz in _TELEPHONE_HZ)
    at = np.arange(_TAPS) - _TAPS // 2
    taps = (high * np.sinc(high * at) - low * np.sinc(low * at)) * np.kaiser(_TAPS, 5.65)  # (taps,)
    filtered = np.convolve(wave, taps.astype(np.float32))[_TAPS // 2 :][: len(wave)]
    return np.ascontiguousarray(filtered)
