"""``subtone extract``: pooled features of recordings into a store."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from subtone.cli.inputs import recordings
from subtone.cli.options import Backend, Device, Precision, choice, examples, extraction_options, flowing
from subtone.cli.outcome import DEBUG_VARIABLE, finish, say
from subtone.cli.output import json_line, table, write
from subtone.cli.progress import progress
from subtone.errors import StoreError

EPILOG = examples(
    "subtone extract --upstream fbank+deltas --store features/fbank recordings/",
    "subtone extract --upstream facebook/wav2vec2-base --store features/w2v2 'data/**/*.wav' --device cuda",
    "subtone extract --upstream microsoft/wavlm-base --precision bf16 --frames 6,12 --store features/wavlm calls/",
)


@flowing
def extract(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, or patterns in quotes.")
    ],
    upstream: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_FOLDER", help="[b]fbank[/b], a model of the hub, or a local folder of one."
        ),
    ],
    store: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the store; made if new, taken up again if there.")
    ],
    detector: Annotated[
        str, typer.Option(**choice("silero", "webrtc", "energy"), help="Voice activity detector.")
    ] = "silero",
    backend: Backend = "auto",
    precision: Precision = "fp32",
    frames: Annotated[
        str | None,
        typer.Option(
            metavar="all|LAYERS",
            help="Keep the frames of these layers too, in half precision: [b]all[/b], or numbers as in 6,12.",
        ),
    ] = None,
    leave_out_silence: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Shorten longer stretches without speech to this before encoding; by default all audio is encoded.",
        ),
    ] = None,
    device: Device = "cpu",
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the summary.")] = "table",
) -> None:
    """Extract pooled features of recordings into a store, for training and evaluation.

    A recording that is in the store already, under whatever name, is not computed again; a run that was broken off,
    at whatever moment, goes on where it stopped when the same command is given again.
    """
    options = extraction_options(
        backend, precision, leave_out_silence_s=leave_out_silence, frames=_layers(frames)
    )
    found, failed = recordings(paths)
    if not found:
        finish(failed, 0, what="inputs")
    from subtone.extraction import extract_to_store
    from subtone.speech import get_detector
    from subtone.upstreams import load

    loaded = load(upstream, device=device)
    try:
        with progress("Starting", estimate=False) as report_done:
            summary = extract_to_store(
                loaded,
                store.expanduser(),
                found,
                detector=get_detector(detector),
                options=options,
                on_progress=lambda state: report_done(state.done, state.total, state.sentence()),
            )
    except StoreError:
        for file, message in failed:  # else the error of the others would be the only one told
            say(f"error: {message if file in message else f'{file}: {message}'}")
        raise
    for failure in summary.failed:
        failed.append((failure.file, failure.message))
        if failure.details and os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
            print(failure.details, file=sys.stderr)
    record = {**asdict(summary), "failed": [{"file": file, "message": message} for file, message in failed]}
    if format == "json":
        write(json_line({"store": str(store), "upstream": loaded.name, **record}))
    else:
        columns = {
            "store": str(store),
            "backend": f"{summary.backend['name']} {summary.backend['precision']}",
            "clips": str(summary.clips),
            "already there": str(summary.reused),
            "failed": str(len(failed)),
            "hours of audio": f"{summary.hours:.3f}",
            "seconds": f"{summary.seconds:.1f}",
            "× real time": f"{summary.times_real_time:.3g}",
        }
        write(table(tuple(columns), [tuple(columns.values())], right=tuple(columns)[2:]))
    finish(failed, summary.clips)


def _layers(text: str | None) -> Literal["all"] | tuple[int, ...] | None:
    """Read ``all`` or numbers of layers with commas between them."""
    if text is None:
        return None
    if text == "all":
        return "all"
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither 'all' nor numbers as in 6,12", param_hint="--frames"
        ) from None
