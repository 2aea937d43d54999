"""Results on stdout: aligned tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from subtone.cli.outcome import Stop, reader_left


def write(text: str) -> None:
    """Write to stdout and flush.

    Raises
    ------
    Stop
        If the reader went away (``| head``).
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise Stop(reader_left()) from None


def json_line(record: Any, *, indent: int | None = None) -> str:
    """One JSON value and a newline; NaN is an error, never written."""
    plain = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") != "utf8"
    return json.dumps(record, ensure_ascii=plain, allow_nan=False, indent=indent) + "\n"


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; None is an empty cell."""
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows(rows)
    return held.getvalue()


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Rows under a header, aligned; long cells are folded on a terminal and whole elsewhere.

    Parameters
    ----------
    header
        Titles.
    rows
        Cells as text.
    right
        Titles of the columns that are aligned to the right.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in header:
        grid.add_column(Text(title), justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))  # Text: a file name may hold what looks like markup.
    return rendered(grid)


def rendered(thing: Any) -> str:
    """What Rich makes of a thing: coloured and folded on a terminal, plain and whole elsewhere."""
    from rich.console import Console

    held = io.StringIO()
    terminal = sys.stdout.isatty()
    measure = Console() if terminal else None
    console = Console(
        file=held,
        force_terminal=terminal,
        no_color=None if terminal else True,
        width=measure.width if measure else 100_000,
    )
    console.print(thing)
    return "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n"
