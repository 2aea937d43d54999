"""The encoder's side of an extraction: chunks go in one by one, and are encoded in several streams or in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.extraction.backends import Backend
from subtone.upstreams import Survey

#: Batches that are made of one lot of chunks; the more, the closer in length are those of one batch.
_BATCHES_A_LOT = 8


@dataclass(frozen=True, eq=False)
class _Job:
    wave: npt.NDArray[np.float32]
    survey: Survey | None
    reduce: Callable[[Tensor], Any]
    result: Future[Any]


class Streams:
    """Runs an encoder's calls side by side; a context manager that waits for what is under way, and closes the backend.

    On a CPU a call is one chunk on one thread: small batches and many threads an operation both lose there. Where the
    backend wants batches, chunks are held until there is a lot of them, and the lot is divided by length. What is in
    a batch depends on the order of the chunks and of :meth:`flush` alone, never on time.

    Parameters
    ----------
    backend
        What encodes.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._threads = torch.get_num_threads()
        # On an accelerator the threads beside the one that feeds it only wait.
        one_thread = (1,) if backend.device.type == "cpu" else (self._threads,)
        self._pool = ThreadPoolExecutor(backend.streams, "subtone-encoder", torch.set_num_threads, one_thread)
        self._lot: list[_Job] = []
        self._lot_samples = 0
        self._begun = self._begun_samples = 0  # chunks, and their samples, whose results were not taken yet
        self._most = round(backend.batch_s * backend.upstream.grid.sample_rate_hz)

    @property
    def crowded(self) -> bool:
        """Whether so much is begun that the one who submits should take results before submitting more."""
        if not self._most:
            return self._begun > 2 * self._backend.streams + 2
        return self._begun_samples > 2 * _BATCHES_A_LOT * self._most

    def submit(
        self, wave: npt.NDArray[np.float32], survey: Survey | None, reduce: Callable[[Tensor], Any]
    ) -> Future[Any]:
        """Encode a chunk and reduce its frames ``(layers, frames, dim)``; the future holds what ``reduce`` gives."""
        job = _Job(wave, survey, reduce, Future())
        self._lot.append(job)
        self._lot_samples += len(wave)
        if self._lot_samples >= _BATCHES_A_LOT * self._most:
            self.flush()
        return job.result

    def flush(self) -> None:
        """Begin with what is held; what follows is not encoded in one batch with it."""
        lot, self._lot, self._lot_samples = self._lot, [], 0
        self._begun += len(lot)
        self._begun_samples += sum(len(job.wave) for job in lot)
        batch: list[_Job] = []
        for job in sorted(lot, key=lambda job: len(job.wave), reverse=True):
            if batch and (len(batch) + 1) * len(batch[0].wave) > self._most:
                self._pool.submit(self._run, batch)
                batch = []
            batch.append(job)
        if batch:
            self._pool.submit(self._run, batch)

    def taken(self, num_samples: int) -> None:
        """Say that the result of a chunk of so many samples was taken."""
        self._begun -= 1
        self._begun_samples -= num_samples

    def _run(self, jobs: Sequence[_Job]) -> None:
        left = self._try(jobs)
        if left and self._backend.device.type == "cuda":
            torch.cuda.empty_cache()
        # Behind the attempt, whose tensors are free by now: what is wrong with one clip, or too much for the memory
        # together, stops no other.
        for job in left:
            self._try([job])

    def _try(self, jobs: Sequence[_Job]) -> list[_Job]:
        """Encode chunks in one call; return those to be tried alone."""
        try:
            frames = self._backend.encode([job.wave for job in jobs], [job.survey for job in jobs])
            for job, one in zip(jobs, frames, strict=True):
                job.result.set_result(job.reduce(one))
            return []
        except BaseException as error:
            left = [job for job in jobs if not job.result.done()]
            if len(jobs) > 1 and isinstance(error, Exception):
                return left
            for job in left:
                job.result.set_exception(error)
            return []

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._backend.close()
        torch.set_num_threads(self._threads)
