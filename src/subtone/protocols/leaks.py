"""The leak guard: nobody and nothing may be on two sides of a fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from subtone.errors import LeakError as LeakError
from subtone.errors import ProtocolError
from subtone.protocols.clips import files_of, required_identities, spans_ms, standard_table
from subtone.protocols.protocol import Fold, LeakKind

Digests = Mapping[str, str] | Callable[[str], str]
OFFENDERS_SHOWN = 5
_SIDES = ("train", "dev", "test", "")  # the last: on no side of this fold
_PAIRS = (("train", "test"), ("dev", "test"), ("train", "dev"))


def check_leaks(
    table: pd.DataFrame,
    folds: Sequence[Fold],
    on: Collection[LeakKind] = ("speaker", "audio"),
    digests: Digests | None = None,
    *,
    shared_with_dev: Collection[LeakKind] = (),
) -> None:
    """Refuse folds in which a speaker, a recording or (where asked) a sentence is on two sides.

    Two clips are identical audio when their files have equal bytes and their segments overlap; segments that
    merely touch do not.

    Parameters
    ----------
    table
        Corpus table that the folds' positions refer to.
    folds
        The folds; train, dev and test are compared pairwise in each.
    on
        What to look for.
    digests
        File -> content address, as mapping or function; by default `subtone.audio.audio_digest` of the files,
        computed only for files whose size occurs more than once.
    shared_with_dev
        Kinds that train and dev may share (with the test rows they may not).

    Raises
    ------
    LeakError
        Naming up to five offenders with their folds, and the way out.
    ProtocolError
        If what is asked cannot be checked, e.g. a speaker is unknown.
    """
    table = standard_table(table)
    for kind in on:
        if kind not in ("speaker", "audio", "sentence"):
            raise ProtocolError(f"leaks: unknown kind {kind!r}; known: audio, sentence, speaker")
    for kind in ("speaker", "audio", "sentence"):
        if kind not in on:
            continue
        pairs = _PAIRS[:2] if kind in shared_with_dev else _PAIRS
        if kind == "audio":
            found = list(_audio_leaks(table, folds, pairs, digests))
        else:
            names = required_identities(
                table,
                kind,
                "the leak check",
                f"fill the column, or leave {kind!r} out of leaks in the recipe",
            )
            found = list(_group_leaks(names, folds, pairs))
        if found:
            _refuse(kind, found, on)


def _refuse(kind: LeakKind, found: list[str], asked: Collection[LeakKind]) -> None:
    rest = [other for other in asked if other != kind]
    what = {
        "speaker": "the same speaker",
        "audio": "identical audio",
        "sentence": "the same sentence",
    }[kind]
    more = f"; and {len(found) - OFFENDERS_SHOWN} more" if len(found) > OFFENDERS_SHOWN else ""
    raise LeakError(
        f"{what} on two sides of a fold, {len(found)} in all: {'; '.join(found[:OFFENDERS_SHOWN])}{more}. "
        f"Draw the folds apart, or allow it with leaks: [{', '.join(rest)}] in the recipe"
    )


def _group_leaks(
    names: Sequence[str], folds: Sequence[Fold], pairs: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Names (speakers, sentences) that are on two sides."""
    labels = np.asarray(names, dtype=object)
    for fold in folds:
        sides = {side: set(labels[getattr(fold, side)].tolist()) for side in _SIDES[:3]}
        for left, right in pairs:
            for name in sorted(sides[left] & sides[right]):
                yield f"{name!r} in {left} and {right} of fold {fold.name!r}"


def _audio_leaks(
    table: pd.DataFrame,
    folds: Sequence[Fold],
    pairs: Sequence[tuple[str, str]],
    digests: Digests | None,
) -> Iterator[str]:
    """Pairs of clips with common audio that are on two sides."""
    files = files_of(table)
    twins = _common_audio(table, contents(files, digests))
    if not twins:
        return
    for fold in folds:
        side = [""] * len(table)
        for name in _SIDES[:3]:
            for row in getattr(fold, name).tolist():
                side[row] = name
        for pair in twins:
            first, second = sorted(pair, key=lambda row: _SIDES.index(side[row]))
            if (side[first], side[second]) not in pairs:
                continue
            if files[first] == files[second]:
                where = f"overlapping parts of {files[first]} in {side[first]} and {side[second]}"
            else:
                where = f"{files[first]} ({side[first]}) and {files[second]} ({side[second]})"
            yield f"{where} of fold {fold.name!r}"


def _common_audio(table: pd.DataFrame, content: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of rows with equal content and overlapping segments."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(content):
        rows_of[digest].append(row)
    starts, ends = spans_ms(table)
    pairs: list[tuple[int, int]] = []
    for rows in rows_of.values():
        running: list[int] = []  # rows whose segment has not ended where the current one starts
        for row in sorted(rows, key=lambda row: float(starts[row])) if len(rows) > 1 else ():
            running = [other for other in running if ends[other] > starts[row]]
            pairs += [(other, row) for other in running]
            running.append(row)
    return pairs


def contents(files: Sequence[str], digests: Digests | None) -> list[str]:
    """Content address of each file; a file whose size no other has needs no reading and stands for itself.

    Raises
    ------
    ProtocolError
        If a file is not there, or the given digests lack it.
    """
    if digests is not None:
        try:
            known = {file: digests(file) if callable(digests) else digests[file] for file in set(files)}
        except KeyError as error:
            raise ProtocolError(f"digests: no content address for {error.args[0]}") from None
        return [known[file] for file in files]
    from subtone.audio import audio_digest

    same_size: dict[int, list[str]] = defaultdict(list)
    for file in dict.fromkeys(files):
        try:
            same_size[Path(file).stat().st_size].append(file)
        except OSError as error:
            raise ProtocolError(
                f"{file}: {error.strerror or error}; the check for identical audio needs every file. "
                "Read the corpus again, or leave 'audio' out of leaks in the recipe"
            ) from None
    known = {}
    for group in same_size.values():
        for file in group:
            known[file] = audio_digest(file) if len(group) > 1 else file
    return [known[file] for file in files]
