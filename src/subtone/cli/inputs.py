"""Recordings that a user names: files, folders, patterns, and one on stdin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from subtone.errors import AudioError, UsageError

STDIN = "-"
DEFAULT_LIMIT_MB = 512
"""Most that is read from stdin: a stranger who sends more must not fill the memory."""

_BLOCK = 1 << 20


def recordings(paths: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Find the recordings that files, folders and patterns stand for.

    Returns
    -------
    (list of Path, list of (str, str))
        The recordings, each once; and the names that stand for none, each with the reason, so that the others go on.
    """
    from subtone.audio import expand

    found: dict[Path, None] = {}
    failed: list[tuple[str, str]] = []
    for path in paths:
        try:
            found.update(dict.fromkeys(expand([path])))
        except AudioError as error:
            failed.append((path, str(error)))
    return list(found), failed


def read_stdin(limit_mb: int = DEFAULT_LIMIT_MB) -> bytes:
    """Read one recording from stdin.

    Parameters
    ----------
    limit_mb
        Most to take, in MB of 2**20 bytes.

    Raises
    ------
    UsageError
        If stdin is a terminal.
    AudioError
        If there is more, or nothing.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            f"'{STDIN}' reads a recording from stdin, and nothing is piped there; try: … < call.wav"
        )
    blocks: list[bytes] = []
    size = 0
    while block := sys.stdin.buffer.read(_BLOCK):
        size += len(block)
        if size > limit_mb << 20:
            raise AudioError(
                f"stdin: more than {limit_mb} MB; raise --stdin-limit, or save the recording and name the file"
            )
        blocks.append(block)
    if not size:
        raise AudioError("stdin: is empty (0 bytes)")
    return b"".join(blocks)
