"""Reading corpora whose file names carry the labels: walk a folder, match stems, settle duplicates.

Only stems count, whatever the extension and mostly whatever the folders: people keep corpora as FLAC or Opus,
flatten them and rename their parents.
"""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from subtone.audio import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from subtone.corpora.base import Reader, Reading, Row
from subtone.errors import CorpusError

Duplicates = Literal["error", "first"]
"""What to do when different files claim to be the same clip."""


class UnknownName(Exception):
    """A file name that breaks the corpus's rules; the message says which rule."""


class NotSpeech(Exception):
    """A file of the corpus that is no part of its emotional speech; the message says what it is."""


@dataclass(frozen=True)
class Clip:
    """An audio file on the walk.

    Parameters
    ----------
    path
        Absolute path.
    stem
        File name without extension, in Unicode's composed form, without blanks at its ends.
    folders
        Names of the folders that hold it, innermost first, up to and with the root of the walk.
    """

    path: Path
    stem: str
    folders: tuple[str, ...]

    def match(self, pattern: re.Pattern[str], rule: str) -> re.Match[str]:
        """Match the whole stem or raise :class:`UnknownName` with the rule."""
        found = pattern.fullmatch(self.stem)
        if found is None:
            raise UnknownName(rule)
        return found


def code(codes: Mapping[str, str], value: str, what: str) -> str:
    """Look a code up, or raise :class:`UnknownName` that names the code and the known ones.

    >>> code({"W": "anger"}, "W", "emotion letter")
    'anger'
    """
    if value not in codes:
        raise UnknownName(f"{what} {value!r} is not one of {', '.join(codes)}")
    return codes[value]


def check_folder(corpus: str, folder: Path) -> Path:
    """Return the folder as an absolute path.

    Raises
    ------
    CorpusError
        If it does not exist or is a file.
    """
    if not folder.exists():
        raise CorpusError(
            f"corpus {corpus!r}: {folder}: no such folder; give the folder that holds the corpus"
        )
    if not folder.is_dir():
        raise CorpusError(f"corpus {corpus!r}: {folder}: is a file; give the folder that holds the corpus")
    return Path(os.path.abspath(folder))


def walk_folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder at and below a root with the names of its files, in a fixed order.

    Hidden files and folders, ``__MACOSX`` and macOS's ``._`` twins are passed over; links to folders are
    followed, each folder once.

    Parameters
    ----------
    root
        An existing folder.

    Yields
    ------
    tuple
        Absolute path, sorted file names.

    Raises
    ------
    CorpusError
        If a folder cannot be listed.
    """
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions")

    for here, folders, files in os.walk(os.path.abspath(root), onerror=refuse, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:  # a link back up, or to a folder already walked
            folders[:] = []
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield here, sorted(name for name in files if not name.startswith("."))


def walk(folder: Path) -> Iterator[Clip]:
    """Yield every audio file below a folder; see :func:`walk_folders`.

    Parameters
    ----------
    folder
        An existing folder.

    Yields
    ------
    Clip
        One for each file with a known audio suffix.

    Raises
    ------
    CorpusError
        If a folder cannot be listed.
    """
    root = os.path.abspath(folder)
    for here, files in walk_folders(folder):
        inside = os.path.relpath(here, root)
        parts = [] if inside == "." else inside.split(os.sep)
        holders = tuple(
            unicodedata.normalize("NFC", name) for name in [*reversed(parts), os.path.basename(root)]
        )
        for name in files:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in AUDIO_SUFFIXES:
                yield Clip(Path(here, name), unicodedata.normalize("NFC", stem).strip(), holders)


def read_names(
    corpus: str,
    folder: Path,
    parse: Callable[[Clip], Row],
    *,
    example: str,
    key: Callable[[Clip], str] = lambda clip: clip.stem,
    skip_unknown: bool = False,
    duplicates: Duplicates = "error",
    prefer: tuple[str, ...] = (),
) -> Reading:
    """Read a corpus by its file names.

    A clip is known by its key (the stem, unless said otherwise). Byte-identical copies of a clip, as in
    archives that hold a tree twice, are read once: the one nearest to the root, then the first by name.
    Different files of one clip are an error unless a preferred folder or ``duplicates="first"`` decides.

    Parameters
    ----------
    corpus
        Name, for messages.
    folder
        Root of the user's copy.
    parse
        Clip → row; raises :class:`UnknownName` or :class:`NotSpeech`.
    example
        A typical file name, for messages.
    key
        Clip → what identifies it in the corpus.
    skip_unknown
        Leave files out whose names break the rules, and list them; else they are an error.
    duplicates
        ``"first"`` keeps the first of several different files of one clip.
    prefer
        Folder names, best first, of a corpus that officially comes in several encodings side by side.

    Returns
    -------
    Reading
        The rows and what was left out.

    Raises
    ------
    CorpusError
        As said above, or if nothing of the corpus is there.
    """
    if duplicates not in get_args(Duplicates):
        raise CorpusError(f"corpus {corpus!r}: duplicates={duplicates!r} is neither 'error' nor 'first'")
    root = check_folder(corpus, folder)
    reading = Reading()
    found: dict[str, list[tuple[Clip, Row]]] = {}
    unknown: list[tuple[Clip, str]] = []
    for clip in walk(root):
        try:
            row = parse(clip)
        except UnknownName as error:
            unknown.append((clip, str(error)))
        except NotSpeech as error:
            reading.excluded.append((str(clip.path), str(error)))
        else:
            found.setdefault(key(clip).lower(), []).append((clip, row))
    if not found:
        raise CorpusError(_nothing(corpus, root, example, unknown, reading.excluded))
    if unknown and not skip_unknown:
        clip, rule = unknown[0]
        more = f" ({len(unknown) - 1} more files like it)" if len(unknown) > 1 else ""
        raise CorpusError(
            f"corpus {corpus!r}: {clip.path.relative_to(root)}: {rule}{more}; "
            "move the file away or pass --skip-unknown (skip_unknown=True)"
        )
    reading.skipped = [(str(clip.path), rule) for clip, rule in unknown]
    for group in found.values():
        clip, row = group[0] if len(group) == 1 else _settle(corpus, root, group, duplicates, prefer)
        reading.rows.append(row)
        reading.duplicates += [(str(other.path), str(clip.path)) for other, _ in group if other is not clip]
    return reading


def by_name(
    corpus: str,
    parse: Callable[[Clip], Row],
    example: str,
    *,
    key: Callable[[Clip], str] = lambda clip: clip.stem,
    prefer: tuple[str, ...] = (),
) -> Reader:
    """Make the reader of a corpus whose names alone carry everything; see :func:`read_names`."""

    def read(folder: Path, *, skip_unknown: bool = False, duplicates: Duplicates = "error") -> Reading:
        return read_names(
            corpus,
            folder,
            parse,
            example=example,
            key=key,
            skip_unknown=skip_unknown,
            duplicates=duplicates,
            prefer=prefer,
        )

    return read


def _settle(
    corpus: str, root: Path, group: list[tuple[Clip, Row]], duplicates: Duplicates, prefer: tuple[str, ...]
) -> tuple[Clip, Row]:
    """Choose the file that stands for a clip, or refuse."""

    def rank(item: tuple[Clip, Row]) -> tuple[int, int, str]:
        clip = item[0]
        ranks = [prefer.index(name) for name in clip.folders if name in prefer]
        return min(ranks, default=len(prefer)), len(clip.folders), str(clip.path)

    ordered = sorted(group, key=rank)
    first = ordered[0]
    for other in ordered[1:]:
        if duplicates == "first" or rank(other)[0] > rank(first)[0]:
            continue
        try:
            same = filecmp.cmp(first[0].path, other[0].path, shallow=False)
        except OSError as error:
            raise CorpusError(
                f"corpus {corpus!r}: {error.filename}: cannot be read ({error.strerror}), "
                "so it cannot be compared with another file of the same clip; remove it or repair it"
            ) from error
        if not same:
            ours, theirs = first[0].path.relative_to(root), other[0].path.relative_to(root)
            raise CorpusError(
                f"corpus {corpus!r}: {ours} and {theirs}: different files of the same clip; "
                "remove one, read only one of the folders, or pass duplicates='first'"
            )
    return first


def _nothing(
    corpus: str, root: Path, example: str, unknown: list[tuple[Clip, str]], excluded: list[tuple[str, str]]
) -> str:
    """Say why nothing was read, and whose files these may be."""
    start = f"corpus {corpus!r}: {root}: "
    expected = f"expected names like {example} (any audio format)"
    if excluded:
        path, why = excluded[0]
        return f"{start}holds nothing of the emotional speech: {Path(path).name} is {why}; {expected}"
    if not unknown:
        return f"{start}holds no audio file; {expected}; give the folder that holds the corpus"
    from subtone.corpora.registry import (
        guess,
    )  # at call time: the registry imports corpora, which import this file

    other = guess([clip.stem for clip, _ in unknown[:50]], but=corpus)
    hint = f"; it looks like corpus {other!r}" if other else ""
    clip, rule = unknown[0]
    return (
        f"{start}none of its {len(unknown)} audio files is named as the corpus names them "
        f"({clip.path.relative_to(root)}: {rule}); {expected}{hint}"
    )
