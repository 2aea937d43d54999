"""Run a recipe on corpora: read, divide, extract, train, score, write."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subtone import upstreams
from subtone.corpora.several import left_out
from subtone.errors import RecipeError, UsageError
from subtone.evaluation import describe_environment, refuse_if_taken, write_results
from subtone.extraction import clips_of, extract
from subtone.processes import is_first, several
from subtone.recipes.data import divide, positions, read_corpora, targets
from subtone.recipes.finetuned import run_finetuned
from subtone.recipes.judge import Answers, Scores, judge, probabilities
from subtone.recipes.load import dump, load
from subtone.recipes.pretrained import run_pretrained
from subtone.recipes.progress import OnProgress, silent
from subtone.recipes.schema import Recipe
from subtone.speech import get_detector
from subtone.training import train_frozen
from subtone.training.end_to_end.launching import Strategy
from subtone.training.heard import taught_on


def run(
    name_or_path: str | Path,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    upstream: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    store: str | Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    devices: int = 1,
    strategy: Strategy = "ddp",
    on_progress: OnProgress | None = None,
) -> Path | None:
    """Run a recipe and write its result folder.

    Parameters
    ----------
    name_or_path : str or Path
        A recipe's name or a YAML file.
    corpora : mapping
        Corpus → your copy of it. Several are joined into one table; a speaker is then one of her corpus.
    out : path
        Result folder; must be new or empty.
    upstream : str or sequence of str, optional
        Instead of the recipe's. Not for a recipe that pre-trains its own; several for one that joins them.
    overrides : sequence of str
        ``key=value``, see :func:`subtone.recipes.load`.
    store : path, optional
        Keep extracted features there, and use those that are there already. A recipe that trains upstreams keeps its
        frames or clips and its runs there, so that the same call goes on after a kill; without ``store`` in a
        folder beside the result, named as it with ``.work`` added.
    overwrite : bool
        Replace an earlier result folder.
    device : str
        Where the upstream computes, e.g. ``"cuda"``.
    devices, strategy
        Of a recipe that fine-tunes: how many processes train together, and what each holds; see
        :func:`subtone.training.end_to_end.launching.launched`. The program is started again for each process, and this
        call returns in all of them; the first writes the result.
    on_progress : callable, optional
        See :data:`subtone.recipes.progress.OnProgress`.

    Returns
    -------
    Path or None
        The result folder: ``metrics.json``, ``folds.csv``, ``predictions.parquet``, plots, the resolved recipe, the
        environment and a ``README.md`` with the table. A recipe that pre-trains divides and measures each corpus for
        itself; with several, their names stand before those of the systems. None in a process that only helped to
        train.

    Raises
    ------
    SubtoneError
        If anything does not fit; nothing half written stays. Clips that cannot be read are left out, and named in
        ``metrics.json``.
    """
    recipe = load(name_or_path, overrides)
    if upstream is not None and recipe.pretraining is not None:
        raise RecipeError(f"recipe {recipe.name!r} pre-trains upstreams of its own; leave --upstream away")
    if upstream is not None:
        recipe = _with_upstreams(
            recipe, [upstream] if isinstance(upstream, str) else [str(u) for u in upstream]
        )
    if not corpora:
        raise UsageError("no corpus given; pass --corpus NAME=PATH")
    if recipe.finetuning is None and (devices > 1 or (recipe.pretraining is None and several())):
        raise UsageError(
            f"recipe {recipe.name!r} does not fine-tune, so one process runs it; leave --devices and torchrun away"
        )
    if is_first():
        refuse_if_taken(out, overwrite=overwrite)
    tell = on_progress or silent
    if recipe.finetuning is not None:
        return run_finetuned(
            recipe,
            corpora,
            out=out,
            work=work_folder(out, store),
            device=device,
            devices=devices,
            strategy=strategy,
            tell=tell,
            overwrite=overwrite,
        )
    if recipe.pretraining is not None:
        work = work_folder(out, store)
        return run_pretrained(
            recipe, corpora, out=out, work=work, device=device, tell=tell, overwrite=overwrite
        )
    (name_of_upstream,) = recipe.upstreams
    began = time.perf_counter()
    tell("reading the corpus", 0, 1)
    table = read_corpora(recipe, corpora)
    # Folds first: a leak or a wrong name is told before hours of extraction.
    divide(recipe, corpora, table)
    encoder = upstreams.load(name_of_upstream, device=device)
    found = extract(
        clips_of(table),
        encoder,
        get_detector(recipe.detector.name, **recipe.detector.options),
        statistics=recipe.statistics,
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
            targets(split),
            split.folds,
            recipe.seeds,
            len(split.protocol.classes),
            recipe.training.options,
        )
        scores[name] = probabilities(fitted.logits)
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
        protocol={
            **split.protocol.to_dict(),
            "description": split.protocol.describe() + taught_on([encoder], table),
        },
        systems=systems,
        comparisons=comparisons,
        predictions=answers.table(),
        recipe=dump(recipe),
        environment=describe_environment(seeds=recipe.seeds, device=device),
        extra={
            "recipe": recipe.name,
            "upstream": {"name": name_of_upstream, "fingerprint": encoder.fingerprint()},
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


def _with_upstreams(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe on other upstreams, as many as it has."""
    if len(names) != len(recipe.upstreams):
        wanted = len(recipe.upstreams)
        raise RecipeError(
            f"recipe {recipe.name!r} stands on {wanted} upstream{'s' if wanted > 1 else ''}, given are {len(names)}; "
            f"give --upstream {'once' if wanted == 1 else f'{wanted} times'}"
        )
    return recipe.model_copy(update={"upstream": names[0] if len(names) == 1 else list(names)})


def work_folder(out: str | Path, store: str | Path | None = None) -> Path:
    """Return where a recipe that trains upstreams keeps its data and runs.

    Pre-training: ``frames`` and ``RECIPE/runs/NAME/upstream``. Fine-tuning: ``clips`` and
    ``RECIPE/foldN-seedM/upstreamK/averaged``.
    """
    target = Path(out)
    return Path(store) if store is not None else target.with_name(target.name + ".work")
