"""What every decoder offers, and the two ways it may fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from subtone.audio.source import AudioInfo
from subtone.errors import AudioError

Chunk: TypeAlias = npt.NDArray[np.float32]


class Refused(Exception):
    """A decoder does not know this kind of file; another one may."""


class Reader(Protocol):
    """A recording that can be read once, chunk by chunk, at its own rate."""

    @property
    def info(self) -> AudioInfo:
        """What the header says."""
        ...

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield ``(samples, channels)`` for the native samples ``[start, stop)``; to the end by default.

        Raises
        ------
        AudioError
            Where the recording breaks off before the end that its header promises.
        """
        ...


def chunk_length(channels: int) -> int:
    """Samples a chunk: about 1 MB whatever the number of channels."""
    return max(1024, 262_144 // max(1, channels))


def broken(name: str, decoded_s: float, declared_s: float | None, why: str) -> AudioError:
    """Return the error for a recording that ends before it should."""
    of = "" if declared_s is None else f" of {declared_s:.2f} s"
    return AudioError(
        f"{name}: breaks off: decodes to {decoded_s:.2f} s{of} ({why}); fetch or export the file again, "
        "or cut it to the part that is there"
    )
