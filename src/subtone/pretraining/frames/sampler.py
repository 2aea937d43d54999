"""Which utterances, and what of them, are in each batch: a function of the seed and the batch's number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Batches whose utterances are sorted by length together: little padding, and still much mixing.
POOL_BATCHES = 16


@dataclass(frozen=True)
class Piece:
    """A stretch of an utterance.

    Parameters
    ----------
    utterance
        Its number in the corpus.
    start
        First frame.
    frames
        How many.
    key
        A random number of this utterance in this epoch, below 2^63, by which it is masked.
    """

    utterance: int
    start: int
    frames: int
    key: int


class Sampler:
    """Batches without end, any of which can be asked for: nothing has to be kept to go on after an interruption.

    An epoch is a random permutation of the utterances, each cropped at random. Neighbours of similar length share a
    batch, and batches come in random order.

    Parameters
    ----------
    lengths
        ``(utterances,)`` frames of each utterance.
    batch_size
        Utterances in a batch; the last batch of an epoch may have fewer.
    crop_frames
        Longest stretch taken of an utterance; None for all of it.
    seed
        Of everything.

    Examples
    --------
    >>> sampler = Sampler(np.array([30, 900, 31]), batch_size=2, crop_frames=100, seed=0)
    >>> [sorted(piece.utterance for piece in sampler.batch(number)) for number in range(2)]
    [[0, 2], [1]]
    """

    def __init__(
        self, lengths: npt.NDArray[np.int64], batch_size: int, crop_frames: int | None, seed: int
    ) -> None:
        self._lengths = lengths if crop_frames is None else np.minimum(lengths, crop_frames)
        self._spare = lengths - self._lengths  # (utterances,) frames by which a crop can be moved
        self._batch_size, self._seed = batch_size, seed
        self.batches_per_epoch = -(-len(lengths) // batch_size)
        self._epoch: tuple[int, list[list[Piece]]] = (-1, [])

    def batch(self, number: int) -> list[Piece]:
        """Return a batch by its number, from 0 on through all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffled(epoch))
        return self._epoch[1][position]

    def _shuffled(self, epoch: int) -> list[list[Piece]]:
        chance = np.random.default_rng([self._seed, epoch])
        order = chance.permutation(len(self._lengths))  # (utterances,)
        starts = chance.integers(0, self._spare + 1)  # (utterances,)
        keys = chance.integers(2**63 - 1, size=len(self._lengths))  # (utterances,)
        pool = POOL_BATCHES * self._batch_size
        batches: list[list[Piece]] = []
        for first in range(0, len(order), pool):
            pooled = order[first : first + pool]
            pooled = pooled[np.argsort(self._lengths[pooled], kind="stable")]
            batches += [
                [
                    Piece(int(i), int(starts[i]), int(self._lengths[i]), int(keys[i]))
                    for i in pooled[at : at + self._batch_size]
                ]
                for at in range(0, len(pooled), self._batch_size)
            ]
        return [batches[i] for i in chance.permutation(len(batches))]
