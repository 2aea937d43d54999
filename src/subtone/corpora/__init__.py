"""Readers of emotional speech corpora: a user's folder in, one table out.

``read(name, folder)`` gives the table, ``names()`` the known corpora, ``get(name)`` a corpus's description.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from subtone.corpora.registry import CORPORA, get, names, read

if TYPE_CHECKING:
    from subtone.corpora.base import COLUMNS, EMOTIONS, Corpus, Published
    from subtone.corpora.check import CorpusReport, check

__all__ = [
    "COLUMNS",
    "CORPORA",
    "EMOTIONS",
    "Corpus",
    "CorpusReport",
    "Published",
    "check",
    "get",
    "names",
    "read",
]

_HOMES = {
    "COLUMNS": "base",
    "EMOTIONS": "base",
    "Corpus": "base",
    "CorpusReport": "check",
    "Published": "base",
    "check": "check",
}


def __getattr__(name: str) -> Any:
    # pandas and audformat are imported only by those who read, so that listing the corpora stays cheap.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
