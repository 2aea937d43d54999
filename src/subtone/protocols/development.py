"""Which training rows are held back for development; the test rows are never looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from subtone.errors import ProtocolError
from subtone.protocols.clips import codes_of

DRAWS = 256  # random sets of speakers looked at
SHORTLIST = 8  # of which the first this many that cover the classes compete in likeness


def fold_generator(seed: int, fold: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the fold's name only, not on the other folds."""
    digest = hashlib.sha256(f"{seed}|{fold}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def dev_speakers(
    speakers: Sequence[str],
    labels: npt.NDArray[np.int64],
    *,
    share: float,
    number: int | None,
    fold: str,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Hold back some of the training speakers whole.

    Of many random sets of speakers, those come first that leave every class in training, then those that have
    every class in development; of the first few such sets, the one whose classes are most alike to the
    training rows'.

    Parameters
    ----------
    speakers, labels
        ``(rows,)`` of the training rows.
    share
        Share of the speakers, 0..1, at least one speaker; ignored when ``number`` is given.
    number
        How many speakers.
    fold, seed
        Name of the fold and seed of the draw.

    Returns
    -------
    NDArray of bool
        ``(rows,)`` True for development.

    Raises
    ------
    ProtocolError
        If no speaker would be left to train on.
    """
    codes, names = codes_of(speakers)
    wanted = max(1, round(share * len(names))) if number is None else number
    if wanted >= len(names):
        raise ProtocolError(
            f"fold {fold!r}: {wanted} of {len(names)} training speakers for development leave none to train;"
            " lower dev_share or dev_speakers, or take dev='random' or dev='none'"
        )
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (codes, labels), 1.0)
    total = counts.sum(0)
    rng = fold_generator(seed, fold)
    ranks = np.argsort(rng.random((DRAWS, len(names))), axis=1)  # (draws, speakers)
    drawn = ranks < wanted
    held = drawn.astype(np.float64) @ counts  # (draws, classes)
    needed = total > 0
    lost_in_train = (needed & (total - held == 0)).sum(1)
    lost_in_dev = (needed & (held == 0)).sum(1)
    coverage = lost_in_train * (len(total) + 1) + lost_in_dev
    shortlist = np.flatnonzero(coverage == coverage.min())[:SHORTLIST]
    alike = np.abs(held[shortlist] / held[shortlist].sum(1, keepdims=True) - total / total.sum()).sum(1)
    chosen = drawn[shortlist[int(np.argmin(alike))]]
    return np.asarray(chosen[codes], dtype=np.bool_)


def dev_random(
    labels: npt.NDArray[np.int64], order: npt.NDArray[np.int64], *, share: float, fold: str, seed: int
) -> npt.NDArray[np.bool_]:
    """Hold back a share of each class's training rows, whoever speaks (as SUPERB does): speaker-dependent.

    Parameters
    ----------
    labels
        ``(rows,)`` class numbers of the training rows.
    order
        ``(rows,)`` rank of each row in an order that does not depend on the table's, so that the draw doesn't
        either.
    share
        0..1; a class with two rows or more gives at least one and keeps at least one.

    Returns
    -------
    NDArray of bool
        ``(rows,)`` True for development.
    """
    rng = fold_generator(seed, fold)
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(order[rows])]
        number = min(max(1, round(share * len(rows))), len(rows) - 1)
        held[rng.permutation(rows)[:number]] = True
    return held


def dev_recordings(
    labels: npt.NDArray[np.int64], order: npt.NDArray[np.int64], *, share: float, fold: str, seed: int
) -> npt.NDArray[np.bool_]:
    """Hold back a share of each class's training rows like `dev_random`, but no recording in part.

    Recordings are taken in random order, each unless it would bring more of a class than the share.

    Parameters
    ----------
    labels
        ``(rows,)`` class numbers of the training rows.
    order
        ``(rows,)`` rank of each row's recording; rows of equal rank are parts of one.
    share
        0..1, see `dev_random`; where recordings have several rows, somewhat less may be held back.

    Returns
    -------
    NDArray of bool
        ``(rows,)`` True for development.

    Raises
    ------
    ProtocolError
        If every recording has more of a class than the share.
    """
    recordings, codes = np.unique(order, return_inverse=True)
    counts = np.zeros((len(recordings), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (codes, labels), 1)
    total = counts.sum(0)
    room = np.minimum(np.maximum(np.round(share * total).astype(np.int64), 1), np.maximum(total - 1, 0))
    taken = np.zeros(len(recordings), dtype=np.bool_)
    for recording in fold_generator(seed, fold).permutation(len(recordings)):
        if (counts[recording] <= room).all():
            taken[recording] = True
            room -= counts[recording]
    if not taken.any():
        raise ProtocolError(
            f"fold {fold!r}: a share of {share:g} of the training clips holds none of the {len(recordings)} "
            "training recordings whole; raise dev_share, or take dev='none'"
        )
    return np.asarray(taken[codes], dtype=np.bool_)


def dev_session(sessions: Sequence[str], tested: set[str], fold: str) -> npt.NDArray[np.bool_]:
    """Hold back one whole training session: the next after the tested one, starting over at the end.

    Raises
    ------
    ProtocolError
        If fewer than two sessions are left for training.
    """
    _, names = codes_of([*sessions, *tested])
    training = [name for name in names if name in set(sessions)]
    if len(training) < 2:
        raise ProtocolError(
            f"fold {fold!r}: dev='session' needs two training sessions or more, got {len(training)}; "
            "take dev='speakers'"
        )
    # A session of which nobody is tested, if there is one.
    offered = [name for name in training if name not in tested] or training
    last = max((names.index(name) for name in tested), default=-1)
    following = next((name for name in offered if names.index(name) > last), offered[0])
    return np.array([session == following for session in sessions], dtype=np.bool_)


def dev_partner(sessions: Sequence[str], tested: set[str], fold: str) -> npt.NDArray[np.bool_]:
    """Hold back the training rows of the tested session: the other speaker of a dialogue.

    Raises
    ------
    ProtocolError
        If the tested session has no other speaker.
    """
    held = np.array([session in tested for session in sessions], dtype=np.bool_)
    if not held.any():
        raise ProtocolError(
            f"fold {fold!r}: dev='partner' takes the other speaker of the tested session, but session "
            f"{', '.join(sorted(tested))} has none; take dev='speakers' or leave-one-speaker-out folds"
        )
    if held.all():
        raise ProtocolError(
            f"fold {fold!r}: dev='partner' leaves nothing to train on, all training clips are of session "
            f"{', '.join(sorted(tested))}; take dev='speakers'"
        )
    return held
