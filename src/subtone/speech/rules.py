"""From a score a frame to segments of speech: the hysteresis, lengths and padding all detectors share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import SpeechError
from subtone.speech.segments import SpeechSegments

LONGEST_S = 3600.0
"""No pause, segment or pad is longer; a larger number is a mistake, or an attack by overflow."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Minimum lengths and padding, in seconds; the defaults are Silero's.

    Attributes
    ----------
    min_speech_s
        A run of speech must be longer than this, before padding.
    min_silence_s
        A pause must last this long to end a segment.
    speech_pad_s
        Added at both sides of a segment; neighbours share a shorter pause evenly.
    """

    min_speech_s: float = 0.25
    min_silence_s: float = 0.1
    speech_pad_s: float = 0.03

    def __post_init__(self) -> None:
        for name in ("min_speech_s", "min_silence_s", "speech_pad_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_S:
                raise SpeechError(f"{name} must be 0 to {LONGEST_S:g} seconds, got {value!r}")


def segments_from_scores(
    scores: npt.NDArray[np.floating],
    *,
    frame: int,
    num_samples: int,
    enter: float,
    leave: float,
    lengths: Lengths,
) -> SpeechSegments:
    """Turn frame scores into segments, by the rules of Silero's ``get_speech_timestamps``.

    A segment begins with the first frame whose score is ``>= enter``. A pause begins with the first frame
    ``< leave``, and is forgotten at the next frame ``>= enter``. The first frame ``< leave`` that comes
    ``min_silence_s`` or more after the pause's beginning closes the segment, there where the pause began; a
    segment never closed goes on to the end of the wave. Segments not longer than
    ``min_speech_s`` are dropped. Then each side grows by ``speech_pad_s``, or by half of the pause to the
    neighbour where that is shorter.

    Parameters
    ----------
    scores
        ``(frames,)``; frame ``i`` covers the samples ``[i * frame, (i + 1) * frame)``.
    frame
        Samples a frame.
    num_samples
        Length of the wave; the last frame may reach beyond it.
    enter, leave
        Thresholds, ``leave <= enter``.
    lengths
        Minimum lengths and padding.

    Returns
    -------
    Segments over ``num_samples`` samples.

    Examples
    --------
    >>> scores = np.array([0.1, 0.9, 0.4, 0.9, 0.1, 0.1])
    >>> rules = Lengths(min_speech_s=0.0, min_silence_s=0.0, speech_pad_s=0.0)
    >>> found = segments_from_scores(scores, frame=10, num_samples=60, enter=0.5, leave=0.35, lengths=rules)
    >>> found.starts.tolist(), found.ends.tolist()
    ([10], [40])
    """
    min_speech = lengths.min_speech_s * SAMPLE_RATE_HZ
    min_silence = lengths.min_silence_s * SAMPLE_RATE_HZ
    above, below = scores >= enter, scores < leave
    found: list[list[int]] = []
    begin = pause = None
    # Only frames outside the band between the thresholds can change anything.
    for index in np.flatnonzero(above | below).tolist():
        at = index * frame
        if above[index]:
            pause = None
            if begin is None:
                begin = at
        elif begin is not None:
            if pause is None:
                pause = at
            if at - pause >= min_silence:
                if pause - begin > min_speech:
                    found.append([begin, pause])
                begin = pause = None
    if begin is not None and num_samples - begin > min_speech:
        found.append([begin, num_samples])
    if not found:
        return SpeechSegments.none(num_samples)
    return _pad(np.array(found, dtype=np.int64), round(lengths.speech_pad_s * SAMPLE_RATE_HZ), num_samples)


def _pad(found: npt.NDArray[np.int64], pad: int, num_samples: int) -> SpeechSegments:
    starts, ends = found[:, 0], found[:, 1]  # (segments,)
    pause = starts[1:] - ends[:-1]
    grow = np.where(pause < 2 * pad, pause // 2, pad)
    padded_starts = np.concatenate([[max(0, int(starts[0]) - pad)], starts[1:] - grow])
    padded_ends = np.concatenate([ends[:-1] + grow, [min(num_samples, int(ends[-1]) + pad)]])
    return SpeechSegments(padded_starts, padded_ends, num_samples)
