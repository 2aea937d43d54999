"""``subtone predict``: the emotions of recordings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subtone.cli.inputs import DEFAULT_LIMIT_MB, STDIN, read_stdin
from subtone.cli.options import choice, examples, flowing, names
from subtone.cli.outcome import finish, say
from subtone.cli.output import csv_lines, json_line, table, write
from subtone.cli.progress import progress
from subtone.errors import AudioError, SubtoneError, UsageError

if TYPE_CHECKING:
    from subtone.inference import Failure, FileResult

EPILOG = (
    examples(
        "subtone predict call.wav",
        "subtone predict recordings/ 'more/**/*.mp3' --format json > answers.jsonl",
        "subtone predict call.wav --per segment",
        "subtone predict call.wav --per window --window 4 --hop 1 --plot timeline.png",
        "subtone predict stereo-call.opus --channel 1 --labels anger,neutral",
        "ffmpeg -i film.mkv -f wav - | subtone predict -",
    )
    + "\n\nJSON: one object a line with file, start and end (seconds), label (null where nothing was guessed), scores "
    "(label to probability), speech (share of speech, 0 to 1) and note (why nothing was guessed)."
    "\n\nExit codes: 0 all done; 1 some recordings failed, each named on stderr, and the others are done; 2 wrong "
    "usage or nothing done."
)


@flowing
def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Files, folders (searched through), patterns in quotes; [b]-[/b] reads one recording from stdin.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME_OR_FOLDER", help="A shipped model, or the folder of yours."
        ),
    ] = "default",
    per: Annotated[
        str,
        typer.Option(
            **choice("file", "segment", "window"),
            help="What gets an answer: a file, each stretch of speech, or each window of a regular grid.",
        ),
    ] = "file",
    window: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Length of a window, 0.2 to 60; 4 by default.")
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From one window's start to the next; 1 by default."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Choose among these emotions only; all of the model by default."),
    ] = None,
    channel: Annotated[
        str, typer.Option(metavar="mix|0|1|…", help="All channels mixed, or one of them, counted from 0.")
    ] = "mix",
    answer_all: Annotated[
        bool,
        typer.Option(
            "--answer-all", help="Guess even where a stretch is too short, silent or without speech."
        ),
    ] = False,
    format: Annotated[
        str, typer.Option(**choice("table", "json", "csv"), help="Form of the output.")
    ] = "table",
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the timeline too (PNG, PDF or SVG); the second recording goes to FILE-2.png and so on.",
        ),
    ] = None,
    stdin_limit: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Most that is read from stdin; more is refused.")
    ] = DEFAULT_LIMIT_MB,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where to compute, e.g. cpu or cuda.")
    ] = "cpu",
) -> None:
    """Say the emotion of recordings: one answer a file, or a timeline."""
    if per != "window" and (window is not None or hop is not None):
        raise UsageError(f"--window and --hop go with --per window, not with --per {per}")
    if paths.count(STDIN) > 1:
        raise UsageError(f"{STDIN!r} is given twice; stdin holds one recording")
    if plot is not None:
        _check_plot(plot)
    chosen = None if labels is None else names(labels, "--labels")
    number = _channel(channel)
    sources, named, problems = _sources(paths, stdin_limit)
    if not sources:
        finish(problems, 0)

    from subtone import inference
    from subtone.bundle import load

    single = len(inference.name_sources(sources)) == 1
    quiet = format != "table" and sys.stdout.isatty()  # Lines that come one by one are progress enough.
    results: list[FileResult] = []
    failed: list[Failure] = []
    done = 0
    with progress("Listening", show=not quiet) as report_done:
        outcomes = inference.iterate(
            load(model, device=device),
            sources,
            per=per,  # type: ignore[arg-type]  # checked by the option
            window_s=inference.DEFAULT_WINDOW_S if window is None else window,
            hop_s=inference.DEFAULT_HOP_S if hop is None else hop,
            labels=chosen,
            channel=number,  # type: ignore[arg-type]
            abstain=not answer_all,
            on_file=lambda count, total, _: None if single else report_done(count, total),
            on_audio=lambda _, done_s, total_s: report_done(done_s, total_s) if single else None,
        )
        for outcome in _named(outcomes, named):
            if isinstance(outcome, inference.Failure):
                failed.append(outcome)
                continue
            if format == "json":
                write("".join(json_line(record) for record in outcome.records()))
            elif format == "csv":
                write(_csv(outcome, header=not done))
            done += 1
            if format == "table" or plot is not None:  # Else a hundred thousand files need no memory.
                results.append(outcome)
    if format == "table" and results:
        write(_table(results))
    problems += [(one.file, one.message) for one in failed]
    if plot is not None:
        problems += _draw(results, sources, number, plot)
    finish(problems, done)


def _sources(
    paths: list[str], stdin_limit: int
) -> tuple[list[bytes | str], list[str], list[tuple[str, str]]]:
    """What is to be heard, the names that it was given by, and what is wrong with stdin."""
    sources: list[bytes | str] = []
    named: list[str] = []
    problems: list[tuple[str, str]] = []
    for path in paths:
        try:
            sources.append(read_stdin(stdin_limit) if path == STDIN else path)
        except AudioError as error:
            problems.append((STDIN, str(error)))
        else:
            named.append(path)
    return sources, named, problems


def _draw(
    results: list[FileResult], sources: list[bytes | str], channel: str | int, path: Path
) -> list[tuple[str, str]]:
    """Draw each recording, the first to the path and the next to path-2, path-3, …; return what failed."""
    from subtone.inference import timeline_plot

    failed = []
    for number, result in enumerate(results, start=1):
        place = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        source = sources[result.position] if result.file == STDIN else result.file
        try:
            timeline_plot(result, source, place, channel=channel)  # type: ignore[arg-type]  # checked
        except SubtoneError as error:
            failed.append((result.file, str(error)))
        else:
            say(f"{result.file}: drawn in {place}")
    return failed


def _named(outcomes: Iterator[FileResult | Failure], named: list[str]) -> Iterator[FileResult | Failure]:
    """Call what came from stdin by the name it was given by."""
    from subtone.inference import Failure

    for outcome in outcomes:
        if named[outcome.position] != STDIN:
            yield outcome
        elif isinstance(outcome, Failure):
            yield replace(outcome, file=STDIN, message=outcome.message.replace(outcome.file, "stdin"))
        else:
            yield replace(outcome, file=STDIN)


def _channel(text: str) -> str | int:
    if text == "mix":
        return text
    if text.isdecimal():
        return int(text)
    raise UsageError(f"--channel {text}: must be mix, or the number of a channel from 0")


def _check_plot(path: Path) -> None:
    from subtone.cli.files import check_place

    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {path}: must end in .png, .pdf or .svg")
    check_place(path)


def _csv(result: FileResult, *, header: bool) -> str:
    titles = ("file", "start", "end", "label", *result.labels, "speech", "note")
    rows = [
        (
            *(record[name] for name in ("file", "start", "end", "label")),
            *(record["scores"].get(label) for label in result.labels),
            record["speech"],
            record["note"],
        )
        for record in result.records()
    ]
    return csv_lines([titles, *rows] if header else rows)


def _table(results: list[FileResult]) -> str:
    rows = [
        (
            record["file"],
            f"{record['start']:.2f}",
            f"{record['end']:.2f}",
            record["label"] or f"– ({record['note']})",
            f"{max(record['scores'].values()):.2f}" if record["scores"] else "",
            f"{100 * record['speech']:.0f} %",
        )
        for result in results
        for record in result.records()
    ]
    return table(
        ("file", "start s", "end s", "emotion", "score", "speech"),
        rows,
        right=("start s", "end s", "score", "speech"),
    )
