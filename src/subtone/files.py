"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appears_whole(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it takes the place of ``path`` when all went well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes its files readable by their owner alone
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sweep_partial(folder: Path) -> None:
    """Delete what killed writers left half written in a folder; only for one who has the folder alone."""
    for path in folder.glob(".*.*"):
        if path.suffix[1:].isdigit():
            path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    with appears_whole(path) as partial:
        partial.write_bytes(content)
