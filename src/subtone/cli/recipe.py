"""``subtone recipe``: the systems that come with Subtone, and running one on corpora."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

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
from subtone.cli.outcome import finish, say, say_left_out, told_once
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
        "subtone recipe run segment-cnn --corpus shemo=~/data/shemo --set split=random",
        "subtone recipe run e2e-ecapa --corpus iemocap=~/data/iemocap --upstream facebook/wav2vec2-base",
        "subtone recipe run ems-npc --corpus ravdess=~/data/ravdess --corpus emodb=~/data/emodb --out results/ems",
        "subtone recipe run paper-tables --corpus iemocap=~/data/iemocap --set 'papers=[hyeon-2024, morais-2022]'",
        "subtone recipe run mine.yaml --corpus manifest=clips.csv --set training.steps=400 --out results/mine",
    ),
)
@flowing
@told_once()
def run(
    name: Recipe,
    corpus: Corpora,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Result folder: new, or empty, or see --overwrite; that of paper-tables may be an earlier one's. By "
            "default results/RECIPE-CORPUS.",
        ),
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_FOLDER",
            help="Another upstream: a name, a hub model or a local folder. Twice for a recipe that joins two, and for "
            "the rows of paper-tables that do.",
        ),
    ] = None,
    settings: Settings = None,
    skip_unknown: SkipUnknown = False,
    skip_missing: SkipMissing = False,
    store: Store = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in DIR.")] = False,
    device: Device = "cpu",
    devices: Annotated[
        int,
        typer.Option(
            help="Processes that fine-tune together (e2e-...), each with a GPU of its own on cuda, and with batches of "
            "its own in every update: like finetuning.fit.accumulate, more of them make an update larger. Under "
            "torchrun, as many as it has started."
        ),
    ] = 1,
    strategy: Annotated[
        str,
        typer.Option(
            **choice("ddp", "fsdp"),
            help="Of several processes: each holds all weights (ddp), or its part, for upstreams too large for one "
            "GPU (fsdp).",
        ),
    ] = "ddp",
) -> None:
    """Run a recipe on one corpus or several, and write a result folder.

    The folder holds metrics with confidence intervals (metrics.json), the folds, every prediction, plots, the recipe
    as it was run, versions and seeds, and a README.md to begin with.

    A recipe that trains upstreams (e2e-..., ems-...) leaves its runs, upstreams and logs for TensorBoard included, in
    --store, or else in a folder beside DIR with .work added to its name: when it is broken off, the same command goes
    on from there. One with networks on segments (segment-cnn, transfer-cnn) has them in that folder in any case.

    paper-tables runs the other recipes on each corpus, into DIR/runs, and writes the papers' tables, published figures
    beside ours and what differs between them, to DIR (README.md, study.json, CSV). Given again, the command takes what
    is finished as it is and goes on. A run that fails leaves its rows empty and does not stop the others.
    """
    from subtone import recipes
    from subtone.evaluation.findings import STUDY_MARK

    corpora = named_paths(corpus)
    target = _default_folder(name, corpora) if out is None else out.expanduser()
    kept = store.expanduser() if store is not None else None
    with progress("starting", lines=True) as report_done:
        folder = recipes.run(
            name,
            corpora,
            upstream=upstream or None,
            out=target,
            overrides=[*(settings or ()), *skip_settings(skip_unknown, skip_missing)],
            store=kept,
            overwrite=overwrite,
            device=device,
            devices=devices,
            strategy=cast(Literal["ddp", "fsdp"], strategy),
            on_progress=lambda doing, done, total: report_done(done, total, doing),
        )
    if folder is None:  # a process that only helped to train
        return
    if (folder / STUDY_MARK).is_file():
        _tell_tables(folder)
    else:
        _tell_result(folder, kept)


def _tell_result(folder: Path, kept: Path | None) -> None:
    """Say what a run came to, and where it left what."""
    from subtone import recipes
    from subtone.evaluation import read_metrics

    record, systems, _ = read_metrics(folder)
    say_left_out(record.get("left_out", {}))
    say(record["protocol"]["description"])
    for system, evaluation in systems.items():
        say(f"{system}: {evaluation.sentence()}")
    work = recipes.work_folder(folder, kept) / record["recipe"]
    if "pretraining" in record:
        places = work / "runs" / "NAME" / "upstream"
        say(f"{len(record['pretraining']['runs'])} pre-trained upstreams: {places}")
    if any(run["upstreams"] for run in record.get("finetuning", {}).values()):
        say(f"upstreams of {len(record['finetuning'])} folds: {work / 'FOLD' / 'upstreamN' / 'averaged'}")
    if "cnns" in record:
        jobs = sum(len(folds) for folds in record["cnns"].values())
        networks = recipes.work_folder(folder) / record["recipe"] / "NAME" / "FOLD" / "network.safetensors"
        say(f"{jobs} networks on segments: {networks}")
    write(f"{folder}\n")
    failed = [(entry["file"], entry["message"]) for entry in record.get("failed", [])]
    finish(failed, record["protocol"]["clips"], what="clips")


def _tell_tables(folder: Path) -> None:
    """Say what the tables of papers came to, and which of their runs failed."""
    from subtone.evaluation.findings import read_findings

    findings = read_findings(folder)
    for sentence in findings.conclusions:
        say(sentence)
    write(f"{folder}\n")
    runs = findings.settings["runs"]
    failed = [(run["name"], run["message"]) for run in runs if run["state"] == "failed"]
    finish(failed, len(runs) - len(failed), what="runs")


def _default_folder(recipe: str, corpora: Mapping[str, Path]) -> Path:
    """Return where a result goes that nobody named a folder for."""
    return Path("results") / "-".join([Path(recipe).stem, *corpora])
