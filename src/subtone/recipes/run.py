"""Run a recipe on corpora: read, divide, extract, train, score, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone import upstreams
from subtone.corpora.several import left_out
from subtone.errors import UsageError
from subtone.evaluation import describe_environment, refuse_if_taken, write_results
from subtone.extraction import clips_of, extract
from subtone.protocols import Split
from subtone.recipes.data import divide, positions, read_corpora
from subtone.recipes.judge import Answers, Scores, judge
from subtone.recipes.load import dump, load
from subtone.recipes.schema import Recipe
from subtone.speech import get_detector
from subtone.training import train_frozen

#: Called with what is being done, how much of it is done, and how much there is.
OnProgress = Callable[[str, int, int], None]


def run(
    name_or_path: str | Path,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    upstream: str | None = None,
    overrides: Sequence[str] = (),
    store: str | Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> Path:
    """Run a recipe and write its result folder.

    Parameters
    ----------
    name_or_path : str or Path
        A recipe's name or a YAML file.
    corpora : mapping
        Corpus → your copy of it. Several are joined into one table; a speaker is then one of her corpus.
    out : path
        Result folder; must be new or empty.
    upstream : str, optional
        Instead of the recipe's.
    overrides : sequence of str
        ``key=value``, see :func:`subtone.recipes.load`.
    store : path, optional
        Keep extracted features there, and use those that are there already.
    overwrite : bool
        Replace an earlier result folder.
    device : str
        Where the upstream computes, e.g. ``"cuda"``.
    on_progress : callable, optional
        See :data:`OnProgress`.

    Returns
    -------
    Path
        The result folder: ``metrics.json``, ``folds.csv``, ``predictions.parquet``, plots, the resolved recipe, the
        environment and a ``README.md`` with the table.

    Raises
    ------
    SubtoneError
        If anything does not fit; nothing half written stays. Clips that cannot be read are left out, and named in
        ``metrics.json``.
    """
    recipe = load(name_or_path, overrides)
    if upstream is not None:
        recipe = recipe.model_copy(update={"upstream": str(upstream)})
    if not corpora:
        raise UsageError("no corpus given; pass --corpus NAME=PATH")
    refuse_if_taken(out, overwrite=overwrite)
    tell = on_progress or _silent
    began = time.perf_counter()
    tell("reading the corpus", 0, 1)
    table = read_corpora(recipe, corpora)
    # Folds first: a leak or a wrong name is told before hours of extraction.
    divide(recipe, corpora, table)
    encoder = upstreams.load(recipe.upstream, device=device)
    found = extract(
        clips_of(table),
        encoder,
        get_detector(recipe.detector.name, **recipe.detector.options),
        statistics=_needed(recipe),
        store=store,
        options=recipe.extraction.options,
        on_progress=lambda state: tell(f"extracting: {state.sentence()}", state.done, state.total),
    )
    split = divide(recipe, corpora, table.iloc[found.rows])
    features = found.features.select(positions(split))
    scores: dict[str, Scores] = {}
    steps: dict[str, Any] = {}
    trained = time.perf_counter()
    for i, (name, system) in enumerate(recipe.systems.items()):
        tell("training", i, len(recipe.systems))
        x = features.matrix(system.statistics)
        fitted = train_frozen(
            x,
            _targets(split),
            split.folds,
            recipe.seeds,
            len(split.protocol.classes),
            recipe.training.options,
        )
        scores[name] = _probabilities(fitted.logits)
        steps[name] = fitted.steps.tolist()
    trained = time.perf_counter() - trained
    tell("scoring", 0, 1)
    # Clips of no test fold (possible with fixed lists) have no score.
    tested = np.zeros(len(split.table), bool)
    for fold in split.folds:
        tested[fold.test] = True
    answers = Answers(split, tested, {name: s[:, tested] for name, s in scores.items()})
    systems, comparisons = judge(recipe, answers)
    seconds = time.perf_counter() - began
    return write_results(
        out,
        protocol=split.protocol,
        systems=systems,
        comparisons=comparisons,
        predictions=answers.table(),
        recipe=dump(recipe),
        environment=describe_environment(seeds=recipe.seeds, device=device),
        extra={
            "recipe": recipe.name,
            "upstream": {"name": recipe.upstream, "fingerprint": encoder.fingerprint()},
            "left_out": left_out(table),
            "failed": [{"file": Path(f.file).name, "message": f.message} for f in found.failed],
            "steps": steps,
            "backend": dict(found.backend),
            "audio_s": round(found.audio_s, 1),
            "seconds": {
                "all": round(seconds, 1),
                "extraction": round(found.seconds, 1),
                "training": round(trained, 1),
            },
        },
        overwrite=overwrite,
    )


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


def _needed(recipe: Recipe) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for system in recipe.systems.values() for name in system.statistics))


def _targets(split: Split) -> npt.NDArray[np.int64]:
    number = {label: i for i, label in enumerate(split.protocol.classes)}
    return np.array([number[str(emotion)] for emotion in split.table["emotion"]], np.int64)


def _probabilities(logits: npt.NDArray[np.float32]) -> Scores:
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))
