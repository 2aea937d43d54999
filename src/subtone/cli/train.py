"""``subtone train``: a model of your own from corpora, saved as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.options import examples, named_paths
from subtone.cli.outcome import say
from subtone.cli.output import write
from subtone.cli.progress import progress

EPILOG = examples(
    "subtone train --corpus emodb=~/data/emodb --upstream fbank --out my-model",
    "subtone train --corpus ravdess=~/data/ravdess --corpus nemo=~/data/nemo "
    "--upstream facebook/wav2vec2-base --labels anger,happiness,sadness,neutral --out my-model",
    "subtone predict --model my-model call.wav",
)


def train(
    corpus: Annotated[
        list[str],
        typer.Option(metavar="NAME=PATH", help="A corpus and your copy of it; repeat the option for several."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the bundle goes; must be new or empty.")],
    upstream: Annotated[
        str,
        typer.Option(metavar="NAME_OR_FOLDER", help="[b]fbank[/b], a model of the hub, or a local folder of one."),
    ],
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Emotions to learn; all that the corpora have by default."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a training setting, e.g. steps=400; repeatable."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep extracted features here, and use those that are there already."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random: the same seed, the same model.")] = 0,
) -> None:
    """Train a model on all of one corpus or several, and save it as a bundle.

    This gives a model to use. For figures to report, on speakers that the model has not heard, run a recipe: see
    'subtone recipe run --help'.
    """
    raise NotImplementedError
