"""Rows of functionals known by the content of their clip, on disk: some hundred to a file, each file whole."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subtone.errors import StoreError
from subtone.extraction.scratch import alone_in_turn, fsync_folder
from subtone.files import appears_whole, sweep_partial

Row = npt.NDArray[np.float32]

#: Rows that are written together: what a killed run loses at most.
SAVE_EVERY = 256

_KEYS, _VALUES = "keys", "values"


@contextmanager
def open_shelf(folder: Path | None, dim: int) -> Iterator[Shelf]:
    """Open a folder of rows, made if new, for the block alone; another process that has it is waited for.

    Parameters
    ----------
    folder
        None: the rows stay in memory.
    dim
        Numbers in a row.

    Raises
    ------
    StoreError
        If the folder cannot be written, a file in it is damaged, or one holds rows of another length.
    """
    if folder is None:
        yield Shelf(None, dim)
        return
    with ExitStack() as stack:
        with _telling(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in_turn(folder / ".lock"))
            sweep_partial(folder)
        shelf = Shelf(folder, dim)
        stack.callback(shelf.flush)  # what an interrupted run has done stays as well
        yield shelf


class Shelf:
    """Rows by key; of those on disk only the keys are held in memory. See `open_shelf`."""

    def __init__(self, folder: Path | None, dim: int) -> None:
        self._folder, self._dim = folder, dim
        self._at: dict[str, tuple[Path, int]] = {}  # key: the file, and the row in it
        self._new: dict[str, Row] = {}
        if folder is not None:
            for path in sorted(folder.glob("*.safetensors")):
                self._enter(path, self._keys_of(path))

    def __contains__(self, key: str) -> bool:
        return key in self._at or key in self._new

    def add(self, key: str, row: Row) -> None:
        """Take a row, ``(dim,)``; the first one of a key counts."""
        if key in self:  # the same audio under two names
            return
        self._new[key] = row
        if len(self._new) >= SAVE_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are not on disk yet: all together, or not at all."""
        if self._folder is None or not self._new:
            return
        keys = list(self._new)
        path = self._folder / f"{hashlib.sha256('|'.join(keys).encode()).hexdigest()[:32]}.safetensors"
        with _telling(self._folder):
            with appears_whole(path) as partial:
                save_file({_VALUES: np.stack(list(self._new.values()))}, partial, {_KEYS: json.dumps(keys)})
            fsync_folder(self._folder)
        self._enter(path, keys)
        self._new = {}

    def get(self, keys: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the rows of keys that are there, ``(keys, dim)``."""
        values = np.empty((len(keys), self._dim), np.float32)
        stored: defaultdict[Path, list[tuple[int, int]]] = defaultdict(list)
        for number, key in enumerate(keys):
            if key in self._new:
                values[number] = self._new[key]
            else:
                path, row = self._at[key]
                stored[path].append((number, row))
        for path, pairs in stored.items():
            numbers, rows = np.array(pairs).T
            values[numbers] = self._values_of(path)[rows]
        return values

    def _enter(self, path: Path, keys: Sequence[str]) -> None:
        self._at.update((key, (path, row)) for row, key in enumerate(keys))

    def _keys_of(self, path: Path) -> list[str]:
        try:
            with safe_open(path, framework="np") as file:
                keys: list[str] = json.loads(file.metadata()[_KEYS])
                shape = file.get_slice(_VALUES).get_shape()
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error
        if shape != [len(keys), self._dim]:
            raise _damaged(path, f"{len(keys)} keys, rows of {shape}")
        return keys

    def _values_of(self, path: Path) -> npt.NDArray[np.float32]:
        try:
            with safe_open(path, framework="np") as file:
                values: npt.NDArray[np.float32] = file.get_tensor(_VALUES)
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from error
        return values


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors tells of a full disk by its own
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{folder}: cannot be written: {reason}; make room, or name another folder"
        ) from error


def _damaged(path: Path, why: object) -> StoreError:
    return StoreError(f"{path}: is damaged ({why}); delete it and give the same command again")
