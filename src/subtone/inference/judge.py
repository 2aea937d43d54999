"""Which clips are not guessed: too short, silent, or without speech."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.speech import SpeechSegments

Note = Literal["", "too short", "silent", "no speech"]
"""Why a clip has no answer; empty where it has one."""

MIN_CLIP_S = 0.2
"""A clip with less sound, or with less speech, than this many seconds is ``"too short"`` to be judged."""

SILENCE_LEVEL = 10 ** (-70 / 20)
"""A clip whose samples stay within this (-70 dB of full scale, ten steps of 16 bits) of their middle is silent."""


def judge(wave: npt.NDArray[np.float32], speech: SpeechSegments) -> Note:
    """Return why a clip can't be judged, or ``""`` when it can.

    In this order: ``"too short"`` with less than `MIN_CLIP_S` of sound; ``"silent"`` when half the distance between
    its lowest and highest sample is below `SILENCE_LEVEL` (a constant offset is no sound); ``"no speech"`` when the
    detector found none; ``"too short"`` again with less than `MIN_CLIP_S` of speech, e.g. in a window that
    touches the end of a word.

    Parameters
    ----------
    wave
        ``(samples,)`` float32, 16 kHz.
    speech
        Speech in the wave.

    Examples
    --------
    >>> judge(np.zeros(16_000, np.float32), SpeechSegments.none(16_000))
    'silent'
    >>> judge(np.sin(np.arange(16_000), dtype=np.float32), SpeechSegments.none(16_000))
    'no speech'
    """
    least = round(MIN_CLIP_S * SAMPLE_RATE_HZ)
    if len(wave) < least:
        return "too short"
    if float(wave.max()) - float(wave.min()) < 2 * SILENCE_LEVEL:
        return "silent"
    if not len(speech):
        return "no speech"
    return "too short" if speech.speech_samples < least else ""


def joint(notes: list[Note]) -> Note:
    """Return one note for the parts of a recording none of which could be judged.

    >>> joint(["silent", "no speech", "silent"])
    'no speech'
    """
    for note in ("too short", "no speech"):
        if note in notes:
            return "too short" if note == "too short" else "no speech"
    return "silent"
