"""What a trainer needs next, read in a thread beside it, so that it never waits for the disk."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

#: Batches that wait to be taken.
AHEAD = 3

Asked = TypeVar("Asked")
Taken = TypeVar("Taken")


class Ahead(Generic[Asked, Taken]):
    """Reads one thing after the other, a few ahead of the one who takes them; a context manager.

    Parameters
    ----------
    asked
        What is to be read, in the order in which it is taken.
    read
        Reads it; called in a thread, which is gone at the end of the context.

    Attributes
    ----------
    waited_s
        How long the one who takes has waited so far, in seconds.

    Examples
    --------
    >>> with Ahead([1, 2], lambda number: 10 * number) as ahead:
    ...     list(ahead)
    [10, 20]
    """

    def __init__(self, asked: Iterable[Asked], read: Callable[[Asked], Taken]) -> None:
        self.waited_s = 0.0
        self._read = read
        self._ready: queue.Queue[tuple[Taken] | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(iter(asked),), daemon=True)

    def __enter__(self) -> Ahead[Asked, Taken]:
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

    def __iter__(self) -> Iterator[Taken]:
        """Yield what was read; what went wrong with it is raised where it would have come."""
        while True:
            began = time.perf_counter()
            taken = self._ready.get()
            self.waited_s += time.perf_counter() - began
            if taken is None:
                return
            if isinstance(taken, BaseException):
                raise taken
            yield taken[0]

    def _work(self, asked: Iterator[Asked]) -> None:
        try:
            for one in asked:
                self._put((self._read(one),))
                if self._stopped.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, one: tuple[Taken] | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(one, timeout=0.1)
                return
            except queue.Full:
                continue
