"""Batches of frames as the trainer takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from subtone.pretraining.ahead import Ahead
from subtone.pretraining.frames import FrameCorpus, Sampler
from subtone.pretraining.objectives import Batch


@dataclass(frozen=True, eq=False)
class Loaded:
    """A batch on the CPU.

    Parameters
    ----------
    number
        Of the batch, as the sampler counts.
    batch
        Features zero on padding; intensity only where it is asked for.
    num_frames
        Without padding.
    """

    number: int
    batch: Batch
    num_frames: int


def load(corpus: FrameCorpus, sampler: Sampler, number: int, *, deltas: int, intensity: bool) -> Loaded:
    """Read a batch.

    Parameters
    ----------
    corpus, sampler, number
        Which one.
    deltas
        Highest time derivative appended to a frame.
    intensity
        Read it as well.
    """
    pieces = sampler.batch(number)
    longest = max(piece.frames for piece in pieces)
    features = np.zeros((len(pieces), longest, corpus.num_mel * (deltas + 1)), np.float32)
    mask = np.zeros((len(pieces), longest), bool)
    scores = np.zeros((len(pieces), longest), np.float32) if intensity else None
    for row, piece in enumerate(pieces):
        frames, curve = corpus.utterance(piece.utterance, deltas=deltas)
        taken = slice(piece.start, piece.start + piece.frames)
        features[row, : piece.frames] = frames[taken]
        mask[row, : piece.frames] = True
        if scores is not None and curve is not None:
            scores[row, : piece.frames] = curve[taken]
    keys = np.array([piece.key for piece in pieces], np.int64)
    batch = Batch(
        torch.from_numpy(features),
        torch.from_numpy(mask),
        None if scores is None else torch.from_numpy(scores),
        torch.from_numpy(keys),
    )
    return Loaded(number, batch, sum(piece.frames for piece in pieces))


class Loader(Ahead[int, Loaded]):
    """Reads batches ahead; see :class:`~subtone.pretraining.ahead.Ahead`.

    Parameters
    ----------
    numbers
        Of the batches, in the order in which they are taken.
    corpus, sampler, deltas, intensity
        See :func:`load`.
    """

    def __init__(
        self, numbers: Iterable[int], corpus: FrameCorpus, sampler: Sampler, *, deltas: int, intensity: bool
    ) -> None:
        super().__init__(numbers, partial(load, corpus, sampler, deltas=deltas, intensity=intensity))
