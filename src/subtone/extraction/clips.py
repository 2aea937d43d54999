"""What is extracted: a recording or a part of one, known by its content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from subtone.audio import audio_digest


@dataclass(frozen=True)
class Clip:
    """A recording, or the part of it from ``start_s`` to ``end_s`` (None: to its end)."""

    file: str
    start_s: float = 0.0
    end_s: float | None = None

    def key(self) -> str:
        """Return the content address: SHA-256 of the file's bytes, and the part in seconds.

        A renamed or moved corpus keeps its keys.

        Raises
        ------
        AudioError
            If the file cannot be read.
        """
        end = "" if self.end_s is None else f"{self.end_s:.6f}"
        return f"{_digest(self.file, _version(self.file))}:{self.start_s:.6f}:{end}"


def clips_of(source: pd.DataFrame | pd.Index | Iterable[str | Path]) -> list[Clip]:
    """Return the clips of a table with audformat segmented index, of such an index, or of paths."""
    index = source.index if isinstance(source, pd.DataFrame) else source
    if isinstance(index, pd.MultiIndex):
        return [
            Clip(str(file), start.total_seconds(), None if pd.isna(end) else end.total_seconds())
            for file, start, end in index
        ]
    return [Clip(str(file)) for file in index]


@lru_cache(maxsize=4096)
def _digest(file: str, _version: tuple[int, int]) -> str:
    # Segments of one long recording come one after the other: its bytes are read once for all of them.
    return audio_digest(file)


def _version(file: str) -> tuple[int, int]:
    """Return what changes when a file is written anew under the same name: its size and time."""
    try:
        status = os.stat(file)
    except OSError:
        return (0, 0)  # reading it will say what is wrong
    return (status.st_size, status.st_mtime_ns)
