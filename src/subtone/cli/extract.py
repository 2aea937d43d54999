"""``subtone extract``: pooled features of recordings into a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.inputs import recordings
from subtone.cli.options import choice, examples, flowing
from subtone.cli.outcome import finish
from subtone.cli.output import json_line, table, write
from subtone.cli.progress import progress

EPILOG = examples(
    "subtone extract --upstream fbank --store features/fbank recordings/",
    "subtone extract --upstream facebook/wav2vec2-base --store features/w2v2 'data/**/*.wav' --device cuda",
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
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where to compute, e.g. cpu or cuda.")
    ] = "cpu",
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the summary.")] = "table",
) -> None:
    """Extract pooled features of recordings into a store, for training and evaluation.

    A recording that is in the store already, under whatever name, is not computed again; a run that was broken off
    goes on where it stopped.
    """
    found, failed = recordings(paths)
    if not found:
        finish(failed, 0, what="inputs")
    from subtone.extraction import extract_to_store
    from subtone.speech import get_detector
    from subtone.upstreams import load

    loaded = load(upstream, device=device)
    with progress("Extracting") as report_done:
        summary = extract_to_store(
            loaded,
            store.expanduser(),
            found,
            detector=get_detector(detector),
            on_clip=lambda done, total, _seconds: report_done(done, total),
        )
    failed += [(failure.file, failure.message) for failure in summary.failed]
    record = {**asdict(summary), "failed": [{"file": file, "message": message} for file, message in failed]}
    if format == "json":
        write(json_line({"store": str(store), "upstream": loaded.name, **record}))
    else:
        write(
            table(
                ("store", "clips", "already there", "failed", "hours of audio", "seconds"),
                [
                    (
                        str(store),
                        str(summary.clips),
                        str(summary.reused),
                        str(len(failed)),
                        f"{summary.hours:.3f}",
                        f"{summary.seconds:.1f}",
                    )
                ],
                right=("clips", "already there", "failed", "hours of audio", "seconds"),
            )
        )
    finish(failed, summary.clips)
