"""Annotation files beside the audio of a corpus: where they lie, and their lines."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from subtone.corpora.base import Reading
from subtone.corpora.names import walk_folders
from subtone.errors import CorpusError


def find_file(root: Path, *names: str) -> Path | None:
    """Find an annotation file by name below a folder or beside it; the one nearest to the root wins.

    Parameters
    ----------
    root
        The corpus folder; its parent is looked at too, because people give the folder of the audio.
    *names
        File names, best first; case does not matter.

    Returns
    -------
    pathlib.Path or None
        The file, or None if there is none.
    """
    wanted = [name.lower() for name in names]
    hits: list[tuple[int, int, str]] = []
    for here, files in walk_folders(root):
        depth = here.count(os.sep)
        hits += [
            (wanted.index(name.lower()), depth, os.path.join(here, name))
            for name in files
            if name.lower() in wanted
        ]
    if hits:
        return Path(min(hits)[2])
    beside = [Path(root).absolute().parent / name for name in names]
    return next((path for path in beside if path.is_file()), None)


def read_rows(
    corpus: str, path: Path, columns: tuple[str, ...], *, delimiter: str = ","
) -> list[dict[str, str]]:
    """Read an annotation file with a header line into one dict a line, values without blanks at their ends.

    Parameters
    ----------
    corpus
        Name, for messages.
    path
        A text file in UTF-8 (a byte order mark is fine).
    columns
        Columns that must be there.
    delimiter
        Between the columns.

    Returns
    -------
    list of dict
        Column → value; a short line has empty values.

    Raises
    ------
    CorpusError
        If the file cannot be read or lacks a column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
            header = [str(name).strip() for name in reader.fieldnames or ()]
            lines = [
                {
                    str(name).strip(): str(value or "").strip()
                    for name, value in line.items()
                    if name is not None
                }
                for line in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"corpus {corpus!r}: {path}: cannot be read ({error}); it should be UTF-8 text"
        ) from error
    absent = [name for name in columns if name not in header]
    if absent:
        raise CorpusError(
            f"corpus {corpus!r}: {path}: lacks the column {absent[0]!r} "
            f"(it has {', '.join(header) or 'none'}); "
            "restore the corpus's own file or move this one away"
        )
    return lines


def read_texts(corpus: str, root: Path, suffix: str, folder: str = "") -> dict[str, str]:
    """Read the transcripts of a corpus that has one small text file a clip.

    Parameters
    ----------
    corpus
        Name, for messages.
    root
        The corpus folder.
    suffix
        Of the text files, e.g. ``".ort"``.
    folder
        Name of the folder that holds them; empty for any.

    Returns
    -------
    dict
        Lower-case stem → text in one line.

    Raises
    ------
    CorpusError
        If a file is not UTF-8 text.
    """
    texts: dict[str, str] = {}
    for here, files in walk_folders(root):
        if folder and os.path.basename(here).lower() != folder:
            continue
        for name in files:
            if not name.lower().endswith(suffix):
                continue
            try:
                text = Path(here, name).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise CorpusError(
                    f"corpus {corpus!r}: {Path(here, name)}: cannot be read ({error}); "
                    "it should be UTF-8 text"
                ) from error
            texts[os.path.splitext(name)[0].lower()] = " ".join(text.split())
    return texts


def note_missing(reading: Reading, named: Iterable[str], where: str) -> None:
    """Record both directions of disagreement between annotations and audio.

    Parameters
    ----------
    reading
        Gets ``missing`` entries for names without audio, and a note that counts clips without annotation.
    named
        Stems that the annotation names.
    where
        The annotation, for messages.
    """
    wanted = {name.lower(): name for name in named}
    there = {row.file.stem.lower() for row in reading.rows}
    reading.missing += [(wanted[name], where) for name in sorted(wanted.keys() - there)]
    bare = sorted(there - wanted.keys())
    if bare:
        reading.notes.append(f"{len(bare)} of {len(there)} clips are not in {where} (first: {bare[0]})")
