"""A file's address by content, computed once however many clips are cut from it."""

from __future__ import annotations

import os
from functools import lru_cache

from subtone.audio.load import audio_digest


def file_version(file: str) -> tuple[int, int]:
    """Return what changes when a file is written anew under its name: its size and time of change in ns."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return (0, 0)  # Reading it will say what is wrong.
    return (status.st_size, status.st_mtime_ns)


def file_digest(file: str) -> str:
    """Return the SHA-256 (hex) of a file's bytes; of a file that did not change since, without reading it again.

    Raises
    ------
    AudioError
        If it cannot be read.
    """
    return _digest(file, file_version(file))


@lru_cache(maxsize=4096)
def _digest(file: str, _version: tuple[int, int]) -> str:
    # Segments of one long recording come one after the other: its bytes are read once for all of them.
    return audio_digest(file)
