"""How loud a wave is, and what a recorder's level knob does to it: gain, and clipping where it was set too high."""

from __future__ import annotations

import math

import numpy as np

from subtone.errors import UsageError
from subtone.speech import Wave


def rms(wave: Wave) -> float:
    """Return the root of the mean square of ``(samples,)``, 1.0 for full scale; 0 for a wave without samples."""
    if not len(wave):
        return 0.0
    # No dot product: BLAS adds in an order that depends on its number of threads.
    return math.sqrt(float(np.square(wave, dtype=np.float64).mean()))


def gain(wave: Wave, by_db: float) -> Wave:
    """Make a wave louder (or softer, below 0) by so many dB.

    Nothing is clipped: samples are floats, and may go beyond [-1, 1]. What a recorder makes of that is `clip`.

    Raises
    ------
    UsageError
        If the gain is no finite number.

    Examples
    --------
    >>> gain(np.array([0.5, -0.1], np.float32), 20.0).tolist()
    [5.0, -1.0]
    """
    if not math.isfinite(by_db):
        raise UsageError(f"gain: {by_db!r} dB must be a finite number")
    return wave * np.float32(10 ** (by_db / 20))


def clip(wave: Wave, share: float) -> Wave:
    """Clip a wave hard, as a recorder does whose level was set too high; so much of it saturates.

    The ceiling is the quantile ``1 - share`` of the samples' magnitudes, so that a clip suffers alike whatever its
    level and however much its peaks stand out. The level stays that of the given wave below the ceiling: clipping and
    gain are two conditions.

    Parameters
    ----------
    wave
        ``(samples,)`` float32.
    share
        Share of the samples that lie at the ceiling afterwards (more only where magnitudes are equal), in [0, 1).
        0 changes nothing; speech clipped at 0.01 sounds harsh, at 0.1 broken.

    Raises
    ------
    UsageError
        If the share lies outside [0, 1).

    Examples
    --------
    >>> clip(np.array([0.25, -0.75, 0.5, 0.125], np.float32), 0.5).tolist()
    [0.25, -0.5, 0.5, 0.125]
    """
    if not 0 <= share < 1:
        raise UsageError(f"clip: share = {share!r} of the samples must lie in [0, 1)")
    saturated = math.ceil(share * len(wave))
    if not saturated:
        return wave
    ceiling = np.partition(np.abs(wave), len(wave) - saturated)[len(wave) - saturated]
    return np.clip(wave, -ceiling, ceiling)
