"""A recording of any length, gone through twice in blocks: once for where speech is, once for the clips to score.

Up to `HELD_S` seconds are kept in memory from the first time to the second; of longer ones, only a block.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ, AudioSource, Channel
from subtone.audio.cutting import cut
from subtone.audio.parts import HELD_S, read_part
from subtone.errors import AudioError
from subtone.inference.sources import Source
from subtone.inference.spans import Span
from subtone.speech import Detector, SpeechSegments
from subtone.speech.held import detect_and_hold

Wave = npt.NDArray[np.float32]

_SPOOL = 64 << 20  # bytes of a pipe held in memory; what is more goes to a temporary file


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording whose speech is known.

    Attributes
    ----------
    speech
        Where somebody speaks; its ``num_samples`` is the recording's length.
    offset
        Sample of the file at which it begins.
    blocks
        Gives its samples once more, in blocks.
    """

    speech: SpeechSegments
    offset: int
    blocks: Callable[[], Iterator[Wave]]

    def clips(self, spans: Iterable[Span]) -> Iterator[Wave]:
        """Yield the samples of each span; spans are sorted by start and may overlap."""
        return cut(self.blocks(), spans)


def survey(
    source: Source, channel: Channel, detector: Detector, stop: Callable[[], bool] = lambda: False
) -> Recording:
    """Go through a recording once: is it sound to its end, how long is it, and where is speech?

    Parameters
    ----------
    source
        What to read.
    channel
        ``"mix"`` or a channel number from 0.
    detector
        Finds speech.
    stop
        Asked at each block whether to give up.

    Raises
    ------
    AudioError
        For everything that cannot be read to its end.
    """
    if source.audio is None:
        raise AudioError(source.problem)
    audio = _again(source.audio)

    def blocks() -> Iterator[Wave]:
        return read_part(audio, channel, start_s=source.start_s, end_s=source.end_s, held_s=HELD_S)

    def until_stopped() -> Iterator[Wave]:
        for block in blocks():
            if stop():
                raise AudioError(f"{source.name}: given up")
            yield block

    speech, held = detect_and_hold(detector, until_stopped(), HELD_S)
    first = round(source.start_s * SAMPLE_RATE_HZ)
    return Recording(speech, first, blocks if held is None else lambda: iter(held))


def _again(audio: AudioSource) -> AudioSource:
    """Make a pipe or socket readable twice."""
    stream: Any = audio
    if not hasattr(stream, "read"):
        return audio
    try:
        if stream.seekable():
            return audio
    except (AttributeError, ValueError, OSError):
        return audio  # What is wrong with it is said when it is read.
    try:
        spooled = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - lives as long as the recording
        shutil.copyfileobj(stream, cast(Any, spooled), 1 << 20)
    except (OSError, ValueError, TypeError) as error:
        raise AudioError(f"{_name(audio)}: cannot be read ({error})") from error
    spooled.seek(0)
    return cast(AudioSource, spooled)


def _name(audio: AudioSource) -> str:
    if hasattr(audio, "read"):
        return f"<{getattr(audio, 'name', type(audio).__name__)}>"
    return type(audio).__name__ if isinstance(audio, (bytes, tuple, np.ndarray)) else str(audio)
