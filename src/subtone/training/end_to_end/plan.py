"""Which clips, and what of them, make each batch: a function of the seed and the epoch alone, so nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Batches' worth of clips that are sorted by length together: little padding, and still much mixing.
POOL_BATCHES = 16


@dataclass(frozen=True)
class Piece:
    """A stretch of a clip.

    Parameters
    ----------
    clip
        Its row.
    start, length
        In samples, or whatever the lengths of the plan count.
    seed
        A random number of this clip in this epoch, below 2^63, for what else is drawn of it.
    """

    clip: int
    start: int
    length: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """Batches of like lengths, each of at most a budget with its padding.

    Parameters
    ----------
    rows
        ``(rows,)`` clips to train on.
    lengths
        ``(clips,)`` length of every clip, in samples or frames.
    budget
        Longest piece times pieces of a batch, at most; a piece that is longer by itself is a batch alone.
    batches_per_step
        Batches to an update, over all processes.
    epochs
        How many.
    crop
        Longest stretch taken of a clip; None for all of it.
    seed
        Of order and crops.

    Examples
    --------
    >>> plan = Plan(np.arange(4), np.array([30, 90, 31, 88]), budget=180, batches_per_step=1, epochs=1)
    >>> sorted(sorted(piece.clip for piece in batch) for batch in plan.batches(0))
    [[0, 2], [1, 3]]
    >>> plan.steps
    2
    """

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    budget: int
    batches_per_step: int
    epochs: int
    crop: int | None = None
    seed: int = 0

    def batches(self, epoch: int) -> list[list[Piece]]:
        """Return the batches of an epoch, from 0, in their order."""
        chance = np.random.default_rng([self.seed, epoch])
        order = chance.permutation(self.rows)  # (rows,)
        full = self.lengths[order]
        taken = full if self.crop is None else np.minimum(full, self.crop)  # (rows,)
        starts = chance.integers(0, full - taken + 1)  # (rows,)
        seeds = chance.integers(2**63 - 1, size=len(order))  # (rows,)
        typical = max(1, self.budget // max(1, int(taken.mean()))) if len(order) else 1
        pool = POOL_BATCHES * typical
        batches: list[list[Piece]] = []
        for first in range(0, len(order), pool):
            here = np.arange(first, min(first + pool, len(order)))
            here = here[np.argsort(taken[here], kind="stable")]
            batches += [
                [Piece(int(order[i]), int(starts[i]), int(taken[i]), int(seeds[i])) for i in group]
                for group in _within(here, taken, self.budget)
            ]
        return [batches[i] for i in chance.permutation(len(batches))]

    def steps_of(self, epoch: int) -> int:
        """Return how many updates an epoch has."""
        return -(-len(self.batches(epoch)) // self.batches_per_step)

    @property
    def steps(self) -> int:
        """Updates in all epochs."""
        return sum(self.steps_of(epoch) for epoch in range(self.epochs))


def ordered(
    rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], budget: int
) -> list[npt.NDArray[np.int64]]:
    """Divide rows into batches for scoring: by length, within the budget."""
    by_length = rows[np.argsort(lengths[rows], kind="stable")]
    return _within(by_length, lengths, budget)


def _within(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], budget: int
) -> list[npt.NDArray[np.int64]]:
    """Cut an order of rising lengths into groups of at most ``budget`` with padding."""
    groups: list[npt.NDArray[np.int64]] = []
    first = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or int(lengths[order[at]]) * (at - first + 1) > budget:
            groups.append(order[first:at])
            first = at
    return groups
