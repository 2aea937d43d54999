"""``subtone evaluate``: a model's answers on a corpus, against its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subtone.cli.options import (
    Backend,
    Corpora,
    Device,
    Precision,
    SkipMissing,
    SkipUnknown,
    Store,
    choice,
    examples,
    extraction_options,
    flowing,
    named_paths,
    pairs,
    skipping,
)
from subtone.cli.outcome import finish, say, say_left_out
from subtone.cli.output import json_line, table, write
from subtone.cli.progress import progress

if TYPE_CHECKING:
    from subtone.evaluation import Evaluation

EPILOG = examples(
    "subtone evaluate --model default --corpus emodb=~/data/emodb",
    "subtone evaluate --model my-model --corpus manifest=clips.csv --format json",
    "subtone evaluate --model my-model --corpus iemocap=~/data/iemocap --merge excitement=happiness",
)

# What a table is called that does not say which corpus it is: two such need not be the same.
NO_NAMES = ("manifest", "audformat")


@flowing
def evaluate(
    corpus: Corpora,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME_OR_FOLDER", help="A shipped model, or the folder of yours."
        ),
    ] = "default",
    merge: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM=TO", help="Count an emotion of the corpus as another; repeatable."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every clip's truth, answer and scores: .parquet or .csv."),
    ] = None,
    skip_unknown: SkipUnknown = False,
    skip_missing: SkipMissing = False,
    store: Store = None,
    backend: Backend = "auto",
    precision: Precision = "fp32",
    device: Device = "cpu",
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the output.")] = "table",
) -> None:
    """Let a model answer a corpus and compare with its labels: accuracy with 95 % intervals, recall, confusion.

    Clips whose emotion the model has no label for are left out, and counted on stderr. On a corpus that the model was
    trained on, this says nothing of new speakers: there, run a recipe.
    """
    from subtone.cli.files import check_table_name, write_table

    corpora = named_paths(corpus)
    merges = pairs(merge or (), "--merge", "excitement=happiness")
    if predictions is not None:
        check_table_name(predictions)
    from subtone.assessment import assess
    from subtone.bundle import load
    from subtone.corpora.several import left_out, read_several

    loaded = load(model, device=device)
    clips = read_several(corpora, **skipping(skip_unknown, skip_missing))
    say_left_out(left_out(clips))
    for name in clips["corpus"].dropna().unique():
        if name in loaded.trained_on and name not in NO_NAMES:
            say(f"warning: the model was trained on {name}, so these figures say nothing of new speakers")
    with progress("Answering") as report_done:
        found = assess(
            loaded,
            clips,
            merges=merges,
            store=store.expanduser() if store is not None else None,
            options=extraction_options(backend, precision),
            on_progress=lambda state: report_done(state.done, state.total, f"Answering: {state.sentence()}"),
        )
    if found.left_out:
        counts = ", ".join(f"{emotion} {count}" for emotion, count in found.left_out.items())
        say(f"left out, because the model has no such label: {counts}")
    if predictions is not None:
        write_table(found.predictions, predictions)
    if format == "json":
        write(json_line(found.evaluation.to_dict()))
    else:
        write(_text(found.evaluation))
    finish(((one.file, one.message) for one in found.failed), found.evaluation.n, what="clips")


def _text(evaluation: Evaluation) -> str:
    """The figures in a line, then recall and confusion by class."""
    rows = []
    for truth, counts in zip(evaluation.labels, evaluation.confusion.tolist()):
        recall = evaluation.per_class_recall[truth]
        shown = "–" if recall != recall else f"{100 * recall:.1f}"  # NaN: no clip of that class
        rows.append((truth, str(sum(counts)), shown, *map(str, counts)))
    header = ("truth", "clips", "recall %", *(f"as {label}" for label in evaluation.labels))
    return f"{evaluation.sentence()}\n\n{table(header, rows, right=header[1:])}"
