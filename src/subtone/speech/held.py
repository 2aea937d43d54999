"""One pass over a recording that finds its speech, and keeps the samples if they are few enough to keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from subtone.audio import SAMPLE_RATE_HZ
from subtone.speech.base import Detector, Wave, check_wave
from subtone.speech.segments import SpeechSegments


def detect_and_hold(
    detector: Detector | None, blocks: Iterable[Wave], held_s: float
) -> tuple[SpeechSegments, list[Wave] | None]:
    """Find the speech in a recording given in blocks, and keep the blocks of one that is short enough.

    Parameters
    ----------
    detector
        Finds speech; None takes all for speech.
    blocks
        Its samples at 16 kHz, each ``(samples,)``.
    held_s
        Seconds of audio to keep at most.

    Returns
    -------
    The speech, and the blocks; None instead of those when the recording is longer than ``held_s``.

    Raises
    ------
    AudioError
        When the blocks hold NaN or infinite samples, or cannot be read.
    """
    held: list[Wave] | None = []
    count = 0

    def noted() -> Iterator[Wave]:
        nonlocal held, count
        for block in blocks:
            count += len(block)
            if held is not None and count <= held_s * SAMPLE_RATE_HZ:
                held.append(block)
            else:
                held = None
            yield block

    if detector is not None:
        return detector.detect_blocks(noted()), held
    first = 0
    for block in noted():
        first += len(check_wave(block, first=first))
    return SpeechSegments.whole(first), held
