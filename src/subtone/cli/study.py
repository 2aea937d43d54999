"""``subtone study``: questions that many runs answer together, each with one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.options import Corpora, choice, examples, flowing, named_paths
from subtone.cli.outcome import finish, say
from subtone.cli.output import json_line, table, write
from subtone.cli.progress import progress

app = typer.Typer(
    no_args_is_help=True,
    help="List or run studies: when pooling over speech helps, what it costs, where it fails.",
)


@app.command("list", epilog=examples("subtone study list"))
@flowing
def list_studies(
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the output.")] = "table",
) -> None:
    """List the studies."""
    from subtone.studies import run as studies

    known = [(one.name, one.question) for one in map(studies.get, studies.names())]
    if format == "json":
        for name, question in known:
            write(json_line({"name": name, "question": question}))
    else:
        write(table(("name", "question"), known))


@app.command("show", epilog=examples("subtone study show dilution"))
@flowing
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="See 'subtone study list'.")]) -> None:
    """Print the settings of a study with their values, as --set takes them."""
    from subtone.studies import run as studies

    write(studies.show(name))


@app.command(
    "run",
    epilog=examples(
        "subtone study run dilution --corpus emodb=~/data/emodb --corpus ravdess=~/data/ravdess --upstream DIR",
        "subtone study run detectors --corpus emodb=~/data/emodb --set sounds=~/data/laughter --out results/detectors",
        "subtone study run cross-corpus --corpus emodb=~/data/emodb --corpus nemo=~/data/nemo --set every.nemo=4",
    ),
)
@flowing
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See 'subtone study list'.")],
    corpus: Corpora,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of what is found: new, or empty. By default results/study-NAME."
        ),
    ] = None,
    upstream: Annotated[
        str,
        typer.Option(metavar="NAME_OR_FOLDER", help="Upstream: a name, a hub model or a local folder."),
    ] = "subtone-mini:speech",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting, see 'subtone study show NAME'; repeatable."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Cells computed side by side, a core each. By default as many as cores."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier findings in DIR.")] = False,
) -> None:
    """Run a study on your corpora and write a folder with its answer.

    The folder holds a page to begin with (README.md), its tables as CSV, its plots, and all of it as data (study.json),
    which 'subtone report' makes a page of to send around. Each finished cell of the study is kept in a folder beside it
    with .work added to its name: a study that is broken off goes on from there with the same command.
    """
    from subtone.studies import run as studies

    target = Path("results") / f"study-{name}" if out is None else out.expanduser()
    with _kept_is_told(target), progress("starting", lines=True, every_s=30.0, estimate=False) as report_done:
        folder, failed = studies.run(
            name,
            named_paths(corpus),
            out=target,
            upstream=upstream,
            settings=settings or (),
            jobs=jobs,
            overwrite=overwrite,
            on_progress=lambda doing, done, total: report_done(done, total, doing),
        )
    for sentence in studies.conclusions(folder):
        say(sentence)
    write(f"{folder}\n")
    finish(failed, 1, what="parts of the study")


@contextmanager
def _kept_is_told(target: Path) -> Iterator[None]:
    """Say to whom breaks a study off that nothing of it is lost."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"finished cells are kept in {target}.work; the same command goes on from there")
        raise
