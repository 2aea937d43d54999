"""``subtone pretrain``: an upstream of your own from recordings without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from subtone.cli.inputs import recordings
from subtone.cli.options import choice, examples, flowing
from subtone.cli.outcome import finish, say, told_once
from subtone.cli.output import write
from subtone.cli.progress import progress
from subtone.errors import UsageError
from subtone.processes import is_first

EPILOG = examples(
    "subtone pretrain mockingjay recordings/ --out runs/plain",
    "subtone pretrain mockingjay recordings/ --masking ems-nms --frames frames/ --out runs/ems --precision bf16",
    "subtone pretrain npc 'data/**/*.wav' --size paper --device cuda --devices 2 --out runs/npc",
    "subtone extract --upstream runs/ems/upstream --store features/ems recordings/",
)
WHAT, HOW, WHERE = "What is learned", "How it is trained", "Where"
# Named here as well as where they are made, which takes seconds to import.
_ARCHITECTURES, _SIZES = ("mockingjay", "npc"), ("small", "mini", "paper", "tiny")
_MASKINGS = ("none", "random", "ems", "ems-nms", "ems-sample")


@flowing
@told_once()
def pretrain(
    architecture: Annotated[str, typer.Argument(**choice(*_ARCHITECTURES), help="What is trained.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, or patterns in quotes.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="RUN", help="Folder of the run; taken up again if there.", rich_help_panel=WHERE
        ),
    ],
    size: Annotated[
        str,
        typer.Option(
            **choice(*_SIZES),
            help="Of the encoder: small or mini for a CPU, paper as published, tiny for trials.",
            rich_help_panel=WHAT,
        ),
    ] = "small",
    masking: Annotated[
        str | None,
        typer.Option(
            **choice(*_MASKINGS),
            help="What is hidden: [b]random[/b], spans anywhere; [b]ems[/b], around the frames of highest emotion "
            "intensity, as released, which cluster; [b]ems-nms[/b], around such frames a span or more apart; "
            "[b]ems-sample[/b], drawn in proportion to intensity. By default as published: random for mockingjay, none "
            "for npc.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Share of the frames to mask; 0.15 by default. Spans of random overlap a little; those of ems so much "
            "that 4 to 6 % are masked.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    span: Annotated[
        int | None,
        typer.Option(help="Frames of 10 ms a masked span; 7 by default.", rich_help_panel=WHAT),
    ] = None,
    intensity_input: Annotated[
        bool | None,
        typer.Option(
            "--intensity-input/--no-intensity-input",
            help="Add the intensity of a frame to its features; by default with ems maskings.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    intensity_target: Annotated[
        bool | None,
        typer.Option(
            "--intensity-target/--no-intensity-target",
            help="Predict the intensity as well; by default with ems maskings.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    intensity: Annotated[
        str,
        typer.Option(
            metavar="MODEL_OR_CSV",
            help="What scores intensity, where it is needed: [b]default[/b], a model's folder, or a .csv with scores "
            "that are ready, of any hop: a file's name and then its scores in each row.",
            rich_help_panel=WHAT,
        ),
    ] = "default",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Updates of the weights; 5,000 by default. With --size paper 1,000,000 (mockingjay), 335,000 (npc).",
            rich_help_panel=HOW,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Utterances that go through the network together; 16 by default (paper: 4, npc 32).",
            rich_help_panel=HOW,
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            help="Batches to an update, in each process; 1 by default (paper: mockingjay 4).",
            rich_help_panel=HOW,
        ),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(
            metavar="FRAMES",
            help="Longest stretch taken of an utterance, in frames of 10 ms; 400 by default (paper: 2000, npc 1500).",
            rich_help_panel=HOW,
        ),
    ] = None,
    min_frames: Annotated[
        int | None,
        typer.Option(
            metavar="FRAMES",
            help="Leave out utterances of fewer frames; 20 by default, 201 with the paper's size.",
            rich_help_panel=HOW,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="The highest; 0.0005 by default (paper: 0.0002), npc 0.001.", rich_help_panel=HOW),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            **choice("fp32", "bf16"),
            help="bf16 multiplies in half the bits: nearly twice as fast where the processor has it.",
            rich_help_panel=HOW,
        ),
    ] = "fp32",
    seed: Annotated[int, typer.Option(help="Of all that is random.", rich_help_panel=HOW)] = 0,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            help="How often the state is saved; 500 by default (paper: 5,000).",
            rich_help_panel=HOW,
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the decoded frames here, for further runs; by default within the run.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(**choice("cpu", "cuda"), help="Where to compute.", rich_help_panel=WHERE)
    ] = "cpu",
    devices: Annotated[
        int, typer.Option(help="Processes, each with a GPU of its own on cuda.", rich_help_panel=WHERE)
    ] = 1,
) -> None:
    """Pre-train an upstream on recordings, without labels.

    The recordings are decoded once into a corpus of frames; then the network learns to fill in what is hidden of them.
    RUN/upstream is what was learned: name it wherever an upstream is asked for. The folder also holds the curves
    (curves.csv, curves.png) and run.json. A run that was broken off, at whatever moment, goes on when the same command
    is given again, and ends in the same weights.
    """
    out = out.expanduser()
    found, failed = recordings(paths)
    if not found:
        finish(failed, 0, what="inputs")
    from subtone.pretraining.frames import prepare
    from subtone.pretraining.intensity import open_intensity
    from subtone.pretraining.options import PretrainOptions
    from subtone.pretraining.run import check_place, objective_of
    from subtone.pretraining.run import pretrain as run

    options = PretrainOptions.defaults(
        architecture,
        size,
        masking=masking,
        share=share,
        span=span,
        intensity_input=intensity_input,
        intensity_target=intensity_target,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        crop_frames=crop,
        min_frames=min_frames,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        checkpoint_every=checkpoint_every,
        accelerator=device,
        devices=devices,
    )
    objective_of(architecture, options)  # mistakes are told before hours of audio are decoded
    check_place(out)
    if intensity != "default" and not options.needs_intensity:
        raise UsageError(
            f"--intensity {intensity}: nothing here looks at intensity; add --masking ems, or --intensity-input"
        )
    scorer = open_intensity(intensity) if options.needs_intensity else None
    # Its own folder by default: frames with intensities and without do not go together.
    folder = frames.expanduser() if frames is not None else out / "frames"
    with progress("Decoding", estimate=False) as report_done:
        corpus = prepare(
            found,
            folder,
            intensity=scorer,
            on_progress=lambda state: report_done(state.done, state.total, f"Decoding: {state.sentence()}"),
            on_wait=say if is_first() else None,
        )
    failed += [(one.file, one.message) for one in corpus.failed]
    with progress("Training", estimate=False) as report_done:
        trained = run(
            architecture,
            corpus,
            out,
            options=options,
            on_progress=lambda state: report_done(state.step, state.steps, state.sentence()),
        )
    if is_first():
        say(_summary(trained.result, corpus.num_left_out))
        write(f"{trained.upstream}\n")
        finish(failed, len(corpus.recordings))


def _summary(result: Any, left_out: int) -> str:
    told = (
        f"{result['steps']} steps, {result['frames_per_s']:,.0f} frames/s, {100 * result['coverage']:.1f} % of the "
        f"frames masked, {100 * result['wait_share']:.1f} % of the time spent waiting for data"
    )
    return f"{told}; {left_out} recordings too short" if left_out else told
