"""The cells of a study: pieces of work that are done once, whatever happens, and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subtone.errors import StoreError, UsageError
from subtone.files import appears_whole

#: Of what cells hold; another one makes all of them anew.
SCHEMA = 1

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a cell gave.

    Parameters
    ----------
    values
        JSON-like.
    arrays
        Name → array.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


class Earlier:
    """The outcomes of the cells that a cell needs, read when asked for.

    Parameters
    ----------
    paths
        Cell → file.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def __getitem__(self, name: str) -> Outcome:
        return read_outcome(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def values(self, name: str) -> Mapping[str, Any]:
        """Return the values of an outcome, without reading its arrays."""
        with safe_open(self._paths[name], framework="np") as file:
            found: Mapping[str, Any] = json.loads(file.metadata()["values"])
        return found

    def array(self, name: str, array: str) -> npt.NDArray[Any]:
        """Return one array of an outcome, without reading the others."""
        with safe_open(self._paths[name], framework="np") as file:
            found: npt.NDArray[Any] = file.get_tensor(array)
        return found

    def path(self, name: str) -> Path:
        """Return the file of an outcome, for who reads only some of its arrays."""
        return self._paths[name]


Work = Callable[[Mapping[str, Any], Earlier], Outcome]
"""A function at the top of a module, from what it is given and what was found earlier to an outcome."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A piece of a study's work.

    Parameters
    ----------
    name
        Unique in the study; also the name of its file, where ``/`` makes folders.
    work
        What computes it, in a process of its own.
    given
        JSON-like arguments. Other arguments make another cell: it is then computed anew.
    cost
        How long it takes beside other cells of the same work, in any unit, for the time remaining.
    needs
        Cells that must be there first.
    """

    name: str
    work: Work
    given: Mapping[str, Any]
    cost: float = 1.0
    needs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Of the work, the same in every process."""
        return f"{self.work.__module__}:{self.work.__qualname__}"


def identities(cells: Iterable[Cell]) -> dict[str, str]:
    """Return what tells each cell from one of the same name with other arguments, its needs' arguments included.

    Parameters
    ----------
    cells
        Each behind those that it needs.

    Raises
    ------
    UsageError
        If a name comes twice, or a cell needs one that is not there or stands behind it.
    """
    found: dict[str, str] = {}
    for cell in cells:
        if cell.name in found:
            raise UsageError(f"two cells of the study are called {cell.name!r}; give each its own name")
        for need in cell.needs:
            if need not in found:
                raise UsageError(f"cell {cell.name!r} needs {need!r}, which does not stand before it")
        about = {
            "schema": SCHEMA,
            "work": cell.kind,
            "given": cell.given,
            "needs": [found[need] for need in cell.needs],
        }
        found[cell.name] = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return found


def path_of(folder: Path, name: str) -> Path:
    """Return where the outcome of a cell lies.

    Names hold those of corpora and people, which may be anything: what is no plain part of a file's name is told by its
    bytes.

    >>> path_of(Path("work"), "emodb/networks/../03").as_posix()
    'work/emodb/networks/%2E%2E/03.safetensors'
    """
    parts = [_plain(part) for part in name.split("/")]
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.safetensors")


def _plain(part: str) -> str:
    kept = quote(part, safe=" +,;=@()")  # escapes bytes, so that no two names meet
    return kept if kept.strip(".") else kept.replace(".", "%2E")


def write_outcome(path: Path, outcome: Outcome, identity: str, seconds: float) -> None:
    """Write an outcome, whole or not at all.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    about = {"values": json.dumps(outcome.values), "identity": identity, "seconds": f"{seconds:.3f}"}
    # An array that is no single block of memory in its own order would be written as another.
    arrays = {name: np.ascontiguousarray(array) for name, array in outcome.arrays.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appears_whole(path) as partial:
            save_file(arrays, partial, about)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path}: could not be written: {error}; make room, then give the same command again"
        ) from error


def read_outcome(path: Path) -> Outcome:
    """Read what :func:`write_outcome` wrote.

    Raises
    ------
    StoreError
        If it is gone or damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            return Outcome(
                json.loads(file.metadata()["values"]), {name: file.get_tensor(name) for name in names}
            )
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f"{path}: is gone or damaged ({error}); delete it and give the same command again"
        ) from error


def is_done(path: Path, identity: str) -> bool:
    """Whether a cell of this identity lies there; what is damaged does not."""
    try:
        with safe_open(path, framework="np") as file:
            return bool((file.metadata() or {}).get("identity") == identity)
    except (OSError, SafetensorError):
        return False
