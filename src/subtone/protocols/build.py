"""From a table and a few words to folds that are checked: `build`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.errors import ProtocolError, nearest
from subtone.protocols import development
from subtone.protocols import folds as making
from subtone.protocols.clips import (
    checksum,
    clip_lines,
    corpora_of,
    files_of,
    identities,
    recording_ranks,
    required_identities,
    standard_table,
)
from subtone.protocols.labels import Merges, keep_classes, merge_pairs
from subtone.protocols.leaks import Digests, check_leaks
from subtone.protocols.lists import ListedFold, Lists, folds_of_column, folds_of_lists
from subtone.protocols.protocol import DevRule, Fold, FoldsKind, LeakKind, Protocol, Split

FOLDS: dict[str, FoldsKind] = {
    "leave-one-speaker-out": "leave-one-speaker-out",
    "speaker": "leave-one-speaker-out",
    "leave-one-session-out": "leave-one-session-out",
    "session": "leave-one-session-out",
    "leave-one-sentence-out": "leave-one-sentence-out",
    "sentence": "leave-one-sentence-out",
    "leave-one-corpus-out": "leave-one-corpus-out",
    "corpus": "leave-one-corpus-out",
    "group-k-fold": "group-k-fold",
    "group-k": "group-k-fold",
    "random-k-fold": "random-k-fold",
    "random-k": "random-k-fold",
    "fixed": "fixed",
    "emobox": "emobox",
}
DEV: dict[str, DevRule] = {
    "speakers": "speakers",
    "random": "random",
    "session": "session",
    "partner": "partner",
    "other speaker of the session": "partner",
    "none": "none",
}


def build(
    table: pd.DataFrame,
    folds: str = "leave-one-speaker-out",
    *,
    k: int = 10,
    classes: Sequence[str] | None = None,
    merges: Merges | None = None,
    dev: str = "speakers",
    dev_share: float = 0.2,
    dev_speakers: int | None = None,
    seed: int = 0,
    leaks: Collection[str] = ("speaker", "audio"),
    lists: Lists | None = None,
    digests: Digests | None = None,
) -> Split:
    """Divide a corpus into folds, check them for leaks, and name the protocol.

    Nothing here depends on the order of the table's rows or on the folder that the corpus lies in.

    Parameters
    ----------
    table
        Corpus table (or several concatenated: a speaker is then one of her corpus).
    folds
        ``"leave-one-speaker-out"`` (``"speaker"``), ``"leave-one-session-out"`` (``"session"``),
        ``"leave-one-sentence-out"`` (``"sentence"``), ``"leave-one-corpus-out"`` (``"corpus"``),
        ``"group-k-fold"`` (speakers whole, balanced in size and classes), ``"random-k-fold"`` (clips at
        random, each class shared out evenly, recordings whole), ``"fixed"`` (``lists``, or else the column
        ``split``) or ``"emobox"`` (``lists``). ``"random-k-fold"`` is there to compare with papers that
        divide so: the test speakers are heard in training, which flatters every figure.
    k
        Number of folds of ``"group-k-fold"`` and ``"random-k-fold"``.
    classes
        Labels to keep, in this order; default all, sorted.
    merges
        Emotions to join first: ``{"excitement": "happiness"}`` or ``{"happiness": ["excitement"]}``.
    dev
        Where development clips come from: ``"speakers"`` (training speakers held back whole), ``"random"``
        (training clips, speaker-dependent), ``"session"`` (a training session), ``"partner"`` (the other
        speaker of the tested session) or ``"none"``. Lists that name development clips overrule it.
        ``"random-k-fold"``, which tests a little of every session, takes no ``"session"`` and no
        ``"partner"``.
    dev_share, dev_speakers
        Share (0..1) of the training speakers or clips, or the number of speakers.
    seed
        Of all random choices.
    leaks
        What must not be on two sides of a fold: ``"speaker"``, ``"audio"``, ``"sentence"``; ``()`` allows
        all. Sentences are compared between test and the rest only; speakers too where ``dev="random"``, and
        not at all under ``"random-k-fold"``. When no file of the table is there (a table of metadata), audio
        is not compared, and the protocol says so.
    lists
        For ``"fixed"`` and ``"emobox"``; see `subtone.protocols.lists.folds_of_lists`.
    digests
        See `check_leaks`.

    Returns
    -------
    Split
        The protocol, the rows used, and the folds.

    Raises
    ------
    ProtocolError
        If the table cannot give such folds: unknown class, unknown speakers, too few of them, a class that no
        training row has.
    LeakError
        If something is on two sides.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"corpus": "toy", "speaker": ["a", "a", "b", "b", "c", "c"], "emotion": ["anger", "sadness"] * 3},
    ...     index=pd.Index([f"{n}.wav" for n in range(6)], name="file"),
    ... )
    >>> split = build(table, "speaker")
    >>> print(split.protocol)
    toy · 2 classes (anger, sadness) · leave-one-speaker-out, 3 folds · dev: 20 % of training speakers
     · 6 clips, 3 speakers · leaks not checked: audio · sha256 ...
    >>> split.folds[0].name, split.folds[0].test
    ('a', array([0, 1]))
    """
    kind, rule, checked = _options(folds, dev, dev_share, dev_speakers, leaks, lists, digests)
    everything = standard_table(table)
    pairs = merge_pairs(merges)
    used, chosen = keep_classes(everything, classes, pairs)
    absent = 0
    listed: list[ListedFold] | None = None
    if kind in ("fixed", "emobox"):
        used, listed, absent = _listed(used, lists, chosen)
        if any(len(fold.dev) for fold in listed):
            rule = "listed"
    number = {label: code for code, label in enumerate(chosen)}
    labels = np.array([number[str(emotion)] for emotion in used["emotion"]], dtype=np.int64)
    lines = clip_lines(used)
    rank = np.empty(len(used), dtype=np.int64)
    rank[sorted(range(len(used)), key=lines.__getitem__)] = np.arange(len(used))

    whole = kind == "random-k-fold"  # recordings stay whole; speakers, who are whole elsewhere, do not
    if whole:
        rank = recording_ranks(used, rank)
    drawn = listed if listed is not None else _drawn(used, kind, labels, rank, k, seed)
    divided = tuple(
        _with_dev(
            used, fold, labels, rank, rule, whole=whole, share=dev_share, number=dev_speakers, seed=seed
        )
        for fold in drawn
    )
    _check_classes(divided, labels, chosen)
    if "audio" in checked and digests is None and not any(Path(file).exists() for file in files_of(used)):
        checked = tuple(leak for leak in checked if leak != "audio")
    tolerated: tuple[LeakKind, ...] = ("sentence", "speaker") if rule == "random" else ("sentence",)
    check_leaks(used, divided, checked, digests, shared_with_dev=tolerated)

    people = identities(used, "speaker")
    protocol = Protocol(
        corpus="+".join(dict.fromkeys(sorted(corpora_of(used)))),
        classes=chosen,
        merges=pairs,
        folds=kind,
        num_folds=len(divided),
        dev=rule,
        dev_share=float(dev_share),
        dev_speakers=dev_speakers,
        seed=seed,
        leaks=checked,
        clips=len(used),
        speakers=None if None in people else len(set(people)),
        per_class=tuple(int(count) for count in np.bincount(labels, minlength=len(chosen))),
        clips_read=len(everything),
        clips_absent=absent,
        checksum=checksum(lines),
        folds_checksum=checksum(
            f"{fold.name}|{side}|{lines[row]}"
            for fold in divided
            for side in ("train", "dev", "test")
            for row in getattr(fold, side)
        ),
    )
    return Split(protocol, used, divided)


def _options(
    folds: str,
    dev: str,
    dev_share: float,
    dev_speakers: int | None,
    leaks: Collection[str],
    lists: Lists | None,
    digests: Digests | None,
) -> tuple[FoldsKind, DevRule, tuple[LeakKind, ...]]:
    """Check the words and numbers that do not need the table."""
    del digests
    if folds not in FOLDS:
        raise ProtocolError(f"folds: unknown kind {folds!r}; {nearest(folds, FOLDS)}")
    if dev not in DEV:
        raise ProtocolError(f"dev: unknown rule {dev!r}; {nearest(dev, DEV)}")
    if not 0.0 < dev_share < 1.0:
        raise ProtocolError(
            f"dev_share = {dev_share}; it must lie between 0 and 1 (dev='none' for no development)"
        )
    if dev_speakers is not None and dev_speakers < 1:
        raise ProtocolError(f"dev_speakers = {dev_speakers}; it must be 1 or more (dev='none' for none)")
    if isinstance(leaks, str):
        leaks = (leaks,)
    for leak in leaks:
        if leak not in ("speaker", "audio", "sentence"):
            raise ProtocolError(
                f"leaks: unknown kind {leak!r}; {nearest(leak, ['speaker', 'audio', 'sentence'])}"
            )
    if folds == "emobox" and lists is None:
        raise ProtocolError("folds='emobox' needs lists=: the fold columns that subtone.corpora.emobox reads")
    if lists is not None and folds not in ("fixed", "emobox"):
        raise ProtocolError(f"lists= goes with folds='fixed' or 'emobox', not with {folds!r}")
    ordered = tuple(leak for leak in ("speaker", "audio", "sentence") if leak in leaks)
    if FOLDS[folds] == "random-k-fold":
        if DEV[dev] in ("session", "partner"):
            raise ProtocolError(
                f"dev={dev!r} goes by the tested session, but {folds!r} tests clips of every session; "
                "take dev='random', dev='speakers' or dev='none'"
            )
        # Speakers are shared by design, which the protocol says in capitals.
        ordered = tuple(leak for leak in ordered if leak != "speaker")
    return FOLDS[folds], DEV[dev], cast("tuple[LeakKind, ...]", ordered)


def _listed(
    used: pd.DataFrame, lists: Lists | None, classes: tuple[str, ...]
) -> tuple[pd.DataFrame, list[ListedFold], int]:
    """Folds that are given, and the table without the rows that they do not name."""
    found, absent = (folds_of_column(used), 0) if lists is None else folds_of_lists(used, lists)
    named = np.zeros(len(used), dtype=np.bool_)
    for fold in found:
        for side in (fold.train, fold.dev, fold.test):
            named[side] = True
    position = np.cumsum(named) - 1
    moved = [
        ListedFold(fold.name, position[fold.train], position[fold.dev], position[fold.test]) for fold in found
    ]
    used = used[named]
    gone = set(classes) - {str(emotion) for emotion in used["emotion"]}
    if gone:
        raise ProtocolError(f"the lists name no clip of class {sorted(gone)[0]!r}; leave it out of classes")
    return used, moved, absent


def _drawn(
    used: pd.DataFrame,
    kind: FoldsKind,
    labels: npt.NDArray[np.int64],
    rank: npt.NDArray[np.int64],
    k: int,
    seed: int,
) -> list[ListedFold]:
    """Folds that test every row once."""
    if kind == "random-k-fold":
        tested = making.random_k_fold(labels, rank, k, seed)
    elif kind == "leave-one-corpus-out":
        tested = making.leave_one_group_out(corpora_of(used), "corpus")
    else:
        what = {
            "leave-one-session-out": "session",
            "leave-one-sentence-out": "sentence",
        }.get(kind, "speaker")
        groups = required_identities(
            used,
            what,
            f"{kind}",
            f"fill the column '{what}', drop those rows, or take folds='fixed' with lists of clips",
        )
        if kind == "group-k-fold":
            tested = making.grouped_k_fold(groups, labels, k, seed)
        else:
            tested = making.leave_one_group_out(groups, what)
    rows = np.arange(len(used))
    none = np.zeros(0, dtype=np.int64)
    return [ListedFold(name, np.setdiff1d(rows, test), none, test) for name, test in tested]


def _with_dev(
    used: pd.DataFrame,
    fold: ListedFold,
    labels: npt.NDArray[np.int64],
    rank: npt.NDArray[np.int64],
    rule: DevRule,
    *,
    whole: bool,
    share: float,
    number: int | None,
    seed: int,
) -> Fold:
    """Take the development rows out of the training rows; ``whole``: a random draw divides no recording."""
    train = fold.train
    if rule in ("none", "listed"):
        return Fold(fold.name, train, fold.dev, fold.test)
    if rule == "random":
        draw = development.dev_recordings if whole else development.dev_random
        held = draw(labels[train], rank[train], share=share, fold=fold.name, seed=seed)
    elif rule == "speakers":
        people = required_identities(
            used, "speaker", "dev='speakers'", "fill the column, or take dev='random' or dev='none'"
        )
        held = development.dev_speakers(
            [people[row] for row in train],
            labels[train],
            share=share,
            number=number,
            fold=fold.name,
            seed=seed,
        )
    else:
        sessions = required_identities(
            used, "session", f"dev={rule!r}", "fill the column, or take dev='speakers'"
        )
        tested = {sessions[row] for row in fold.test}
        choose = development.dev_session if rule == "session" else development.dev_partner
        held = choose([sessions[row] for row in train], tested, fold.name)
    return Fold(fold.name, train[~held], train[held], fold.test)


def _check_classes(folds: Sequence[Fold], labels: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Every class must be learnable in every fold."""
    for fold in folds:
        for code, label in enumerate(classes):
            here = {
                side: int((labels[getattr(fold, side)] == code).sum()) for side in ("train", "dev", "test")
            }
            if here["train"] == 0:
                raise ProtocolError(
                    f"fold {fold.name!r}: class {label!r} has no clip to train on ({here['dev']} in dev, "
                    f"{here['test']} in test); leave the class out, or take fewer, larger folds"
                )
