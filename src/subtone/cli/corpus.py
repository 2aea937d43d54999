"""``subtone corpus``: what corpora there are, whether a copy is whole, and its table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from subtone.cli.options import SkipMissing, SkipUnknown, choice, examples, flowing, skipping
from subtone.cli.outcome import SOME_FAILED, Stop, say, say_left_out
from subtone.cli.output import csv_lines, json_line, table, write
from subtone.cli.progress import progress

app = typer.Typer(
    no_args_is_help=True,
    help="List the corpora that Subtone reads, check your copy of one, or export its table.",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The corpus, e.g. [b]ravdess[/b]; see 'subtone corpus list'.")
]
Place = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="Your copy: its folder (for [b]manifest[/b] the CSV or Parquet file)."
    ),
]


@app.command(
    "list",
    epilog=examples("subtone corpus list", "subtone corpus list --format json | jq -r .name"),
)
@flowing
def list_corpora(
    format: Annotated[
        str, typer.Option(**choice("table", "json", "csv"), help="Form of the output.")
    ] = "table",
) -> None:
    """List the corpora: name, languages, emotions, published size and licence."""
    from subtone.corpora import CORPORA

    if format == "json":
        for name, corpus in CORPORA.items():
            write(json_line(_record(name, corpus)))
        return
    header = ("name", "title", "languages", "emotions", "clips", "speakers", "licence")
    rows = [
        (
            name,
            corpus.title,
            " ".join(corpus.languages),
            " ".join(corpus.emotions),
            _number(corpus.published.clips),
            _number(corpus.published.speakers),
            corpus.licence,
        )
        for name, corpus in CORPORA.items()
    ]
    if format == "csv":
        write(csv_lines([header, *rows]))
    else:
        write(table(header, rows, right=("clips", "speakers")))


@app.command(
    "check",
    epilog=examples(
        "subtone corpus check ravdess ~/data/ravdess",
        "subtone corpus check emodb ~/data/emodb --headers-only",
        "subtone corpus check nemo ~/data/nemo --format json > report.json",
    )
    + "\n\nExit codes: 0 nothing wrong; 1 files are missing, unreadable, silent, unknown or contradict each "
    "other; 2 it could not be checked.",
)
@flowing
def check(
    name: Name,
    path: Place,
    headers_only: Annotated[
        bool,
        typer.Option("--headers-only", help="Trust the headers: quick, but finds no file that breaks off."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Count a difference from the published figures as a problem too.")
    ] = False,
    most: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show at most so many entries of each list (text only).")
    ] = 10,
    format: Annotated[str, typer.Option(**choice("text", "json"), help="Form of the output.")] = "text",
) -> None:
    """Check a copy of a corpus: counts against the published ones, missing, broken, silent and double files."""
    from subtone.corpora.check import check as check_corpus

    with progress("Reading") as report_done:
        found = check_corpus(name, path.expanduser(), full=not headers_only, progress=report_done)
    write(json_line(found.to_dict()) if format == "json" else "\n".join(found.lines(most=most)) + "\n")
    if not found.ok or (strict and found.differences):
        say(f"{found.corpus}: the copy in {path} has problems; see the report")
        raise Stop(SOME_FAILED)


@app.command(
    "export",
    epilog=examples(
        "subtone corpus export ravdess ~/data/ravdess --out ravdess.parquet",
        "subtone corpus export emodb ~/data/emodb --out emodb.csv",
        "subtone corpus check manifest emodb.csv",
    ),
)
@flowing
def export(
    name: Name,
    path: Place,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to: a .parquet or .csv file; replaced if there.")
    ],
    skip_unknown: SkipUnknown = False,
    skip_missing: SkipMissing = False,
) -> None:
    """Write a corpus as one table: a row an utterance with file, start, end, emotion, speaker and all else.

    The Parquet file keeps audformat's index and types; the CSV file has start and end in seconds. Both can be read
    back as the corpus [b]manifest[/b].
    """
    from subtone.cli.files import check_table_name, write_table
    from subtone.corpora import get
    from subtone.corpora.several import left_out

    check_table_name(out)
    corpus = get(name)
    frame = corpus.read(path.expanduser(), **skipping(skip_unknown, skip_missing))
    say_left_out(left_out(frame))
    write_table(frame, out)
    say(f"{len(frame)} utterances of {corpus.name} written to {out}")


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _record(name: str, corpus: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": corpus.title,
        "languages": list(corpus.languages),
        "emotions": list(corpus.emotions),
        "clips": corpus.published.clips,
        "speakers": corpus.published.speakers,
        "licence": corpus.licence,
        "url": corpus.url,
        "cite": corpus.cite,
    }
