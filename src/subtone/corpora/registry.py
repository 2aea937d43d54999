"""The known corpora by name, each imported only when asked for."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from subtone.errors import CorpusError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from subtone.corpora.base import Corpus

# Name -> module in this package that holds its `CORPUS`, one line a corpus: listing names imports none.
_MODULES: dict[str, str] = {
    "aesdd": "aesdd",
    "ased": "ased",
    "audformat": "audformat_db",
    "baved": "baved",
    "cafe": "cafe",
    "cremad": "cremad",
    "emobox": "emobox",
    "emodb": "emodb",
    "emotale": "emotale",
    "emotiontts-ko": "emotiontts",
    "emovo": "emovo",
    "iemocap": "iemocap",
    "kemdy19": "kemdy19",
    "manifest": "manifest",
    "meld": "meld",
    "mesd": "mesd",
    "msp-improv": "msp_improv",
    "msp-podcast": "msp_podcast",
    "nemo": "nemo",
    "ravdess": "ravdess",
    "savee": "savee",
    "shemo": "shemo",
    "subesco": "subesco",
    "tess": "tess",
    "turevdb": "turevdb",
    "urdu": "urdu",
}

# Other spellings people use -> name.
_ALIASES: dict[str, str] = {
    "berlin": "emodb",
    "crema-d": "cremad",
    "emo-db": "emodb",
    "emodb-4class": "emodb",
    "emotiontts": "emotiontts-ko",
    "emotiontts_open_db": "emotiontts-ko",
    "turev": "turevdb",
    "turev-db": "turevdb",
}


def names() -> tuple[str, ...]:
    """Return the names of all corpora, sorted.

    >>> "ravdess" in names()
    True
    """
    return tuple(sorted(_MODULES))


def get(name: str) -> Corpus:
    """Return a corpus by name or alias; case, and ``_`` for ``-``, do not matter.

    Parameters
    ----------
    name
        E.g. ``"ravdess"``; see :func:`names`.

    Returns
    -------
    Corpus
        Its description and reader.

    Raises
    ------
    CorpusError
        If no corpus has that name.

    Examples
    --------
    >>> get("RAVDESS").languages
    ('en',)
    """
    key = str(name).strip().lower()
    for spelling in (
        key,
        key.replace("_", "-"),
        key.replace("-", "_"),
        key.replace("-", "").replace("_", ""),
    ):
        found = _ALIASES.get(spelling, spelling)
        if found in _MODULES:
            corpus: Corpus = importlib.import_module(f"subtone.corpora.{_MODULES[found]}").CORPUS
            return corpus
    raise CorpusError(f"unknown corpus {name!r}; {nearest(key, [*_MODULES, *_ALIASES])}")


def guess(stems: Sequence[str], *, but: str = "") -> str | None:
    """Guess whose files these are, from the stems alone.

    Parameters
    ----------
    stems
        Some file stems of a folder.
    but
        A corpus that is ruled out.

    Returns
    -------
    str or None
        The corpus whose names at least half of the stems look like, or None.

    Examples
    --------
    >>> guess(["03a01Fa", "16b10Wb"])
    'emodb'
    """
    best, name = 0, None
    for corpus in CORPORA.values():
        if corpus.name == but or not corpus.pattern:
            continue
        pattern = re.compile(corpus.pattern, re.IGNORECASE)
        hits = sum(pattern.fullmatch(stem) is not None for stem in stems)
        if hits > best and 2 * hits >= len(stems):
            best, name = hits, corpus.name
    return name


class _Corpora(Mapping[str, "Corpus"]):
    """Name → :class:`~subtone.corpora.base.Corpus`, imported on access."""

    def __getitem__(self, name: str) -> Corpus:
        if name not in _MODULES:
            raise KeyError(name)
        return get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(_MODULES)

    def __repr__(self) -> str:
        return f"CORPORA({', '.join(names())})"


CORPORA: Mapping[str, Corpus] = _Corpora()
"""All corpora by name."""


def read(name: str, folder: str | os.PathLike[str], **options: Any) -> pd.DataFrame:
    """Read a copy of a corpus into the one table; see :meth:`subtone.corpora.base.Corpus.read`.

    Parameters
    ----------
    name
        E.g. ``"ravdess"``; see :func:`names`.
    folder
        Where the copy lies.
    **options
        The corpus's own, e.g. ``skip_unknown=True``.

    Returns
    -------
    pandas.DataFrame
        One row an utterance, with audformat's segmented index.

    Raises
    ------
    CorpusError
        If the name is unknown or the folder does not hold the corpus.
    """
    return get(name).read(folder, **options)
