"""Progress on stderr while something long runs; nothing at all when stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


@contextmanager
def progress(doing: str, *, show: bool = True) -> Iterator[Report]:
    """Show a bar as long as the block runs; it leaves no trace.

    Parameters
    ----------
    doing
        What is under way, e.g. ``"Reading"``.
    show
        False never shows one.

    Yields
    ------
    Report
        To be called with (done, total).
    """
    if not (show and sys.stderr.isatty()):
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # stdout may go to a file while stderr is a terminal.
        redirect_stderr=False,
    )
    with bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
