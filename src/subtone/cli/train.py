"""``subtone train``: a model of your own from corpora, saved as a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from subtone.cli.options import (
    Corpora,
    Device,
    Settings,
    SkipMissing,
    SkipUnknown,
    Store,
    examples,
    flowing,
    named_paths,
    names,
    pairs,
    skip_settings,
)
from subtone.cli.outcome import finish, say, say_left_out
from subtone.cli.output import write
from subtone.cli.progress import progress
from subtone.errors import UsageError, nearest

EPILOG = examples(
    "subtone train --corpus emodb=~/data/emodb --out my-model",
    "subtone train --corpus ravdess=~/data/ravdess --corpus nemo=~/data/nemo --upstream facebook/wav2vec2-base "
    "--labels anger,happiness,sadness,neutral --out my-model",
    "subtone train --corpus emodb=~/data/emodb --set training.steps=400 --set seeds=[0] --out my-model",
    "subtone predict --model my-model call.wav",
)


@flowing
def train(
    corpus: Corpora,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the model; must be new, or see --overwrite.")
    ],
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FOLDER",
            help="Instead of the recipe's: [b]fbank[/b], a model of the hub, or a local folder.",
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="Whose settings hold: a recipe's name or a YAML file.")
    ] = "sap",
    system: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of the recipe's systems; its last by default.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Emotions to learn; by default those that the recipe names for the corpus (sap: four for iemocap), "
            "else all that the corpora have.",
        ),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM=TO", help="Count an emotion of the corpora as another; repeatable."),
    ] = None,
    settings: Settings = None,
    skip_unknown: SkipUnknown = False,
    skip_missing: SkipMissing = False,
    store: Store = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in DIR.")] = False,
    device: Device = "cpu",
) -> None:
    """Train a model on all speakers of one corpus or several, and save it.

    What its kind reaches on new speakers is measured on the way, by folds of speakers, and told on stderr. For figures
    to report, with every prediction kept, run a recipe: see 'subtone recipe run --help'.
    """
    corpora = named_paths(corpus)
    overrides = list(settings or ())
    if labels is not None:
        overrides.append(f"corpus.classes={_quoted(names(labels, '--labels'))}")
    if merge:
        overrides.append(f"corpus.merges={_quoted(pairs(merge, '--merge', 'excitement=happiness'))}")
    overrides += skip_settings(skip_unknown, skip_missing)
    out = out.expanduser()
    from subtone import bundle, recipes, upstreams
    from subtone.corpora.several import left_out
    from subtone.recipes.data import read_corpora, section_for
    from subtone.speech import get_detector
    from subtone.training import train_model
    from subtone.training.heard import taught_on

    bundle.refuse_if_taken(out, overwrite=overwrite)
    plan = recipes.load(recipe, overrides)
    if plan.finetuning is not None:
        raise UsageError(
            f"recipe {plan.name!r} fine-tunes an upstream for each fold; run it with 'subtone recipe run', then train "
            "on one of its upstreams: --upstream WORK/RECIPE/foldN-seedM/upstream1/averaged"
        )
    chosen = list(plan.systems)[-1] if system is None else system
    if chosen not in plan.systems:
        raise UsageError(f"--system {chosen}: recipe {plan.name!r} has none; {nearest(chosen, plan.systems)}")
    if upstream is None and not plan.upstreams:
        raise UsageError(
            f"recipe {plan.name!r} pre-trains upstreams of its own; name the one to train on, e.g. "
            "--upstream RUN/upstream of 'subtone pretrain'"
        )
    encoder = upstream or plan.upstreams[0]
    pooled, section = plan.systems[chosen], section_for(plan, corpora)
    table = read_corpora(plan, corpora)
    say_left_out(left_out(table))
    loaded = upstreams.load(encoder, device=device)
    with progress("Extracting") as report_done:
        trained = train_model(
            table,
            loaded,
            detector=get_detector(plan.detector.name, **plan.detector.options),
            labels=section.classes,
            merges=section.merges,
            pooling=pooled.pooling,
            form=pooled.form,
            std=pooled.std,
            options=plan.training.options,
            seeds=plan.seeds,
            # Ten folds of speakers measure a model well enough, unless other folds are asked for.
            folds=plan.protocol.folds
            if any("protocol.folds" in text for text in overrides)
            else "group-k-fold",
            k=plan.protocol.k,
            dev=plan.protocol.dev,
            dev_share=plan.protocol.dev_share,
            fold_seed=plan.protocol.seed,
            leaks=plan.protocol.leaks,
            store=store.expanduser() if store is not None else None,
            extraction=plan.extraction.options,
            on_progress=lambda state: report_done(
                state.done,
                state.total,
                "Training" if state.done == state.total else f"Extracting: {state.sentence()}",
            ),
        )
    bundle.save(trained.model, out, overwrite=overwrite)
    say(f"measured on {trained.protocol}{taught_on([loaded], table)}")
    unheard = "clips" if trained.protocol.speaker_dependent else "speakers"
    say(f"on {unheard} not heard: {trained.evaluation.sentence()}")
    write(f"{out}\n")
    failed = [(one.file, one.message) for one in trained.failed]
    finish(failed, trained.protocol.clips, what="clips")


def _quoted(value: Any) -> str:
    """A value of a setting with its texts in quotes; YAML reads a bare ``no`` or ``on`` as a truth value."""
    return json.dumps(value, ensure_ascii=False)
