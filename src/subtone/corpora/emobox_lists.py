"""EmoBox's two kinds of lists on disk, as one in memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from subtone.errors import CorpusError, nearest

NAME = "emobox"
_SIDES = ("train", "valid", "test")
_TABLE = re.compile(r"(?P<corpus>[\w-]+)\.csv(?:\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Where the list of one corpus is: its table, its ``.jsonl``, or its folder in EmoBox's ``data``."""

    corpus: str
    path: Path


@dataclass(frozen=True)
class Entry:
    """A clip of a list.

    Parameters
    ----------
    key
        The list's name for the clip.
    wav
        Path of the file, ``downloads/<corpus>/…``.
    label
        The corpus's own code.
    emotion
        EmoBox's name for it.
    start_s, end_s
        The stretch of the file, where the list says so.
    shares_file
        Whether other clips lie in the same file.
    """

    key: str
    wav: str
    label: str
    emotion: str
    start_s: float | None = None
    end_s: float | None = None
    shares_file: bool = False


@dataclass(frozen=True)
class Listing:
    """The clips of a corpus, and the side of each (rows) in each fold (columns ``fold_k``)."""

    entries: list[Entry]
    folds: pd.DataFrame


def find_list(path: Path, corpus: str | None) -> Source:
    """Find the list of a corpus at a path.

    Parameters
    ----------
    path
        A list, or a folder: of lists, of one corpus, or EmoBox's checkout.
    corpus
        Which one; None where there is only one.

    Returns
    -------
    Source
        Its place.

    Raises
    ------
    CorpusError
        If there is none, or the choice is open.
    """
    if not path.exists():
        raise CorpusError(f"corpus {NAME!r}: {path}: no such file or folder of lists")
    if path.is_file():
        name = path.name.lower()
        found = _TABLE.fullmatch(name)
        if found:
            return Source(found["corpus"], path)
        if name.endswith(".jsonl"):
            return Source(re.sub(r"_[a-z0-9]+_fold_\d+$", "", path.stem.lower()), path)
        raise CorpusError(f"corpus {NAME!r}: {path}: a list is a .csv.gz, .csv or .jsonl")
    sources: dict[str, Source] = {}
    for folder in (path, path / "data"):
        if not folder.is_dir():
            continue
        if _is_tree(folder):
            sources.setdefault(folder.name.lower(), Source(folder.name.lower(), folder))
        for inner in sorted(folder.iterdir()):
            table = _TABLE.fullmatch(inner.name) if inner.is_file() else None
            if table:
                sources.setdefault(table["corpus"].lower(), Source(table["corpus"].lower(), inner))
            elif inner.is_dir() and _is_tree(inner):
                sources.setdefault(inner.name.lower(), Source(inner.name.lower(), inner))
    if not sources:
        raise CorpusError(
            f"corpus {NAME!r}: {path}: holds no list: neither <corpus>.csv.gz nor <corpus>/fold_1/….jsonl; "
            "give the list, or lists=… where the lists are"
        )
    if corpus is None and len(sources) > 1:
        raise CorpusError(f"corpus {NAME!r}: {path}: holds lists of {', '.join(sources)}; pass corpus=…")
    chosen = corpus.lower() if corpus is not None else next(iter(sources))
    if chosen not in sources:
        raise CorpusError(f"corpus {NAME!r}: {path}: no list of {corpus!r}; {nearest(chosen, sources)}")
    return sources[chosen]


def read_list(source: Source) -> Listing:
    """Read the list of a corpus.

    Parameters
    ----------
    source
        From :func:`find_list`.

    Returns
    -------
    Listing
        Clips in the order of the list. A fold that lists its test clips only has the rest in ``train``.

    Raises
    ------
    CorpusError
        If the list cannot be read, lacks a column, or names a key twice.
    """
    entries, sides = _from_table(source) if source.path.suffix in (".gz", ".csv") else _from_tree(source)
    if not entries:
        raise CorpusError(f"corpus {NAME!r}: {source.path}: lists no clip")
    counts = Counter(entry.key for entry in entries)
    key, times = counts.most_common(1)[0]
    if times > 1:
        raise CorpusError(f"corpus {NAME!r}: {source.path}: lists {key} {times} times; restore the list")
    in_file = Counter(entry.wav for entry in entries)
    entries = [replace(entry, shares_file=in_file[entry.wav] > 1) for entry in entries]
    columns: dict[str, Any] = {}
    for fold in sorted(sides, key=lambda name: int(name.rpartition("_")[2])):
        cells = [sides[fold].get(entry.key) for entry in entries]
        if "train" not in cells:
            cells = [side or "train" for side in cells]
        columns[fold] = pd.array(cells, dtype="string")
    return Listing(
        entries, pd.DataFrame(columns, index=pd.Index([entry.key for entry in entries], name="key"))
    )


def _is_tree(folder: Path) -> bool:
    """Whether a folder is that of a corpus in EmoBox's ``data``."""
    return any(folder.glob("fold_*/*.jsonl")) or (folder / f"{folder.name}.jsonl").is_file()


_Sides = dict[str, dict[str, str]]


def _from_table(source: Source) -> tuple[list[Entry], _Sides]:
    """``<corpus>.csv.gz``."""
    try:
        content = source.path.read_bytes()
        if source.path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"corpus {NAME!r}: {source.path}: cannot be read ({error})") from error
    for column in ("key", "wav", "label", "emotion"):
        if lines and column not in lines[0]:
            raise CorpusError(f"corpus {NAME!r}: {source.path}: lacks the column {column!r}")
    entries = [Entry(line["key"], line["wav"], line["label"], line["emotion"]) for line in lines]
    folds = [name for name in (lines[0] if lines else ()) if re.fullmatch(r"fold_\d+", name)]
    sides: _Sides = {fold: {} for fold in folds}
    for line in lines:
        for fold in folds:
            if line[fold]:
                sides[fold][line["key"]] = _side(line[fold], source)
    return entries, sides


def _from_tree(source: Source) -> tuple[list[Entry], _Sides]:
    """EmoBox's own files; clips that stand in a fold only are taken from there."""
    tree = source.path if source.path.is_dir() else source.path.parent
    stem = tree.name if source.path.is_dir() else source.path.stem
    whole = tree / f"{stem}.jsonl"
    folds = sorted(tree.glob(f"fold_*/{stem}_*_fold_*.jsonl"))
    emotions = _label_map(tree / "label_map.json")
    entries: dict[str, Entry] = {}
    sides: _Sides = {}
    if whole.is_file():
        listed = _json_lines(whole, emotions)
        entries = {entry.key: entry for entry in listed}
        if len(entries) < len(listed):
            key = Counter(entry.key for entry in listed).most_common(1)[0][0]
            raise CorpusError(f"corpus {NAME!r}: {whole}: lists {key} more than once; restore the list")
    for path in folds:
        found = re.fullmatch(rf"{re.escape(stem)}_(\w+)_fold_(\d+)", path.stem)
        fold = sides.setdefault(path.parent.name, {}) if found else {}
        for entry in _json_lines(path, emotions):
            entries.setdefault(entry.key, entry)
            if found and found[1] in _SIDES:  # MER 2023's test1, test2, test3 are sets of the challenge's own
                fold[entry.key] = found[1]
    return list(entries.values()), sides


def _json_lines(path: Path, emotions: dict[str, str]) -> list[Entry]:
    """The clips of a ``.jsonl``."""
    entries = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"corpus {NAME!r}: {path}: cannot be read ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            clip = json.loads(line)
            label = str(clip["emo"])
            entry = Entry(
                key=str(clip["key"]),
                wav=str(clip["wav"]),
                label=label,
                emotion=emotions.get(label, label),
                start_s=float(clip["start_time"]) if "start_time" in clip else None,
                end_s=float(clip["end_time"]) if "end_time" in clip else None,
            )
        except (ValueError, TypeError, KeyError) as error:
            raise CorpusError(
                f"corpus {NAME!r}: {path}, line {number}: is no clip ({type(error).__name__}: {error}); "
                "a line is a JSON object with key, wav and emo"
            ) from error
        entries.append(entry)
    return entries


def _label_map(path: Path) -> dict[str, str]:
    """The corpus's code → EmoBox's name; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"corpus {NAME!r}: {path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise CorpusError(f"corpus {NAME!r}: {path}: should map labels to emotions")
    return {str(label): str(emotion) for label, emotion in content.items()}


def _side(value: str, source: Source) -> str:
    """A side as a table spells it."""
    if value not in _SIDES:
        raise CorpusError(f"corpus {NAME!r}: {source.path}: unknown side {value!r}; {nearest(value, _SIDES)}")
    return value
