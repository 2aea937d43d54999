"""What a caller may hand over for prediction, as a list of named sources."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from subtone.audio import AudioSource, expand
from subtone.errors import AudioError, UsageError

Sources: TypeAlias = AudioSource | Iterable[AudioSource] | pd.DataFrame | pd.Index
"""One source or many; folders and glob patterns stand for their recordings."""


@dataclass(frozen=True)
class Source:
    """A recording, or a part of one, and the name it has in the answer.

    Attributes
    ----------
    name
        The path as given; ``"<bytes 0>"``, ``"<array 0>"`` or ``"<stream 0>"``, by its position, for what has none.
    audio
        Where it is read from; None when it could not even be found, then ``problem`` says why.
    start_s, end_s
        The part; None means the recording's end.
    position
        Number, from 0, of the entry it came from; the recordings of a folder share the folder's.
    """

    name: str
    audio: AudioSource | None
    start_s: float = 0.0
    end_s: float | None = None
    position: int = 0
    problem: str = ""


def name_sources(sources: Sources) -> list[Source]:
    """Return the recordings that `sources` stands for, each path once.

    Nothing is opened. A folder that is empty or a pattern without a match becomes a source with a ``problem``, so that
    the others go on.

    Parameters
    ----------
    sources
        A path (str or Path), bytes of a file, an open binary file, an array at 16 kHz or ``(array, rate_hz)``; a list
        of those; or a table or index in audformat's form: files, or segments ``(file, start, end)``, which are
        taken one by one, the same file as often as it is named.

    Raises
    ------
    UsageError
        When nothing is given, or something that is no source at all.

    Examples
    --------
    >>> [source.name for source in name_sources([np.zeros(8, np.float32), b"RIFF"])]
    ['<array 0>', '<bytes 1>']
    """
    if isinstance(sources, (pd.DataFrame, pd.Series)):
        sources = sources.index
    if isinstance(sources, pd.Index):
        found = _from_index(sources)
    else:
        found = [
            source for position, entry in enumerate(_entries(sources)) for source in _named(entry, position)
        ]
        found = _once(found)
    if not found:
        raise UsageError("no recordings given; name files, folders or patterns")
    return found


def printable(name: str) -> str:
    """Return a path as text that any table and file can hold: bytes that are no UTF-8 are written as ``\\xe9``.

    >>> printable("caf\\udce9.wav")
    'caf\\\\xe9.wav'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _entries(sources: Any) -> list[Any]:
    single = isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray))
    if single or hasattr(sources, "read") or _is_rated(sources):
        return [sources]
    try:
        entries = list(sources)
        if entries and all(isinstance(entry, (float, np.floating)) for entry in entries):
            raise UsageError(
                "cannot predict a list of numbers; make it an array of samples: np.array(…, np.float32)"
            )
        return entries
    except TypeError:
        raise UsageError(
            f"cannot predict a {type(sources).__name__}; give a path, bytes, an open binary file, an array at 16 kHz, "
            "(array, rate_hz), or a list of those"
        ) from None


def _is_rated(entry: Any) -> bool:
    """Tell ``(array, rate)`` from a pair of sources."""
    pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], np.ndarray)
    return pair and not isinstance(entry[1], (np.ndarray, str, bytes, os.PathLike))


def _named(entry: Any, position: int) -> list[Source]:
    if isinstance(entry, (str, os.PathLike)):
        name = os.fspath(entry)
        name = os.fsdecode(name) if isinstance(name, bytes) else name
        try:
            if not name or "\0" in name:
                raise AudioError(f"{name!r} is not a valid path")
            paths = expand(name, missing="keep")
        except (AudioError, OSError) as error:
            why = (
                str(error) if isinstance(error, AudioError) else f"{name}: cannot be read ({error.strerror})"
            )
            return [Source(printable(name), None, position=position, problem=why)]
        return [Source(printable(str(path)), path, position=position) for path in paths]
    if isinstance(entry, (bytes, bytearray, memoryview)):
        return [Source(f"<bytes {position}>", bytes(entry), position=position)]
    if isinstance(entry, np.ndarray) or _is_rated(entry):
        return [Source(f"<array {position}>", entry, position=position)]
    kind = "stream" if hasattr(entry, "read") else type(entry).__name__
    return [Source(f"<{kind} {position}>", entry, position=position)]


def _once(found: list[Source]) -> list[Source]:
    """Keep the first of each path; what is in memory is never the same."""
    kept: dict[object, Source] = {}
    for source in found:
        kept.setdefault(source.audio if isinstance(source.audio, Path) else id(source), source)
    return list(kept.values())


def _from_index(index: pd.Index) -> list[Source]:
    if not isinstance(index, pd.MultiIndex):
        return [_row(file, None, None, position) for position, file in enumerate(index)]
    if list(index.names) != ["file", "start", "end"]:
        raise UsageError(
            f"the index has the levels {list(index.names)}; it must be audformat's: 'file', or 'file', 'start', 'end'"
        )
    return [_row(file, start, end, position) for position, (file, start, end) in enumerate(index)]


def _row(file: Any, start: Any, end: Any, position: int) -> Source:
    start_s = 0.0 if start is None or pd.isna(start) else pd.Timedelta(start).total_seconds()
    end_s = None if end is None or pd.isna(end) else pd.Timedelta(end).total_seconds()
    if file is None or pd.isna(file) or not str(file):
        return Source("", None, start_s, end_s, position, f"row {position}: names no file")
    return Source(printable(str(file)), Path(str(file)), start_s, end_s, position)
