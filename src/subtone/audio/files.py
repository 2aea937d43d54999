"""From what a user types (files, folders, patterns) to a list of recordings."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from subtone.errors import AudioError

# fmt: off
AUDIO_SUFFIXES: frozenset[str] = frozenset((
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64",
    ".rf64",
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".mka", ".amr", ".awb", ".3gp", ".3g2", ".aac",
    ".wma", ".wmv", ".asf", ".avi", ".flv", ".ac3", ".ape", ".wv", ".tta", ".mts", ".ts", ".mpg", ".mpeg",
    ".sph", ".snd", ".voc",
))
# fmt: on
"""Suffixes (lower case) that count when a folder is searched; a file named outright is always taken."""


def expand(
    paths: str | Path | Iterable[str | Path],
    recursive: bool = True,
    *,
    missing: Literal["error", "keep"] = "error",
) -> list[Path]:
    """Return the recordings that files, folders and glob patterns stand for.

    Parameters
    ----------
    paths
        One or many. A file is taken whatever its suffix. A folder gives its files with a suffix in
        `AUDIO_SUFFIXES`, sorted, without hidden ones. A pattern (``calls/**/*.wav``) gives its matches,
        sorted.
    recursive
        Search folders below folders too.
    missing
        What to do with a path that does not exist, or a folder inside that cannot be listed: raise, or keep it in
        the list so that reading it gives its own error while the others go on.

    Returns
    -------
    Paths in the order given, each once.

    Raises
    ------
    AudioError
        For a path that does not exist, a pattern without a match, a folder without recordings, or nothing at
        all.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise AudioError("no recordings given; name files, folders or patterns")
    found: dict[Path, None] = {}
    for entry in given:
        path = Path(entry)
        if path.is_dir():
            inside = _walk(path, recursive, missing)
            if not inside:
                raise AudioError(f"{path}: no recordings in this folder (looked for {', '.join(_SHOWN)}, …)")
            found.update(dict.fromkeys(inside))
        elif path.exists() or path.is_symlink():
            found[path] = None
        elif glob.has_magic(str(entry)):
            matches = [Path(match) for match in sorted(glob.glob(str(entry), recursive=True))]
            files = [match for match in matches if match.is_file()]
            if not files:
                raise AudioError(f"{entry}: no file matches this pattern")
            found.update(dict.fromkeys(files))
        elif missing == "keep":
            found[path] = None
        else:
            raise AudioError(f"{path}: no such file or folder")
    return list(found)


_SHOWN = (".wav", ".flac", ".opus", ".mp3", ".m4a")


def _walk(folder: Path, recursive: bool, missing: Literal["error", "keep"]) -> list[Path]:
    inside: list[Path] = []

    def refuse(error: OSError) -> None:
        if missing == "keep" and Path(error.filename) != folder:
            inside.append(Path(error.filename))  # reading it gives its own error; the files beside it go on
            return
        raise AudioError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith((".", "__MACOSX")))
        inside.extend(
            Path(root) / name
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES
        )
    return sorted(inside)
