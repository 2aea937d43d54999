"""Which of a user's files a published list means.

Lists name files by the paths their authors had. Here only stems must agree, whatever the extension; where a
stem occurs more than once (MELD's ``dia0_utt0`` in three parts, CASIA's ``201`` in every folder) the folders
decide.
"""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePath, PurePosixPath

from subtone.errors import CorpusError


def parts_of(path: str | PurePath) -> tuple[str, ...]:
    """Split a path into its names, innermost first and the file's extension dropped, in composed Unicode.

    >>> parts_of("downloads/savee/DC_a01.wav")
    ('DC_a01', 'savee', 'downloads')
    """
    text = unicodedata.normalize("NFC", str(path).replace("\\", "/"))
    pure = PurePosixPath(text)
    folders = [name for name in reversed(pure.parts[:-1]) if name != "/"]
    return (pure.stem.strip(), *folders)


def short_names(wavs: Sequence[str]) -> list[str]:
    """Name each path by its stem, or by as much more of its end as makes it the only one.

    Parameters
    ----------
    wavs
        Different paths.

    Returns
    -------
    list of str
        E.g. ``"03a01Fa"``, or ``"train_splits/dia0_utt0"``.

    Examples
    --------
    >>> short_names(["x/a.wav", "y/a.wav", "y/b.wav"])
    ['x/a', 'y/a', 'b']
    """
    split = [parts_of(wav) for wav in wavs]
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for parts in split:
        for length in range(1, len(parts) + 1):
            counts[parts[:length]] += 1
    names = []
    for parts in split:
        length = next((n for n in range(1, len(parts)) if counts[parts[:n]] == 1), len(parts))
        names.append("/".join(reversed(parts[:length])))
    return names


def resolve(wavs: Iterable[str], files: Iterable[str | PurePath], corpus: str) -> dict[str, str]:
    """Find the user's file for each path of a list.

    Parameters
    ----------
    wavs
        Paths of the list; repetitions do not matter.
    files
        The user's files.
    corpus
        Name, for messages.

    Returns
    -------
    dict
        Path of the list → file; a path whose file is not there is absent. No file stands for two paths.

    Raises
    ------
    CorpusError
        If two files fit a path equally well.

    Examples
    --------
    >>> resolve(["downloads/x/anger/201.wav", "downloads/x/fear/201.wav"], ["/me/anger/201.flac"], "x")
    {'downloads/x/anger/201.wav': '/me/anger/201.flac'}
    """
    names = sorted(map(str, files))
    common = _common(names)
    exact: dict[str, list[_Named]] = defaultdict(list)
    folded: dict[str, list[_Named]] = defaultdict(list)
    for name in names:
        parts = parts_of(name)
        named = name, parts, _words(parts[1 : len(parts) - common])
        exact[parts[0]].append(named)
        folded[parts[0].casefold()].append(named)
    groups: dict[str, list[_Named]] = defaultdict(list)
    for wav in dict.fromkeys(wavs):
        parts = parts_of(wav)
        groups[parts[0].casefold()].append((wav, parts, _words(parts[1:])))
    found: dict[str, str] = {}
    for key, listed in groups.items():
        # Case counts only where it must: EMNS has random names, and case is lost on some file systems.
        stems = {parts[0] for _, parts, _ in listed}
        if all(stem in exact for stem in stems):
            candidates = [candidate for stem in sorted(stems) for candidate in exact[stem]]
        else:
            candidates = folded.get(key, [])
        found.update(_pair(listed, candidates, corpus))
    return found


_Named = tuple[str, tuple[str, ...], frozenset[str]]
"""A path, its parts, and the words of its folders."""


def _pair(listed: list[_Named], candidates: list[_Named], corpus: str) -> dict[str, str]:
    """Pair paths and files of one stem: each must be the other's best."""
    claims: dict[str, list[_Named]] = defaultdict(list)
    for candidate in candidates:
        best = _best(candidate, listed)
        if len(best) == 1:  # a file that fits several paths alike is not guessed at
            claims[best[0]].append(candidate)
    pairs: dict[str, str] = {}
    for path in listed:
        if not claims[path[0]]:
            continue
        first, *others = _best(path, claims[path[0]])
        for other in others:
            # The same clip twice in one folder under two extensions, or copied: the first by name will do.
            if parts_of(other)[1:] != parts_of(first)[1:] and not _same(first, other):
                raise CorpusError(
                    f"corpus {corpus!r}: {path[0]} may be {first} or {other}; "
                    "remove one, or give the folder that holds one"
                )
        pairs[path[0]] = first
    return pairs


def _best(one: _Named, options: list[_Named]) -> list[str]:
    """The options most like a path, sorted."""
    likeness = {name: _likeness(one, (name, parts, words)) for name, parts, words in options}
    top = max(likeness.values())
    return sorted(name for name, value in likeness.items() if value == top)


def _likeness(one: _Named, other: _Named) -> tuple[int, int, int]:
    """Equal stem; equal folders counted from the file upwards; words in common between all folders."""
    upwards = 0
    for ours, theirs in zip(one[1][1:], other[1][1:]):
        if ours.casefold() != theirs.casefold():
            break
        upwards += 1
    return int(one[1][0] == other[1][0]), upwards, len(one[2] & other[2])


def _same(one: str, other: str) -> bool:
    """Whether two files hold the same bytes."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _common(names: list[str]) -> int:
    """How many leading folders all files share, save the innermost one: they tell nothing apart."""
    folders = {os.path.dirname(name) for name in names}
    if not folders or len({os.path.isabs(folder) for folder in folders}) > 1:
        return 0
    shared = os.path.commonpath(folders) if all(folders) else ""
    return max(len(PurePosixPath(shared.replace("\\", "/")).parts) - 2, 0)


def _words(folders: tuple[str, ...]) -> frozenset[str]:
    """The words of the folders' names: ``train_splits`` and ``train`` share one."""
    return frozenset(word for name in folders for word in re.split(r"[\W_]+", name.casefold()) if word)
