"""Which rows a protocol keeps: merging emotions and choosing classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from subtone.errors import ProtocolError, nearest
from subtone.protocols.clips import column_text

Merges = Mapping[str, str] | Mapping[str, Sequence[str]]


def merge_pairs(merges: Merges | None) -> tuple[tuple[str, str], ...]:
    """Read merges written either way: ``{"excitement": "happiness"}`` or ``{"happiness": ["excitement"]}``.

    Returns
    -------
    tuple of (from, to)
        Sorted; an emotion merged into itself is left out.

    Raises
    ------
    ProtocolError
        If an emotion is merged into two, or into one that is merged on.

    Examples
    --------
    >>> merge_pairs({"happiness": ["happiness", "excitement"]})
    (('excitement', 'happiness'),)
    """
    found: dict[str, str] = {}
    for left, right in (merges or {}).items():
        pairs = [(left, right)] if isinstance(right, str) else [(source, left) for source in right]
        for source, target in pairs:
            if source == target:
                continue
            if found.setdefault(source, target) != target:
                raise ProtocolError(
                    f"merges: {source!r} goes into both {found[source]!r} and {target!r}; it can go into one"
                )
    chained = sorted(source for source, target in found.items() if target in found)
    if chained:
        target = found[chained[0]]
        raise ProtocolError(
            f"merges: {chained[0]!r} goes into {target!r}, which itself goes into {found[target]!r}; "
            f"name the last one directly"
        )
    return tuple(sorted(found.items()))


def keep_classes(
    table: pd.DataFrame, classes: Sequence[str] | None, merges: tuple[tuple[str, str], ...]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Merge emotions, then keep the rows of the chosen classes.

    Parameters
    ----------
    table
        A standard table.
    classes
        Labels in the wanted order; None takes all that the table holds, sorted.
    merges
        ``(from, to)`` pairs.

    Returns
    -------
    (pd.DataFrame, tuple of str)
        The kept rows with merged ``emotion``, and the classes.

    Raises
    ------
    ProtocolError
        If a class or a merged emotion is not in the table, a class is named twice, or fewer than two remain.
    """
    emotions = column_text(table, "emotion")
    present = {emotion for emotion in emotions if emotion is not None}
    if not present:
        raise ProtocolError(f"none of the {len(table)} rows has an emotion; nothing can be trained on them")
    for source, _ in merges:
        if source not in present:
            raise ProtocolError(f"merges: the table has no emotion {source!r}; {nearest(source, present)}")
    into = dict(merges)
    merged = [None if emotion is None else into.get(emotion, emotion) for emotion in emotions]
    counts = Counter(emotion for emotion in merged if emotion is not None)
    if classes is not None and isinstance(classes, str):
        raise ProtocolError(f"classes must be a list of labels, got the text {classes!r}")
    chosen = tuple(sorted(counts)) if classes is None else tuple(classes)
    for label in chosen:
        if label not in counts:
            gone = f" (it is merged into {into[label]!r})" if label in into else ""
            raise ProtocolError(
                f"classes: the table has no emotion {label!r}{gone}; {nearest(label, counts)}"
            )
    twice = [label for label, count in Counter(chosen).items() if count > 1]
    if twice:
        raise ProtocolError(f"classes: {twice[0]!r} is named twice")
    if len(chosen) < 2:
        raise ProtocolError(f"a classifier needs two classes or more, got {', '.join(chosen) or 'none'}")
    wanted = set(chosen)
    table = table.assign(emotion=pd.array(merged, dtype="string"))
    return table[[emotion in wanted for emotion in merged]], chosen
