"""Work that several threads do side by side, handed over in its own order, never far ahead of the one who takes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Numbers ``0 … count - 1`` for threads to work on, and what they made of them in that order.

    A thread gets its next number only while fewer than ``ahead`` numbers are out or wait to be taken, and the results
    that wait weigh less than ``most``; the number that is taken next is always given out. So what waits weighs at
    most ``most`` and one result a thread.

    Parameters
    ----------
    count
        How many numbers there are.
    ahead
        Numbers given out and not yet taken, at most; at least 1.
    most
        Weight of the results that wait, from which on no more numbers are given out.
    """

    def __init__(self, count: int, ahead: int, most: int) -> None:
        self._count, self._ahead, self._most = count, ahead, most
        self._changed = threading.Condition()
        self._next = 0  # to be given out
        self._taken = 0
        self._waiting: dict[int, tuple[T, int]] = {}
        self._weight = 0
        self._failure: BaseException | None = None
        self._stopped = False

    def next(self) -> int | None:
        """Wait for a number to work on; None when there is nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._next >= self._count or self._may_begin())
            if self._stopped or self._next >= self._count:
                return None
            self._next += 1
            return self._next - 1

    def done(self, number: int, result: T, weight: int) -> None:
        """Hand over what was made of a number."""
        with self._changed:
            self._waiting[number] = (result, weight)
            self._weight += weight
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Give up: the one who takes the results gets this error, and the threads get no more numbers."""
        with self._changed:
            self._failure = self._failure or error
            self._stopped = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Give out no more numbers; the one who takes the results gets no more either."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while self._taken < self._count:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._taken in self._waiting)
                if self._failure is not None:
                    raise self._failure
                if self._stopped:
                    return
                result, weight = self._waiting.pop(self._taken)
                self._weight -= weight
                self._taken += 1
                self._changed.notify_all()
            yield result
            del result  # not kept while the next one is waited for

    def _may_begin(self) -> bool:
        out = self._next - self._taken
        return out == 0 or (out < self._ahead and self._weight < self._most)
