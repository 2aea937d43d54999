"""How a run ends: exit codes, errors in one line, an interrupted run, a reader that went away."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from subtone.errors import SubtoneError
from subtone.processes import is_first

DONE = 0
SOME_FAILED = 1
NOTHING_DONE = 2
INTERRUPTED = 130  # 128 + SIGINT and 128 + SIGPIPE, as shells have it.
PIPE_CLOSED = 141

DEBUG_VARIABLE = "SUBTONE_DEBUG"


class Stop(Exception):
    """Ends a command with an exit code; all has been said already."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def say(text: str) -> None:
    """Write one line to stderr."""
    line = " ".join(f"subtone: {text}".split("\n"))
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        reader_left(sys.stderr)


def say_left_out(left_out: Mapping[str, Sequence[Mapping[str, str]]], *, most: int = 3) -> None:
    """Tell in one line what the readers of corpora left out, if anything; the first few by name.

    Parameters
    ----------
    left_out
        As :func:`subtone.corpora.several.left_out` gives it.
    most
        How many of a kind are named.
    """
    told = []
    for kind, what in (("skipped", "that the reader does not know"), ("missing", "that are not there")):
        files = [entry["file"] for entry in left_out.get(kind, ())]
        if files:
            more = ", …" if len(files) > most else ""
            told.append(f"{len(files)} {what} ({', '.join(files[:most])}{more})")
    if told:
        say(f"left out: {'; '.join(told)}")


def finish(failed: Iterable[tuple[str, str]], done: int, *, what: str = "recordings") -> None:
    """Name each input that failed, and end with the exit code that says so; return if none did.

    Parameters
    ----------
    failed
        ``(input, message)``; a message that begins with the input is not given it twice.
    done
        How many went well.
    what
        What the inputs are, in the plural.

    Raises
    ------
    Stop
        If one or more failed: 1, or 2 when nothing was done.
    """
    count = 0
    for name, message in failed:
        say(f"error: {message if name in message or message.startswith('stdin') else f'{name}: {message}'}")
        count += 1
    if count:
        if count + done > 1:
            say(f"{count} of {count + done} {what} failed")
        raise Stop(SOME_FAILED if done else NOTHING_DONE)


def reader_left(stream: Any = None) -> int:
    """Let what is still buffered for a closed pipe go nowhere, so that Python does not complain at exit."""
    stream = sys.stdout if stream is None else stream
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
    return PIPE_CLOSED


@contextmanager
def told_once() -> Iterator[None]:
    """Have the first of the processes that train together tell what all of them refuse.

    What has a cause, such as memory that ran out, may have befallen one alone, which tells it.
    """
    try:
        yield
    except SubtoneError as error:
        if is_first() or error.__cause__ is not None:
            raise
        raise Stop(NOTHING_DONE) from None
