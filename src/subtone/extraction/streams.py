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

from subtone.errors import is_out_of_memory
from subtone.extraction.backends import Backend
from subtone.upstreams import Survey

#: Batches that are made of one lot of chunks; the more, the closer in length are those of one batch.
_BATCHES_A_LOT = 8
#: Chunks in work where they are encoded in batches: more than there are in two lots of utterances.
_AHEAD_OF_BATCHES = 4096


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
        self._most = round(backend.batch_s * backend.upstream.grid.sample_rate_hz)

    @property
    def ahead(self) -> int:
        """Chunks to keep in work so that no stream waits."""
        return 2 * self._backend.streams + 2 if not self._most else _AHEAD_OF_BATCHES

    def submit(
        self, wave: npt.NDArray[np.float32], survey: Survey | None, reduce: Callable[[Tensor], Any]
    ) -> Future[Any]:
        """Encode a chunk and reduce its frames ``(layers, frames, dim)``; the future holds what ``reduce`` gives."""
        job = _Job(wave, survey, reduce, Future())
        if not self._most:
            self._pool.submit(self._run, [job])
        else:
            self._lot.append(job)
            self._lot_samples += len(wave)
            if self._lot_samples >= _BATCHES_A_LOT * self._most:
                self.flush()
        return job.result

    def flush(self) -> None:
        """Begin with what is held: a result is about to be waited for, or what follows belongs to something else."""
        lot, self._lot, self._lot_samples = self._lot, [], 0
        batch: list[_Job] = []
        for job in sorted(lot, key=lambda job: len(job.wave), reverse=True):
            if batch and (len(batch) + 1) * len(batch[0].wave) > self._most:
                self._pool.submit(self._run, batch)
                batch = []
            batch.append(job)
        if batch:
            self._pool.submit(self._run, batch)

    def _run(self, jobs: Sequence[_Job]) -> None:
        try:
            frames = self._backend.encode([job.wave for job in jobs], [job.survey for job in jobs])
            for job, one in zip(jobs, frames, strict=True):
                job.result.set_result(job.reduce(one))
        except BaseException as error:
            left = [job for job in jobs if not job.result.done()]
            if len(left) > 1 and isinstance(error, Exception):
                # One by one: what is wrong with one clip, or too much for the memory together, stops no other.
                if is_out_of_memory(error) and self._backend.device.type == "cuda":
                    torch.cuda.empty_cache()
                for job in left:
                    self._run([job])
                return
            for job in left:
                job.result.set_exception(error)

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._backend.close()
        torch.set_num_threads(self._threads)
