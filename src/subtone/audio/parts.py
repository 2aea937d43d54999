"""A part of a recording in blocks: short parts by going there, long ones by reading from the beginning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from subtone.audio.load import check_span, load_audio, read_blocks
from subtone.audio.source import SAMPLE_RATE_HZ, AudioSource, Channel, resolve
from subtone.errors import AudioError

BLOCK_S = 30.0
HELD_S = 600.0
"""Longest stretch of audio that is kept in memory at once: 38 MB of samples."""


def read_part(
    source: AudioSource,
    channel: Channel = "mix",
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    held_s: float = HELD_S,
) -> Iterator[npt.NDArray[np.float32]]:
    """Read a part of a recording in blocks, so that memory does not grow with its length.

    Parameters
    ----------
    source, channel
        See `subtone.load_audio`; a stream must be seekable to be read twice.
    start_s, end_s
        The part; None: to the recording's end. An end behind the recording's means its end.
    held_s
        A part with an end that is no longer than this is one block, and equals `subtone.load_audio` with the same
        times. All else is read from the recording's beginning: its samples are those of the whole, exactly.

    Returns
    -------
    An iterator over ``(samples,)`` float32 at 16 kHz, together at least one sample.

    Raises
    ------
    AudioError
        As `subtone.load_audio`, when the reading gets there.

    Examples
    --------
    >>> wave = np.arange(80_000, dtype=np.float32) / 80_000
    >>> [len(block) for block in read_part(wave, start_s=1.0, end_s=4.5, held_s=1.0)]
    [56000]
    """
    if end_s is not None and end_s - start_s <= held_s:
        yield load_audio(source, channel, start_s=start_s, end_s=end_s)
        return
    name = resolve(source).name
    first, last = check_span(start_s, end_s, name)
    at = 0
    for block in read_blocks(source, channel, block_s=BLOCK_S):
        wave = block[max(0, first - at) : None if last is None else max(0, last - at)]
        at += len(block)
        if len(wave):
            yield wave
        if last is not None and at >= last:
            return
    if at <= first:
        raise AudioError(
            f"{name}: start {start_s:g} s lies behind the recording's end ({at / SAMPLE_RATE_HZ:.3f} s)"
        )
