"""``subtone recipe``: the systems that come with Subtone, and running one on corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.options import (
    Corpora,
    Device,
    Settings,
    SkipMissing,
    SkipUnknown,
    Store,
    choice,
    examples,
    flowing,
    named_paths,
    skip_settings,
)
from subtone.cli.outcome import finish, say, say_left_out
from subtone.cli.output import json_line, table, write
from subtone.cli.progress import progress

app = typer.Typer(
    no_args_is_help=True, help="List, show or run recipes: whole systems, from corpus to result."
)

Recipe = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A recipe's name (see 'subtone recipe list') or a YAML file of your own."
    ),
]


@app.command("list", epilog=examples("subtone recipe list"))
@flowing
def list_recipes(
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the output.")] = "table",
) -> None:
    """List the recipes that come with Subtone."""
    from subtone import recipes

    known = [(name, recipes.describe(name)) for name in recipes.names()]
    if format == "json":
        for name, description in known:
            write(json_line({"name": name, "description": description}))
    else:
        write(table(("name", "description"), known))


@app.command("show", epilog=examples("subtone recipe show sap", "subtone recipe show sap > mine.yaml"))
@flowing
def show(name: Recipe) -> None:
    """Print a recipe: every setting with its value, as YAML to start one of your own from."""
    from subtone import recipes

    write(recipes.show(name).rstrip("\n") + "\n")


@app.command(
    "run",
    epilog=examples(
        "subtone recipe run sap --corpus ravdess=~/data/ravdess --out results/sap",
        "subtone recipe run sap --corpus emodb=~/data/emodb --upstream facebook/wav2vec2-base --out results/w2v2",
        "subtone recipe run ems-npc --corpus ravdess=~/data/ravdess --corpus emodb=~/data/emodb --out results/ems",
        "subtone recipe run mine.yaml --corpus manifest=clips.csv --set training.steps=400 --out results/mine",
    ),
)
@flowing
def run(
    name: Recipe,
    corpus: Corpora,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Result folder: new, or empty, or see --overwrite.")
    ],
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FOLDER", help="Another upstream: a name, a hub model or a local folder."
        ),
    ] = None,
    settings: Settings = None,
    skip_unknown: SkipUnknown = False,
    skip_missing: SkipMissing = False,
    store: Store = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in DIR.")] = False,
    device: Device = "cpu",
) -> None:
    """Run a recipe on one corpus or several, and write a result folder.

    The folder holds metrics with confidence intervals (metrics.json), the folds, every prediction, plots, the recipe
    as it was run, versions and seeds, and a README.md to begin with.

    A recipe that pre-trains (ems-...) leaves frames and pre-training runs, upstreams included, in --store, or else in a
    folder beside DIR with .work added to its name: when it is broken off, the same command goes on from there.
    """
    from subtone import recipes
    from subtone.evaluation import read_metrics

    corpora = named_paths(corpus)
    with progress("starting") as report_done:
        folder = recipes.run(
            name,
            corpora,
            upstream=upstream,
            out=out.expanduser(),
            overrides=[*(settings or ()), *skip_settings(skip_unknown, skip_missing)],
            store=store.expanduser() if store is not None else None,
            overwrite=overwrite,
            device=device,
            on_progress=lambda doing, done, total: report_done(done, total, doing),
        )
    record, systems, _ = read_metrics(folder)
    say_left_out(record.get("left_out", {}))
    say(record["protocol"]["description"])
    for system, evaluation in systems.items():
        say(f"{system}: {evaluation.sentence()}")
    if "pretraining" in record:
        kept = recipes.work_folder(folder, store.expanduser() if store is not None else None)
        places = kept / record["recipe"] / "runs" / "NAME" / "upstream"
        say(f"{len(record['pretraining']['runs'])} pre-trained upstreams: {places}")
    write(f"{folder}\n")
    failed = [(entry["file"], entry["message"]) for entry in record.get("failed", [])]
    finish(failed, record["protocol"]["clips"], what="clips")
