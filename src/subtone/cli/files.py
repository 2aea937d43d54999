"""Tables on disk: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from subtone.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".parquet", ".csv")


def check_table_name(path: Path) -> None:
    """Refuse a file that a table cannot be written to, before the work begins.

    Raises
    ------
    UsageError
        If its suffix says no known form, or its folder is not there.
    """
    if path.suffix.lower() not in TABLES:
        raise UsageError(f"{path}: a table is written as {' or '.join(TABLES)}; name a file that ends so")
    check_place(path)


def check_place(path: Path) -> None:
    """Refuse a file that cannot be written, before the work begins.

    Raises
    ------
    UsageError
        If it is a folder, or its own folder is not there or closed to us.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: the folder {path.absolute().parent} is not there; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"{path}: the folder {path.absolute().parent} cannot be written to; name another")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table with audformat's segmented index; an earlier file is replaced only when all went well.

    Parameters
    ----------
    frame
        Its index is kept in Parquet; CSV gets the columns ``file``, ``start`` and ``end``, times in seconds.
    path
        Ends in ``.parquet`` or ``.csv``.
    """
    check_table_name(path)
    building = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.suffix.lower() == ".parquet":
            frame.to_parquet(building)
        else:
            flat = frame.reset_index()
            for column in ("start", "end"):
                flat[column] = flat[column].dt.total_seconds()
            flat.to_csv(building, index=False)
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)
