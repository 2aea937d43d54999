"""Compute the cells of a study in processes side by side, tell the time remaining, and keep what is done."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subtone.errors import StoreError, SubtoneError, UsageError, is_out_of_memory
from subtone.files import sweep_partial
from subtone.studies.cells import Cell, Earlier, Work, identities, is_done, path_of, write_outcome

OnProgress = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is."""

#: One thread a process: many small products side by side are faster so than one at a time over all cores.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}


@dataclass(frozen=True)
class Missing:
    """A cell that could not be computed, and why."""

    cell: str
    message: str


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    *,
    jobs: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Earlier, tuple[Missing, ...]]:
    """Compute all cells that are not there yet.

    Parameters
    ----------
    cells
        Each behind those that it needs.
    folder
        Where outcomes lie, one file a cell. After a kill the same call goes on.
    jobs
        Processes side by side; by default one a core. 1 computes in this process.
    on_progress
        Told after each cell, with the time remaining in words.

    Returns
    -------
    Earlier, tuple of Missing
        All outcomes, and the cells that failed or need one that did; the others are done.

    Raises
    ------
    UsageError
        If ``jobs`` is out of range.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs = {jobs} must be at least 1")
    identity = identities(cells)
    with _alone(folder):
        return _run(cells, identity, folder, jobs, on_progress)


def _run(
    cells: Sequence[Cell],
    identity: Mapping[str, str],
    folder: Path,
    jobs: int | None,
    on_progress: OnProgress | None,
) -> tuple[Earlier, tuple[Missing, ...]]:
    paths = {cell.name: path_of(folder, cell.name) for cell in cells}
    done = {cell.name for cell in cells if is_done(paths[cell.name], identity[cell.name])}
    todo = [cell for cell in cells if cell.name not in done]
    side_by_side = min(jobs or _cores(), max(1, len(todo)))
    meter = _Meter(cells, done, side_by_side)
    failed: dict[str, str] = {}
    if on_progress is not None:
        on_progress(meter.sentence(), len(done), len(cells))
    with _told_of_memory(), _workers(side_by_side) as submit:
        running: dict[Future[float], Cell] = {}
        while todo or running:
            for cell in list(todo):
                lacking = [need for need in cell.needs if need in failed]
                if lacking:
                    failed[cell.name] = f"needs {lacking[0]}, which failed"
                elif len(running) >= side_by_side or any(need not in done for need in cell.needs):
                    continue
                else:
                    earlier = {need: paths[need] for need in cell.needs}
                    given = (cell.work, dict(cell.given), earlier, paths[cell.name], identity[cell.name])
                    running[submit(_compute, *given)] = cell
                todo.remove(cell)
            if not running:
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                try:
                    meter.add(cell, future.result())
                    done.add(cell.name)
                except SubtoneError as error:
                    failed[cell.name] = str(error)
                if on_progress is not None:
                    on_progress(meter.sentence(), len(done) + len(failed), len(cells))
    there = {name: path for name, path in paths.items() if name in done}
    return Earlier(there), tuple(Missing(name, message) for name, message in failed.items())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two studies out of one folder, and sweep up what a killed one left half written."""
    from subtone.extraction.scratch import (
        alone_in_turn,
    )  # not for the workers, which would load an engine with it

    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in_turn(folder / ".lock"))
            for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
                sweep_partial(inner)
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot be written: {error.strerror or error}; make room, or name another folder"
            ) from error
        yield


@contextlib.contextmanager
def _told_of_memory() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise UsageError(
            "a process of the study was ended from outside: most likely memory ran out; give the same command again "
            "with fewer --jobs"
        ) from None


def _compute(
    work: Work, given: Mapping[str, Any], earlier: Mapping[str, Path], path: Path, identity: str
) -> float:
    """Compute one cell and write it; return the seconds it took."""
    began = time.perf_counter()
    try:
        outcome = work(given, Earlier(earlier))
    except SubtoneError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise SubtoneError("not enough memory; give the same command again with fewer --jobs") from None
        reason = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise SubtoneError(
            f"unexpected {reason} ({Path(where.filename).name}:{where.lineno}); this is a fault of Subtone, please "
            "report it"
        ) from None
    seconds = time.perf_counter() - began
    write_outcome(path, outcome, identity, seconds)
    return seconds


class _Meter:
    """Seconds remaining: each kind of work at its own speed, as far as it is known."""

    def __init__(self, cells: Sequence[Cell], done: set[str], jobs: int) -> None:
        self._cells, self._done, self._jobs = {cell.name: cell for cell in cells}, set(done), jobs
        self._seconds: dict[str, float] = defaultdict(float)
        self._cost: dict[str, float] = defaultdict(float)

    def add(self, cell: Cell, seconds: float) -> None:
        self._done.add(cell.name)
        self._seconds[cell.kind] += seconds
        self._cost[cell.kind] += cell.cost

    def sentence(self) -> str:
        done, total = len(self._done), len(self._cells)
        left = self._left_s()
        about = "" if left is None or done == total else f", {_duration(left)} left"
        return f"{done} of {total} cells{about}"

    def _left_s(self) -> float | None:
        if not self._cost:
            return None
        overall = sum(self._seconds.values()) / max(sum(self._cost.values()), 1e-9)
        left = 0.0
        for name, cell in self._cells.items():
            if name not in self._done:
                known = self._cost.get(cell.kind, 0.0)
                left += cell.cost * (self._seconds[cell.kind] / known if known else overall)
        return left / self._jobs


def _duration(seconds: float) -> str:
    """Return a duration as one says it.

    >>> _duration(20), _duration(400), _duration(8000)
    ('under a minute', 'about 7 min', 'about 2 h 13 min')
    """
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Future[float]]]:
    """Yield what submits a call: to processes of one thread each, or with one job to this process."""
    if jobs == 1:
        yield _inline
        return
    with _environment(
        _ONE_THREAD
    ):  # read when a process first computes, so it must be there before one starts
        pool = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
        )
        try:
            yield pool.submit
        except BaseException:
            mine = list((pool._processes or {}).values())  # there is no public way to end what they compute
            pool.shutdown(wait=False, cancel_futures=True)
            for process in mine:
                process.terminate()
            raise
        pool.shutdown()


def _inline(function: Callable[..., float], *arguments: Any) -> Future[float]:
    future: Future[float] = Future()
    try:
        future.set_result(function(*arguments))
    except SubtoneError as error:
        future.set_exception(error)
    return future


def _begin(parent: int) -> None:
    """End a worker when the study was killed: nobody would take its answers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
