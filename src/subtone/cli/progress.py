"""Progress on stderr while something long runs; nothing at all when stderr is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from subtone.cli.outcome import say
from subtone.processes import is_first


class Report(Protocol):
    """What tells a bar how far a command has come."""

    def __call__(self, done: float, total: float, doing: str = "") -> None:
        """Show that ``done`` of ``total`` are done; ``doing`` changes what is said to be under way."""


#: Without a terminal a long command says how far it is this often, where it says so at all.
_LINE_S = 300.0


@contextmanager
def progress(
    doing: str, *, show: bool = True, estimate: bool = True, lines: bool = False, every_s: float = _LINE_S
) -> Iterator[Report]:
    """Show a bar as long as the block runs; it leaves no trace.

    Parameters
    ----------
    doing
        What is under way, e.g. ``"Reading"``.
    show
        False never shows one.
    estimate
        Show the time remaining as the bar sees it; False where what is reported tells a better one.
    lines
        Without a terminal, say what is under way in a line now and then: for what runs for hours.
    every_s
        How often that is, in seconds.

    Yields
    ------
    Report
        To be called with (done, total).
    """
    if not (show and sys.stderr.isatty() and is_first()):
        yield _lines(every_s) if show and lines and is_first() else _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *((TimeRemainingColumn(),) if estimate else ()),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # stdout may go to a file while stderr is a terminal.
        redirect_stderr=False,
    )
    with bar:
        task = bar.add_task(doing, total=None)

        def report(done: float, total: float, doing: str = "") -> None:
            bar.update(task, completed=done, total=total, description=doing or None)

        yield report


def _silent(done: float, total: float, doing: str = "") -> None:
    """Report to nobody."""


def _lines(every_s: float) -> Report:
    last = time.monotonic()

    def report(done: float, total: float, doing: str = "") -> None:  # noqa: ARG001
        nonlocal last
        if doing and time.monotonic() - last > every_s:
            last = time.monotonic()
            say(doing)

    return report
