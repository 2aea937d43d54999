"""``subtone evaluate``: a model's answers on a corpus, against its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.options import choice, examples, named_paths
from subtone.cli.outcome import finish
from subtone.cli.output import json_line, table, write
from subtone.cli.progress import progress

EPILOG = examples(
    "subtone evaluate --model default --corpus emodb=~/data/emodb",
    "subtone evaluate --model my-model --corpus manifest=clips.csv --format json",
)


def evaluate(
    corpus: Annotated[
        list[str],
        typer.Option(metavar="NAME=PATH", help="A corpus and your copy of it; repeat the option for several."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME_OR_FOLDER", help="A shipped model or a bundle's folder.")
    ] = "default",
) -> None:
    """Let a model answer a corpus, and compare with its labels: accuracy with confidence intervals."""
    raise NotImplementedError
