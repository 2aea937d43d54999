"""``subtone report``: results as one page to send to somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.options import examples, flowing, named_paths
from subtone.cli.outcome import say
from subtone.cli.output import write

EPILOG = examples(
    "subtone report results/sap --out sap.html",
    "subtone report results/sap --corpus emodb=~/data/emodb --out sap.html",
    "subtone report results/sap results/w2v2 --tables tables --out both.html",
)


@flowing
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Result folders of 'subtone recipe run', and folders of studies."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write, .html.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="Your copy of a corpus, to hear the mistakes; repeatable."),
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A folder of recordings, to hear the mistakes; repeatable."),
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every table as CSV and LaTeX, too.")
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Title of the page.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier page and tables.")
    ] = False,
) -> None:
    """Write one HTML page about one or several results: what came out in words, tables, plots, the surest mistakes to
    listen to, and how it was all made.

    The page stands alone and asks the network for nothing. Every table in it can be had as CSV and as LaTeX. Several
    runs are compared by paired tests on the clips that they share. With --corpus or --audio, recordings of the surest
    mistakes are put into the page: mind whom you give it to.
    """
    from subtone.evaluation.report import write_report

    folders = [*named_paths(corpus or ()).values(), *(one.expanduser() for one in audio or ())]
    page = write_report(
        runs,
        out.expanduser(),
        audio=folders,
        title=title,
        tables=None if tables is None else tables.expanduser(),
        overwrite=overwrite,
    )
    if folders and "<audio" not in page.read_text(encoding="utf-8"):
        say(
            "no recording of a mistake was found in the folders named: the page has no sound; name the folder that the "
            "run's corpus lies in"
        )
    write(f"{page}\n")
