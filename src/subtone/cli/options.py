"""What several commands share: how options are read, and the look of their help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from subtone.errors import UsageError, nearest

if TYPE_CHECKING:
    from subtone.extraction import ExtractionOptions

Corpora = Annotated[
    list[str],
    typer.Option(metavar="NAME=PATH", help="A corpus and your copy of it; repeat the option for several."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting of the recipe, e.g. training.steps=400; repeatable.",
    ),
]
Store = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep extracted features here, and use those that are there already."),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where the upstream computes, e.g. cpu or cuda.")]
SkipUnknown = Annotated[
    bool,
    typer.Option(
        "--skip-unknown", help="Leave out files or rows whose name or emotion the reader does not know."
    ),
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out rows whose recording is not there.")
]


def choice(*names: str) -> dict[str, Any]:
    """Keywords of an option that takes one of a few names; a wrong one is told the nearest.

    >>> choice("json", "csv")["parser"]("csv")
    'csv'
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


Backend = Annotated[
    str,
    typer.Option(
        **choice("auto", "torch", "openvino"),
        help="What computes: auto takes what the store was made with, else the fastest that is installed.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        **choice("fp32", "bf16", "fp16", "int8"),
        help="fp32 is exact; the others are faster, and refused where features would change by more than a trifle.",
    ),
]


def extraction_options(backend: str, precision: str, **more: Any) -> ExtractionOptions:
    """The options of the engine, whose names were checked by :func:`choice`."""
    from subtone.extraction import ExtractionOptions

    return ExtractionOptions(backend=cast(Any, backend), precision=cast(Any, precision), **more)


def skipping(unknown: bool, missing: bool) -> dict[str, bool]:
    """Options of a corpus reader: only those that were given, since not every reader takes them.

    >>> skipping(unknown=False, missing=True)
    {'skip_missing': True}
    """
    return {name: True for name, given in (("skip_unknown", unknown), ("skip_missing", missing)) if given}


def skip_settings(unknown: bool, missing: bool) -> list[str]:
    """The same as settings of a recipe.

    >>> skip_settings(unknown=True, missing=False)
    ['corpus.options.skip_unknown=true']
    """
    return [f"corpus.options.{name}=true" for name in skipping(unknown, missing)]


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
    # A shell leaves the ~ of ravdess=~/data alone.
    return {
        name: Path(path).expanduser() for name, path in pairs(values, option, "ravdess=/data/ravdess").items()
    }


def pairs(values: Iterable[str], option: str, example: str) -> dict[str, str]:
    """Read ``A=B`` pairs.

    Raises
    ------
    UsageError
        If one is no pair, or a name comes twice.

    Examples
    --------
    >>> pairs(["excitement=happiness"], "--merge", "excitement=happiness")
    {'excitement': 'happiness'}
    """
    found: dict[str, str] = {}
    for value in values:
        name, sign, other = value.partition("=")
        if not (name and sign and other):
            form = "NAME=PATH" if "/" in example else "FROM=TO"
            raise UsageError(f"{option} {value}: must be {form}, e.g. {option} {example}")
        if name in found:
            raise UsageError(f"{option} {value}: {name!r} is given twice; give each name once")
        found[name] = other
    return found


def names(text: str, option: str) -> list[str]:
    """Read names with commas between them.

    Raises
    ------
    UsageError
        If there is none.

    Examples
    --------
    >>> names("anger, neutral", "--labels")
    ['anger', 'neutral']
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise UsageError(f"{option} {text!r}: names nothing; write e.g. {option} anger,neutral")
    return found


def flowing(command: Callable[..., None]) -> Callable[..., None]:
    """Let each paragraph of a command's docstring flow into the width of the terminal when it is shown as help."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return command


def examples(*lines: str) -> str:
    """The epilog of a command's help: commands to copy, each on a line of its own."""
    from rich.markup import escape

    return "\n\n".join(["[bold]Examples[/bold]", *(f"[cyan]{escape(line)}[/cyan]" for line in lines)])
