"""A hidden folder that vanishes with the process that works in it, and a lock on what is in place.

Both stand on advisory locks (``flock``), which the system lets go when a process ends, however it ends: who gets the
lock of a hidden folder knows that its writer is dead, without clocks and process numbers. Where a file system has no
such locks, age decides, and what is in place is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

PREFIX = ".writing-"
#: Where locks tell nothing: a hidden folder that nothing was written into for so long belongs to a killed run.
STALE_S = 3600.0

_LOCK = "lock"

if sys.platform == "win32":

    def _flock(_descriptor: int, _how: Literal["shared", "alone", "try"]) -> bool | None:
        return None
else:
    import fcntl

    _HOW = {"shared": fcntl.LOCK_SH, "alone": fcntl.LOCK_EX, "try": fcntl.LOCK_EX | fcntl.LOCK_NB}

    def _flock(descriptor: int, how: Literal["shared", "alone", "try"]) -> bool | None:
        """Lock an open file; False: another process has it; None: this file system has no locks."""
        try:
            fcntl.flock(descriptor, _HOW[how])
        except OSError as error:
            return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
        return True


class Scratch:
    """A hidden folder beside the files that are to come, locked as long as its maker lives.

    Parameters
    ----------
    beside : Path
        The folder in which it is made; files can be renamed from here to there.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    def __init__(self, beside: Path) -> None:
        while True:
            self.folder = beside / f"{PREFIX}{secrets.token_hex(8)}"
            self.folder.mkdir()
            try:
                self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:
                continue  # swept before there was a lock
            except OSError:
                self.folder.rmdir()
                raise
            _flock(self._lock, "alone")
            if (self.folder / _LOCK).exists():
                return
            os.close(self._lock)  # swept between making and locking

    def close(self) -> None:
        """Delete the folder and all that is left in it; may be called again."""
        if self._lock >= 0:
            _delete(self.folder)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep_scratch(beside: Path) -> None:
    """Delete the hidden folders of processes that are no more; what may not be deleted stays."""
    for folder in beside.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_dead(folder):
                _delete(folder)


def _delete(folder: Path) -> None:
    # The lock last, so that a folder that is half deleted is still known as dead.
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name != _LOCK:
                path.unlink()
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _is_dead(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        folder.rmdir()  # its maker died before it came to the lock; or makes another when this one is gone
        return False
    try:
        ours = _flock(descriptor, "try")
        return _is_old(folder) if ours is None else ours
    finally:
        os.close(descriptor)


def _is_old(folder: Path) -> bool:
    newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time() - newest > STALE_S


@contextmanager
def holding(file: Path) -> Iterator[None]:
    """Hold a lock on a file that others who do the same may share; waits for one who has it alone."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        _flock(descriptor, "shared")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone_in_turn(file: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a file alone within the block, made if new; waits for others who do the same, and tells that it does."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if _flock(descriptor, "try") is False:
            if on_wait is not None:
                on_wait()
            _flock(descriptor, "alone")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone_if_free(file: Path) -> Iterator[bool]:
    """Hold a file alone within the block, made if new; yields False, at once, if another process has it.

    Where there are no locks it yields True.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _flock(descriptor, "try") is not False
    finally:
        os.close(descriptor)


@contextmanager
def alone_with(file: Path) -> Iterator[bool]:
    """Yield whether nobody else holds the file, now and within the block; does not wait."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        yield False  # a store that may only be read
        return
    try:
        yield _flock(descriptor, "try") is True
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, so that a rename outlives a power cut."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do without
            raise
    finally:
        os.close(descriptor)
