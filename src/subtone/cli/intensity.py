"""``subtone intensity``: how strongly voices are moved, clip by clip and frame by frame; and a model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subtone.cli.files import check_place, check_table_name, write_table
from subtone.cli.inputs import recordings
from subtone.cli.options import (
    Corpora,
    SkipMissing,
    SkipUnknown,
    choice,
    examples,
    flowing,
    named_paths,
    skipping,
)
from subtone.cli.outcome import finish, say, say_left_out
from subtone.cli.output import write
from subtone.cli.progress import progress
from subtone.errors import AudioError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Score how strong the emotion in speech sounds, or train the model that does.",
)


@app.command(
    "score",
    epilog=examples(
        "subtone intensity score recordings/ --out intensity.parquet",
        "subtone intensity score 'calls/**/*.wav' --out intensity.csv --frames curves.safetensors",
    ),
)
@flowing
def score(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, or patterns in quotes.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Table of the clips, .parquet or .csv; replaced if there.")
    ],
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors",
            help="Keep the curves too: per recording one score every 10 ms, under its path.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME_OR_FOLDER", help="[b]default[/b], or a folder of 'intensity train'.")
    ] = "default",
    detector: Annotated[
        str, typer.Option(**choice("silero", "webrtc", "energy"), help="Voice activity detector.")
    ] = "silero",
) -> None:
    """Score recordings from 0 (calm) to 1 (strong), each by the mean over its speech.

    The table has a row a recording: intensity (mean over speech frames), peak (95th percentile of them) and speech_s
    (seconds of speech; where there is none, frames count that are not far under the recording's level). Scores order
    the clips of one speaker better than clips of different speakers; see the model's card.
    """
    out = out.expanduser()
    check_table_name(out)
    if frames is not None:
        frames = frames.expanduser()
        check_place(frames)
        if frames.suffix != ".safetensors":
            raise UsageError(f"{frames}: curves are written as .safetensors; name a file that ends so")
    found, failed = recordings(paths)
    if not found:
        finish(failed, 0, what="inputs")
    import audformat
    import pandas as pd
    from safetensors.numpy import save

    from subtone.audio import load_audio
    from subtone.files import write_whole
    from subtone.inference.sources import printable
    from subtone.pretraining.intensity import IntensityModel
    from subtone.speech import get_detector

    loaded, finder = IntensityModel.load(model), get_detector(detector)
    rows, curves = [], {}
    with progress("Scoring") as report_done:
        for done, file in enumerate(found):
            report_done(done, len(found))
            try:
                wave = load_audio(file)
            except AudioError as error:
                failed.append((str(file), str(error)))
                continue
            scored = loaded.score(wave, finder.detect(wave))
            name = printable(str(file.absolute()))
            rows.append((name, scored.intensity, scored.peak, scored.speech_s))
            if frames is not None:
                curves[name] = scored.frames
    if rows:
        names, *columns = zip(*rows)
        table = pd.DataFrame(
            dict(zip(("intensity", "peak", "speech_s"), columns)),
            index=audformat.segmented_index(list(names)),
        )
        write_table(table, out)
        if frames is not None:
            write_whole(frames, save(curves))
        write(f"{out}\n")
    finish(failed, len(rows))


@app.command(
    "train",
    epilog=examples(
        "subtone intensity train --corpus ravdess=~/data/ravdess --corpus baved=~/data/baved --out my-intensity",
        "subtone intensity score recordings/ --model my-intensity --out intensity.parquet",
    ),
)
@flowing
def train(
    corpus: Corpora,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the model; must be new.")],
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Updates; a few hundred will do.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the weights and batches.")] = 0,
    skip_unknown: SkipUnknown = False,
    skip_missing: SkipMissing = False,
) -> None:
    """Train an intensity model on corpora that tell intensity, and save it.

    What teaches: levels of intensity in words (RAVDESS, BAVED, CREMA-D, CaFE, manifests with a column 'intensity') or
    ratings of arousal (EmoTale, IEMOCAP, MSP-Podcast). Clips of one speaker are compared with each other, so each
    speaker should have clips of several levels.
    """
    out = out.expanduser()
    if out.exists():
        raise UsageError(f"{out}: exists already; name another folder")
    from dataclasses import replace

    from subtone.corpora.several import left_out, read_several
    from subtone.pretraining.intensity.examples import read_examples
    from subtone.pretraining.intensity.training import IntensityTraining, train_intensity

    table = read_several(named_paths(corpus), **skipping(skip_unknown, skip_missing))
    say_left_out(left_out(table))
    options = IntensityTraining() if steps is None else IntensityTraining(steps=steps)
    with progress("Reading") as report_done:
        read = read_examples(table, on_progress=report_done)
        model = train_intensity(
            read,
            options,
            seed=seed,
            on_step=lambda step, loss: report_done(step, options.steps, f"Training: loss {loss:.3f}"),
        )
    names = ", ".join(model.trained_on)
    card = f"# Intensity model\n\nTrained on {names}, {len(read)} clips, seed {seed}. Not evaluated.\n"
    replace(model, card=card).save(out)
    say(f"trained on {names}; not measured on new speakers, see studies/intensity for how that is done")
    write(f"{out}\n")
    finish(list(read.failed), len(read), what="clips")
