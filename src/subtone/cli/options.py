"""What several commands share: how options are read, and the look of their help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from subtone.errors import UsageError, nearest


def choice(*names: str) -> dict[str, Any]:
    """Keywords of an option that takes one of a few names; a wrong one is told the nearest.

    >>> choice("json", "csv")["parser"]("josn")
    Traceback (most recent call last):
    ...
    BadParameter: 'josn' is not one of json, csv; did you mean 'json'?
    """
    return {"parser": _one_of(names), "metavar": "|".join(names)}


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value in names:
            return value
        hint = nearest(value, names)
        hint = f"; {hint}" if hint.startswith("did") else ""
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}{hint}")

    return parse


def named_paths(values: Iterable[str], option: str = "--corpus") -> dict[str, Path]:
    """Read ``NAME=PATH`` pairs.

    Raises
    ------
    UsageError
        If one is no pair, or a name comes twice.

    Examples
    --------
    >>> named_paths(["ravdess=data/ravdess"])
    {'ravdess': PosixPath('data/ravdess')}
    """
    pairs: dict[str, Path] = {}
    for value in values:
        name, sign, path = value.partition("=")
        if not (name and sign and path):
            raise UsageError(f"{option} {value}: must be NAME=PATH, e.g. {option} ravdess=/data/ravdess")
        if name in pairs:
            raise UsageError(f"{option} {value}: {name!r} is given twice; give each corpus once")
        pairs[name] = Path(path).expanduser()  # A shell leaves the ~ of ravdess=~/data alone.
    return pairs


def examples(*lines: str) -> str:
    """The epilog of a command's help: commands to copy, each on a line of its own."""
    from rich.markup import escape

    return "\n\n".join(["[bold]Examples[/bold]", *(f"[cyan]{escape(line)}[/cyan]" for line in lines)])
