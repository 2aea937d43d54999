"""What a protocol needs to know of a table's rows: who speaks, which clip it is, a checksum of them all.

Files are not opened here.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.errors import ProtocolError

OPTIONAL_COLUMNS = ("corpus", "speaker", "session", "sentence", "split")


def standard_table(table: pd.DataFrame) -> pd.DataFrame:
    """Check a corpus table and give it the columns that protocols read (missing ones become ``<NA>``).

    Parameters
    ----------
    table
        One row a clip, audformat segmented index (``file``, ``start``, ``end``) or filewise index (``file``),
        with a column ``emotion``.

    Returns
    -------
    pd.DataFrame
        A copy with the segmented index.

    Raises
    ------
    ProtocolError
        If the table is empty, has another index, has no column ``emotion``, or names a clip twice.
    """
    if not isinstance(table, pd.DataFrame):
        raise ProtocolError(f"a protocol is built on a corpus table (DataFrame), got {type(table).__name__}")
    if len(table) == 0:
        raise ProtocolError("the corpus table has no rows; check the folder that it was read from")
    if "emotion" not in table.columns:
        raise ProtocolError(
            f"the corpus table has no column 'emotion' (columns: {', '.join(map(str, table.columns))})"
        )
    table = table.copy()
    if list(table.index.names) == ["file"]:
        table.index = pd.MultiIndex.from_arrays(
            [
                table.index.astype("string"),
                pd.to_timedelta(np.zeros(len(table)), unit="s"),
                pd.to_timedelta([None] * len(table)),
            ],
            names=["file", "start", "end"],
        )
    if list(table.index.names) != ["file", "start", "end"]:
        raise ProtocolError(
            f"the corpus table's index is {list(table.index.names)}; it must be audformat's file, start, end"
        )
    for column in OPTIONAL_COLUMNS:
        if column not in table.columns:
            table[column] = pd.Series(pd.NA, index=table.index, dtype="string")
    repeated = table.index.duplicated()
    if repeated.any():
        file = table.index[int(np.flatnonzero(repeated)[0])][0]
        raise ProtocolError(
            f"{int(repeated.sum())} rows repeat a clip of the table, the first is {file}; "
            "keep one row a clip (file, start, end)"
        )
    return table


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``"2"`` before ``"10"``.

    >>> sorted(["10", "2", "1", "b"], key=natural_key)
    ['1', '2', '10', 'b']
    """
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


def _text(value: object) -> str | None:
    """A cell as text, None where it is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    return str(value)


def column_text(table: pd.DataFrame, column: str) -> list[str | None]:
    """A column's values as text, None where missing."""
    return [_text(value) for value in table[column].tolist()]


def corpora_of(table: pd.DataFrame) -> list[str]:
    """The corpus of each row; rows without one belong to the corpus ``"unnamed"``."""
    return [name or "unnamed" for name in column_text(table, "corpus")]


def identities(table: pd.DataFrame, column: str) -> list[str | None]:
    """Whom (or which session, sentence) each row belongs to, unique over all corpora of the table.

    Speaker ``03`` of one corpus is not speaker ``03`` of another: in a table of several corpora the identity
    is ``corpus/value``. None where the value is missing.
    """
    values = column_text(table, column)
    corpora = corpora_of(table)
    if len(set(corpora)) == 1:
        return values
    return [None if value is None else f"{corpus}/{value}" for corpus, value in zip(corpora, values)]


def speaker_ids(table: pd.DataFrame) -> list[str | None]:
    """Speaker of each row, unique over all corpora of the table: what intervals and paired tests resample.

    Parameters
    ----------
    table
        A corpus table, or several concatenated.

    Returns
    -------
    list of str or None
        The speaker, ``corpus/speaker`` when the table holds several corpora; None where unknown.
    """
    return identities(standard_table(table), "speaker")


def required_identities(table: pd.DataFrame, column: str, needed_by: str, way_out: str) -> list[str]:
    """Identities where none may be missing.

    Raises
    ------
    ProtocolError
        Naming how many rows lack the value, the first of them and the way out.
    """
    found = identities(table, column)
    missing = [row for row, value in enumerate(found) if value is None]
    if missing:
        raise ProtocolError(
            f"{len(missing)} of {len(found)} rows have no {column} (first: {table.index[missing[0]][0]}), "
            f"but {needed_by} needs one; {way_out}"
        )
    return [value for value in found if value is not None]


def codes_of(names: Sequence[str]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number the distinct names in natural order.

    >>> codes_of(["b", "a", "b"])
    (array([1, 0, 1]), ['a', 'b'])
    """
    distinct = sorted(set(names), key=natural_key)
    number = {name: code for code, name in enumerate(distinct)}
    return np.array([number[name] for name in names], dtype=np.int64), distinct


def files_of(table: pd.DataFrame) -> list[str]:
    """The file of each row."""
    return [str(file) for file in table.index.get_level_values("file")]


def recording_ranks(table: pd.DataFrame, rank: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The lowest rank among the rows of each row's file: equal for all that is cut from one recording."""
    files = files_of(table)
    first: dict[str, int] = {}
    for file, place in zip(files, rank.tolist()):
        first[file] = min(place, first.get(file, place))
    return np.array([first[file] for file in files], dtype=np.int64)


def spans_ms(table: pd.DataFrame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Start and end of each row in milliseconds; a clip that runs to the end of its file ends at infinity."""
    starts, ends = (
        pd.to_timedelta(table.index.get_level_values(level)) / pd.Timedelta(milliseconds=1)
        for level in ("start", "end")
    )
    start_ms = np.nan_to_num(np.asarray(starts, dtype=np.float64), nan=0.0)
    end_ms = np.nan_to_num(np.asarray(ends, dtype=np.float64), nan=np.inf)
    return start_ms, end_ms


def _stem(file: str) -> PurePath:
    return PurePath(unicodedata.normalize("NFC", file)).with_suffix("")


def clip_names(table: pd.DataFrame) -> list[str]:
    """A name of each row's file that depends neither on where the corpus lies nor on its audio format.

    It is the stem of the file; in a corpus where two files share a stem (``DC/a01.wav``, ``JE/a01.wav``), the
    path below the folder that all its files have in common, without the extension.
    """
    files, corpora = files_of(table), corpora_of(table)
    stems = {file: _stem(file) for file in set(files)}
    names: dict[tuple[str, str], str] = {}
    for corpus in set(corpora):
        own = {file for file, owner in zip(files, corpora) if owner == corpus}
        if len({stems[file].name for file in own}) == len(own):
            names.update({(corpus, file): stems[file].name for file in own})
        else:
            common = os.path.commonpath([stems[file].parent for file in own])
            names.update({(corpus, file): os.path.relpath(stems[file], common or ".") for file in own})
    return [names[corpus, file] for corpus, file in zip(corpora, files)]


def clip_lines(table: pd.DataFrame) -> list[str]:
    """One line a row, ``corpus|name|start|end|emotion|speaker`` (milliseconds), for the checksum."""
    starts, ends = spans_ms(table)
    return [
        "|".join(
            (
                corpus,
                name,
                str(round(start)),
                "" if np.isinf(end) else str(round(end)),
                emotion or "",
                speaker or "",
            )
        )
        for corpus, name, start, end, emotion, speaker in zip(
            corpora_of(table),
            clip_names(table),
            starts.tolist(),
            ends.tolist(),
            column_text(table, "emotion"),
            column_text(table, "speaker"),
        )
    ]


def checksum(lines: Iterable[str]) -> str:
    """sha256 over the sorted lines, so that the order of rows does not matter."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
