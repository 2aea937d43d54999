"""Batches of frames read ahead of the trainer in a thread, so that it never waits for the disk."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np
import torch

from subtone.pretraining.frames import FrameCorpus, Sampler
from subtone.pretraining.objectives import Batch

#: Batches that wait to be taken.
AHEAD = 3


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


class Loader:
    """Reads batches ahead; a context manager, at whose end its thread is gone.

    Parameters
    ----------
    numbers
        Of the batches, in the order in which they are taken.
    corpus, sampler, deltas, intensity
        See :func:`load`.

    Attributes
    ----------
    waited_s
        How long the one who takes batches has waited for them so far, in seconds.
    """

    def __init__(
        self, numbers: Iterable[int], corpus: FrameCorpus, sampler: Sampler, *, deltas: int, intensity: bool
    ) -> None:
        self.waited_s = 0.0
        self._read = partial(load, corpus, sampler, deltas=deltas, intensity=intensity)
        self._ready: queue.Queue[Loaded | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(iter(numbers),), daemon=True)

    def __enter__(self) -> Loader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def __iter__(self) -> Iterator[Loaded]:
        """Yield the batches; what went wrong with one is raised where it would have come."""
        while True:
            began = time.perf_counter()
            taken = self._ready.get()
            self.waited_s += time.perf_counter() - began
            if taken is None:
                return
            if isinstance(taken, BaseException):
                raise taken
            yield taken

    def _work(self, numbers: Iterator[int]) -> None:
        try:
            for number in numbers:
                self._put(self._read(number))
                if self._stopped.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, one: Loaded | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(one, timeout=0.1)
                return
            except queue.Full:
                continue
