"""What readers of corpora with annotation files share: finding files, reading old text, clips by name.

Corpora whose names carry the labels are read by :mod:`subtone.corpora.names`; here the labels lie in files of
their own and the audio is looked up from them.
"""

from __future__ import annotations

import csv
import filecmp
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from subtone.corpora.base import Reading
from subtone.corpora.names import Clip, Duplicates, walk
from subtone.errors import CorpusError


def find_files(root: Path, matches: Callable[[str], bool]) -> list[Path]:
    """List the files below a folder whose name fits, nearest to the root first.

    Parameters
    ----------
    root
        An existing folder.
    matches
        Told each file name, except hidden ones (macOS leaves ``._`` twins of annotation files) and those in
        ``__MACOSX``.

    Returns
    -------
    list of pathlib.Path
        Sorted by depth, then by path.
    """
    found: list[Path] = []
    for here, folders, files in os.walk(root, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        found += [Path(here, name) for name in files if not name.startswith(".") and matches(name)]
    return sorted(found, key=lambda path: (len(path.parts), str(path)))


def read_text(corpus: str, path: Path, encodings: Sequence[str] = ("utf-8-sig", "cp1252")) -> str:
    """Read a text file in the first encoding that fits.

    Parameters
    ----------
    corpus
        Name, for messages.
    path
        The file.
    encodings
        Tried in turn; put the strict ones first.

    Returns
    -------
    str
        Its text.

    Raises
    ------
    CorpusError
        If it cannot be opened, or no encoding fits.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"corpus {corpus!r}: {path}: cannot be read ({error.strerror})") from error
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise CorpusError(f"corpus {corpus!r}: {path}: is not text in {' or '.join(encodings)}; restore the file")


def csv_lines(text: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Split CSV text into ``(line number, cells)``, numbers from 1 and cells without blanks at their ends.

    >>> csv_lines("a, b\\n\\nc,d")
    [(1, ['a', 'b']), (3, ['c', 'd'])]
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]


def number(corpus: str, where: str, value: str | None) -> float | None:
    """Read a rating; nothing and NaN are None.

    Parameters
    ----------
    corpus, where
        For the message.
    value
        As it stands in the file.

    Returns
    -------
    float or None
        The finite number, or None.

    Raises
    ------
    CorpusError
        If it is no number.

    Examples
    --------
    >>> number("x", "line 1", "2.5"), number("x", "line 1", "NaN")
    (2.5, None)
    """
    if value is None or not value.strip():
        return None
    try:
        found = float(value)
    except ValueError:
        raise CorpusError(
            f"corpus {corpus!r}: {where}: {value!r} is no number; restore the annotation file"
        ) from None
    return found if math.isfinite(found) else None


class Clips:
    """The audio files of a folder by name, each used at most once.

    Parameters
    ----------
    corpus
        Name, for messages.
    root
        The folder.
    duplicates
        ``"first"`` keeps the first of several different files of one clip; else they are an error.
    key
        Clip → name in the annotations, or None for a file that is no clip of the corpus; case does not
        matter.
    """

    def __init__(
        self,
        corpus: str,
        root: Path,
        duplicates: Duplicates = "error",
        key: Callable[[Clip], str | None] = lambda clip: clip.stem,
    ) -> None:
        self._corpus, self._root, self._duplicates = corpus, root, duplicates
        self._found: dict[str, list[Path]] = {}
        self._used: set[str] = set()
        for clip in walk(root):
            name = key(clip)
            if name is not None:
                self._found.setdefault(name.lower(), []).append(clip.path)

    def __len__(self) -> int:
        return len(self._found)

    def take(self, name: str, reading: Reading) -> Path | None:
        """Return the file of a clip, or None; further identical copies are noted in the reading.

        Raises
        ------
        CorpusError
            If different files have that name.
        """
        group = sorted(self._found.get(name.lower(), ()), key=lambda path: (len(path.parts), str(path)))
        if not group:
            return None
        first, *others = group
        for other in others:
            if self._duplicates != "first" and not filecmp.cmp(first, other, shallow=False):
                ours, theirs = first.relative_to(self._root), other.relative_to(self._root)
                raise CorpusError(
                    f"corpus {self._corpus!r}: {ours} and {theirs}: different files of the same clip; "
                    "remove one, or pass duplicates='first'"
                )
            if name.lower() not in self._used:
                reading.duplicates.append((str(other), str(first)))
        self._used.add(name.lower())
        return first

    def unused(self) -> Iterable[Path]:
        """Yield the files that no annotation asked for."""
        for name, group in self._found.items():
            if name not in self._used:
                yield from group


def require_rows(
    corpus: str, root: Path, reading: Reading, annotations: str, clips: Clips, example: str
) -> None:
    """Refuse a reading without a single clip, saying which half of the corpus is not there.

    Raises
    ------
    CorpusError
        If the reading has no row.
    """
    if reading.rows:
        return
    audio = f"{len(clips)} audio files, none of them named in it" if len(clips) else "no audio file"
    raise CorpusError(
        f"corpus {corpus!r}: {root}: has {annotations} but {audio}; "
        f"expected names like {example} (any audio format)"
    )
