"""What is extracted: a recording or a part of one, known by its content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from subtone.audio.content import file_digest


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
        return self.address(file_digest(self.file))

    def address(self, digest: str) -> str:
        """Return the content address, given the SHA-256 of the file's bytes."""
        end = "" if self.end_s is None else f"{self.end_s:.6f}"
        return f"{digest}:{self.start_s:.6f}:{end}"


def clips_of(source: pd.DataFrame | pd.Index | Iterable[str | Path]) -> list[Clip]:
    """Return the clips of a table with audformat segmented index, of such an index, or of paths."""
    index = source.index if isinstance(source, pd.DataFrame) else source
    if isinstance(index, pd.MultiIndex):
        return [
            Clip(str(file), start.total_seconds(), None if pd.isna(end) else end.total_seconds())
            for file, start, end in index
        ]
    return [Clip(str(file)) for file in index]
