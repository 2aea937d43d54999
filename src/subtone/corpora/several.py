"""Several corpora as one table, and what their readers left out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from subtone.corpora.registry import get

LEFT_OUT = ("skipped", "missing")


def read_several(corpora: Mapping[str, str | os.PathLike[str]], **options: Any) -> pd.DataFrame:
    """Read corpora and join their tables.

    Parameters
    ----------
    corpora
        Corpus → your copy of it, one or more.
    **options
        Each goes to the readers that take it, so that one corpus's ``skip_missing=True`` is no error of another.

    Returns
    -------
    pandas.DataFrame
        As :func:`subtone.corpora.read` gives it; of ``attrs`` only the lists ``skipped`` and ``missing``, joined.

    Raises
    ------
    CorpusError
        If one cannot be read, or none takes an option.
    """
    known = [(get(name), path) for name, path in corpora.items()]
    taken = {option for corpus, _ in known for option in corpus.options}
    tables = [
        corpus.read(path, **{k: v for k, v in options.items() if k in corpus.options or k not in taken})
        for corpus, path in known
    ]
    joined = pd.concat(tables)
    joined.attrs = {kind: [pair for table in tables for pair in table.attrs[kind]] for kind in LEFT_OUT}
    return joined


def left_out(table: pd.DataFrame) -> dict[str, list[dict[str, str]]]:
    """What the readers of a table left out.

    Returns
    -------
    dict
        ``skipped`` (names or emotions that nobody knows) and ``missing`` (named, but not there): records of ``file``,
        without its folder, and ``message``.
    """
    return {
        kind: [{"file": Path(file).name, "message": why} for file, why in table.attrs.get(kind, ())]
        for kind in LEFT_OUT
    }
