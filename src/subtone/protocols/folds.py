"""Which rows each fold tests: leave one group out, k folds of speakers balanced in size and classes, or k of clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from subtone.errors import ProtocolError
from subtone.protocols.clips import codes_of, natural_key

Tested = tuple[str, npt.NDArray[np.int64]]  # name of the fold, positions of its test rows


def leave_one_group_out(groups: Sequence[str], what: str) -> list[Tested]:
    """One fold a group, in natural order.

    Raises
    ------
    ProtocolError
        If there is only one group.
    """
    codes, names = codes_of(groups)
    if len(names) < 2:
        raise ProtocolError(
            f"leave-one-{what}-out needs two {what}s or more, the table has one ({names[0]}); "
            "take more data, or fixed lists"
        )
    return [(name, np.flatnonzero(codes == code)) for code, name in enumerate(names)]


def grouped_k_fold(speakers: Sequence[str], labels: npt.NDArray[np.int64], k: int, seed: int) -> list[Tested]:
    """Share the speakers out over k folds so that folds are alike in size and in classes.

    Speakers are placed one by one, the largest first, each where it brings the folds nearest to equal shares
    (sum of squared deviations of clips and of each class, relative to their totals); then speakers are moved
    and exchanged as long as that helps. The seed decides between speakers of equal size, so another seed
    gives other folds.

    Parameters
    ----------
    speakers
        ``(rows,)`` speaker of each row.
    labels
        ``(rows,)`` class number of each row.
    k
        Number of folds, 2 to the number of speakers.
    seed
        Of the order in which speakers are placed.

    Returns
    -------
    list of (name, positions)
        ``fold_1`` .. ``fold_k`` with their test rows; every row is tested once.

    Raises
    ------
    ProtocolError
        If k is out of range.
    """
    codes, names = codes_of(speakers)
    if k < 2:
        raise ProtocolError(f"group-k-fold: k = {k}; it must be 2 or more")
    if len(names) < 2:
        raise ProtocolError(
            "group-k-fold divides by speaker, and the table has one speaker; take more data, or folds='random-k-fold' "
            "with dev='random', which says nothing of other speakers"
        )
    if k > len(names):
        raise ProtocolError(
            f"group-k-fold: k = {k}, but the table has {len(names)} speakers; take k <= {len(names)}"
        )
    load = _shares(codes, labels, len(names))
    assigned = _improve(_place(load, k, np.random.default_rng(seed)), load, k)
    # Number the folds by their first speaker, so that names do not depend on the search.
    order = sorted(range(k), key=lambda fold: natural_key(names[int(np.flatnonzero(assigned == fold)[0])]))
    return [
        (f"fold_{position}", np.flatnonzero(assigned[codes] == fold))
        for position, fold in enumerate(order, 1)
    ]


def random_k_fold(
    labels: npt.NDArray[np.int64], order: npt.NDArray[np.int64], k: int, seed: int
) -> list[Tested]:
    """Deal the clips out over k folds at random, whoever speaks, each class evenly: speaker-dependent.

    Recordings are dealt the largest first and then class by class, in a random order among equals: each to
    the fold that has least of its classes, and among those to the one with fewest clips. Where every clip is
    a recording of its own, two folds so differ by one clip at most, in each class and in all.

    Parameters
    ----------
    labels
        ``(rows,)`` class number of each row.
    order
        ``(rows,)`` rank of each row's recording in an order that does not depend on the table's, so that the
        draw doesn't either. Rows of equal rank are parts of one recording and stay in one fold.
    k
        Number of folds, 2 to the number of recordings.
    seed
        Of the draw.

    Returns
    -------
    list of (name, positions)
        ``fold_1`` .. ``fold_k`` with their test rows, none empty; every row is tested once.

    Raises
    ------
    ProtocolError
        If k is out of range.

    Examples
    --------
    >>> [len(test) for _, test in random_k_fold(np.array([0, 0, 0, 1, 1, 1]), np.arange(6), k=3, seed=0)]
    [2, 2, 2]
    """
    recordings, codes = np.unique(order, return_inverse=True)
    if k < 2:
        raise ProtocolError(f"random-k-fold: k = {k}; it must be 2 or more")
    if k > len(recordings):
        raise ProtocolError(
            f"random-k-fold: k = {k}, but the table has {len(recordings)} recordings; "
            f"take k <= {len(recordings)}"
        )
    counts = np.zeros((len(recordings), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (codes, labels), 1)
    drawn = np.random.default_rng(seed).permutation(len(recordings))
    drawn = drawn[np.lexsort((counts.argmax(1)[drawn], -counts.sum(1)[drawn]))]
    assigned = np.zeros(len(recordings), dtype=np.int64)
    filled = np.zeros((k, counts.shape[1]), dtype=np.int64)
    for recording in drawn:
        alike = filled @ counts[recording]  # (folds,)
        fold = int(np.lexsort((filled.sum(1), alike))[0])  # an empty fold always comes first
        assigned[recording] = fold
        filled[fold] += counts[recording]
    return [(f"fold_{fold + 1}", np.flatnonzero(assigned[codes] == fold)) for fold in range(k)]


def _shares(
    codes: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], num_speakers: int
) -> npt.NDArray[np.float64]:
    """``(speakers, classes + 1)``: share of every class and, weighted like all classes, of the clips."""
    num_classes = int(labels.max()) + 1
    counts = np.zeros((num_speakers, num_classes))
    np.add.at(counts, (codes, labels), 1.0)
    size = counts.sum(1, keepdims=True)
    shares = np.concatenate([counts, size], axis=1)
    shares /= np.maximum(shares.sum(0), 1.0)
    shares[:, -1] *= np.sqrt(num_classes)
    return shares


def _place(load: npt.NDArray[np.float64], k: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Greedy start: fold of each speaker, no fold empty."""
    num_speakers = len(load)
    order = rng.permutation(num_speakers)
    order = order[np.argsort(-load[order, -1], kind="stable")]
    assigned = np.zeros(num_speakers, dtype=np.int64)
    filled = np.zeros((k, load.shape[1]))
    members = np.zeros(k, dtype=np.int64)
    for placed, speaker in enumerate(order):
        # The sum of squares grows least where the fold lacks what the speaker brings.
        growth = 2.0 * filled @ load[speaker]  # (folds,)
        if num_speakers - placed <= int((members == 0).sum()):
            growth = np.where(members == 0, growth, np.inf)
        fold = int(np.argmin(growth))
        assigned[speaker] = fold
        filled[fold] += load[speaker]
        members[fold] += 1
    return assigned


def _improve(assigned: npt.NDArray[np.int64], load: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
    """Move or exchange speakers while the sum of squares falls."""
    filled = np.zeros((k, load.shape[1]))
    np.add.at(filled, assigned, load)
    for _ in range(20):
        changed = False
        for speaker in range(len(load)):
            own, home = load[speaker], int(assigned[speaker])
            # Change of the sum of squares when `own - other` leaves `home` for the other's fold; `other` may
            # be nobody.
            others = np.concatenate([load, np.zeros((k, load.shape[1]))])  # (speakers + folds, columns)
            there = np.concatenate([assigned, np.arange(k)])
            moved = own - others
            gain = 2.0 * ((filled[there] - filled[home]) * moved).sum(1) + 2.0 * (moved**2).sum(1)
            gain[there == home] = 0.0
            if int((assigned == home).sum()) == 1:
                gain[len(load) :] = 0.0  # a fold must not be left empty
            best = int(np.argmin(gain))
            if gain[best] >= -1e-9:
                continue
            target = int(there[best])
            filled[home] -= moved[best]
            filled[target] += moved[best]
            assigned[speaker] = target
            if best < len(load):
                assigned[best] = home
            changed = True
        if not changed:
            break
    return assigned
