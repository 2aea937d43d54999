"""Stretches of a recording out of its blocks, in one pass and in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from subtone.errors import AudioError


def cut(
    blocks: Iterator[npt.NDArray[np.float32]], spans: Iterable[tuple[int, int]]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the samples ``[start, end)`` of each span out of a stream of blocks; spans are sorted by start.

    Only the blocks that the current span touches are held.

    Raises
    ------
    AudioError
        When the stream ends before a span does: the file became shorter since it was surveyed.

    Examples
    --------
    >>> blocks = iter([np.arange(4.0), np.arange(4.0, 8.0)])
    >>> [clip.tolist() for clip in cut(blocks, [(1, 3), (2, 6)])]
    [[1.0, 2.0], [2.0, 3.0, 4.0, 5.0]]
    """
    held = np.zeros(0, dtype=np.float32)
    begin = 0  # sample of the recording that `held` begins with
    for start, end in spans:
        if begin + len(held) < end:
            kept = held[max(0, start - begin) :]
            begin += len(held) - len(kept)
            have, parts = begin + len(kept), [kept]
            while have < end:
                block = next(blocks, None)
                if block is None:
                    raise AudioError(
                        "the recording became shorter while it was read; try again when it is at rest"
                    )
                have += len(block)
                if have <= start:
                    begin, parts = have, []
                else:
                    parts.append(block)
            held = np.concatenate([part for part in parts if len(part)])
        yield held[start - begin : end - begin]
