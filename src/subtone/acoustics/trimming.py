"""Where a clip is active, by its level alone: what lies before and after its speech, and what in it is clearly loud."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from subtone.acoustics.levels import rms
from subtone.errors import AudioError
from subtone.speech import SpeechSegments, Wave

_FRAME = 320  # samples, 20 ms
_LOUDEST = 5  # frames, 0.1 s: a click is shorter
_CUT_DB, _LOUD_DB = 30.0, 20.0


def trim(wave: Wave) -> tuple[Wave, SpeechSegments]:
    """Cut what lies before and after the speech of a clip, by level alone.

    The wave is cut into frames of 20 ms. Its peak level is that of its fifth loudest frame: what 0.1 s reach, so that
    neither a click nor the length of the silence around the speech moves it. Kept is all from the first to the last
    frame within 30 dB of the peak level. Clearly loud are frames within 20 dB of it; what lies between those is either
    soft speech or a pause, which level alone does not tell, and should not be scored.

    Meant for clips of one utterance from a quiet room. In a room less than 30 dB below its speech nothing is cut.

    Parameters
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz.

    Returns
    -------
    The clip without its surroundings, a view of the given wave, and its clearly loud segments. The clip starts on a
    multiple of 320 samples of the wave, and is a multiple of them long unless it ends where the wave ends.

    Raises
    ------
    AudioError
        If the wave is silent.

    Examples
    --------
    >>> wave = np.concatenate([np.zeros(640), np.full(6_400, 0.5), np.full(2_000, 0.03)]).astype(np.float32)
    >>> clip, loud = trim(wave)
    >>> len(clip), loud
    (8400, SpeechSegments(1 segment, 6400 of 8400 samples))
    """
    levels = _frame_levels(wave)
    peak = np.sort(levels)[::-1][min(_LOUDEST, len(levels)) - 1] if len(levels) else 0.0
    audible = np.flatnonzero((levels > 0) & (levels >= peak * 10 ** (-_CUT_DB / 20)))
    if not len(audible):
        raise AudioError("trim: the wave is silent, so that no speech can be told from what surrounds it")
    start, end = int(audible[0]) * _FRAME, min(int(audible[-1] + 1) * _FRAME, len(wave))
    kept = levels[audible[0] : audible[-1] + 1]
    loud = np.concatenate([[False], (kept > 0) & (kept >= peak * 10 ** (-_LOUD_DB / 20)), [False]])
    changes = np.flatnonzero(loud[1:] != loud[:-1])
    edges = np.minimum(changes * _FRAME, end - start).reshape(-1, 2)
    return wave[start:end], SpeechSegments(edges[:, 0], edges[:, 1], end - start)


def active_rms(wave: Wave) -> float:
    """Return the level of a sound where it is clearly loud (see `trim`), so that pauses in it don't count.

    Raises
    ------
    AudioError
        If the wave is silent.
    """
    clip, loud = trim(wave)
    return rms(np.concatenate([clip[start:end] for start, end in zip(loud.starts, loud.ends, strict=True)]))


def _frame_levels(wave: Wave) -> npt.NDArray[np.float64]:
    """Return ``(frames,)``: the RMS of each frame; the last may be short."""
    squares = np.square(wave, dtype=np.float64)
    whole = len(wave) // _FRAME * _FRAME
    levels = np.sqrt(squares[:whole].reshape(-1, _FRAME).mean(axis=1))  # (frames,)
    return np.append(levels, np.sqrt(squares[whole:].mean())) if whole < len(wave) else levels
