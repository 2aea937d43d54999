"""Evaluation mode for as long as anyone needs it, whatever mode a network is in and however many threads ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn


@dataclass
class _Borrowed:
    users: int = 0
    trained: list[nn.Module] = field(default_factory=list)


_LOCK = threading.Lock()
_BORROWED: WeakKeyDictionary[nn.Module, _Borrowed] = WeakKeyDictionary()


@contextmanager
def evaluation(network: nn.Module | None) -> Iterator[None]:
    """Have a network in evaluation mode; the last of the threads inside restores each part's own mode.

    A network that is in evaluation mode already is not touched.
    """
    if network is None:
        yield
        return
    with _LOCK:
        borrowed = _BORROWED.setdefault(network, _Borrowed())
        borrowed.users += 1
        if borrowed.users == 1:
            borrowed.trained = [part for part in network.modules() if part.training]
            for part in borrowed.trained:
                part.training = False
    try:
        yield
    finally:
        with _LOCK:
            borrowed.users -= 1
            if borrowed.users == 0:
                for part in borrowed.trained:
                    part.training = True
                borrowed.trained = []
