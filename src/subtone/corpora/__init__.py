"""Readers of emotional speech corpora: a user's folder in, one table out.

``read(name, folder)`` gives the table, ``CORPORA`` is all known corpora by name, ``get(name)`` one of them;
:func:`subtone.corpora.check.check` holds a copy against what it should be.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from subtone.corpora.registry import CORPORA, get, read

if TYPE_CHECKING:
    from subtone.corpora.base import COLUMNS, EMOTIONS, Corpus, Published

__all__ = ["COLUMNS", "CORPORA", "EMOTIONS", "Corpus", "Published", "get", "read"]


def __getattr__(name: str) -> Any:
    # pandas and audformat are imported only by those who read, so that listing the corpora stays cheap.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.base"), name)
