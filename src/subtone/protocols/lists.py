"""Folds that somebody else drew: a corpus's own ``split`` column, a list of files, EmoBox's fold columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.errors import ProtocolError, nearest
from subtone.protocols.clips import _stem, _text, column_text, files_of, natural_key

Lists = pd.DataFrame | pd.Series | Mapping[str, str]
SIDES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "development": "dev",
    "test": "test",
    "eval": "test",
}


@dataclass(frozen=True)
class ListedFold:
    """One fold of a list: its name and the positions of the table's rows on each side."""

    name: str
    train: npt.NDArray[np.int64]
    dev: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def folds_of_column(table: pd.DataFrame) -> list[ListedFold]:
    """The corpus's own split, from the column ``split``; rows without one belong to no side."""
    sides = column_text(table, "split")
    if not any(sides):
        raise ProtocolError(
            "folds='fixed' needs the column 'split' (train, dev, test), which this table does not fill; "
            "give lists= (clip -> side), or take another kind of folds"
        )
    return [_fold("fixed", [_side(side, "column 'split'") for side in sides])]


def folds_of_lists(table: pd.DataFrame, lists: Lists) -> tuple[list[ListedFold], int]:
    """Folds from lists of clips.

    Parameters
    ----------
    table
        A standard table.
    lists
        Clip -> side as a mapping or Series (one fold), or a DataFrame indexed by clip with one column
        ``fold_...`` a fold. A clip is named by its file's stem or, where that is not unique, by more of its
        path (``DC/a01``). Sides are train, dev (valid) and test; an empty cell is on no side, save in a fold
        that names test clips only: there the rest is for training.

    Returns
    -------
    (list of ListedFold, int)
        And how many listed clips the table lacks.

    Raises
    ------
    ProtocolError
        If nothing matches, a name fits two files, a side is unknown, or a fold lacks train or test rows.
    """
    frame = _frame(lists)
    rows_of = _align(table, [str(key) for key in frame.index])
    folds = []
    for column in sorted(frame.columns, key=natural_key):
        sides: list[str | None] = [None] * len(table)
        cells = [_side(_text(cell), f"lists, column {column!r}") for cell in frame[column].tolist()]
        rest = None if "train" in cells else "train"
        for rows, cell in zip(rows_of, cells):
            for row in rows:
                sides[row] = cell or rest
        folds.append(_fold(column, sides))
    return folds, sum(not rows for rows in rows_of)


def _frame(lists: Lists) -> pd.DataFrame:
    """Any accepted form as a DataFrame of fold columns, indexed by clip."""
    if isinstance(lists, pd.DataFrame):
        columns = [column for column in lists.columns if str(column).startswith("fold")]
        if not columns:
            raise ProtocolError(
                f"lists: no column starts with 'fold' (columns: {', '.join(map(str, lists.columns))})"
            )
        frame = lists[columns]
    else:
        frame = pd.DataFrame({"fixed": pd.Series(lists, dtype="object")})
    repeated = frame.index.duplicated()
    if repeated.any():
        raise ProtocolError(f"lists: clip {frame.index[repeated][0]!r} is listed twice")
    return frame


def _align(table: pd.DataFrame, keys: list[str]) -> list[list[int]]:
    """Rows of the table that each key of the lists names (a file may have several rows, one a segment)."""
    by_stem: dict[str, list[int]] = defaultdict(list)
    stems = [_stem(file) for file in files_of(table)]
    for row, stem in enumerate(stems):
        by_stem[stem.name].append(row)
    aligned = []
    for key in keys:
        parts = _parts(key)
        rows = by_stem.get(parts[-1], []) or by_stem.get(PurePath(parts[-1]).stem, [])
        if len(parts) > 1:
            rows = [row for row in rows if stems[row].parts[-len(parts) : -1] == parts[:-1]]
        if len({stems[row] for row in rows}) > 1:
            first, second, *_ = sorted({str(stems[row]) for row in rows})
            raise ProtocolError(
                f"lists: {key!r} fits two files, {first} and {second}; name clips by folder/stem"
            )
        aligned.append(rows)
    if not any(aligned):
        raise ProtocolError(
            f"lists: none of the {len(keys)} listed clips is in the table; listed are names like "
            f"{keys[0]!r}, the table has {stems[0].name!r}"
        )
    return aligned


def _parts(key: str) -> tuple[str, ...]:
    return PurePath(str(_stem(key + ".x"))).parts


def _side(cell: str | None, where: str) -> str | None:
    if cell is None or not cell.strip():
        return None
    side = SIDES.get(cell.strip().lower())
    if side is None:
        raise ProtocolError(f"{where}: unknown side {cell!r}; {nearest(cell, {'train', 'dev', 'test'})}")
    return side


def _fold(name: str, sides: list[str | None]) -> ListedFold:
    positions = {
        side: np.array([row for row, found in enumerate(sides) if found == side], dtype=np.int64)
        for side in ("train", "dev", "test")
    }
    for side in ("train", "test"):
        if not len(positions[side]):
            raise ProtocolError(f"fold {name!r}: the lists put none of the table's clips into {side!r}")
    return ListedFold(name, **positions)
