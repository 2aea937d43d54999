"""Run a recipe on corpora: read, divide, extract, train, score, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from subtone.errors import RecipeError, UsageError
from subtone.evaluation import refuse_if_taken
from subtone.processes import is_first, several
from subtone.recipes.finetuned import run_finetuned
from subtone.recipes.frozen import run_frozen
from subtone.recipes.load import load_any
from subtone.recipes.paper_tables.run import run_paper_tables
from subtone.recipes.paper_tables.schema import PaperTables
from subtone.recipes.pretrained import run_pretrained
from subtone.recipes.progress import OnProgress, silent
from subtone.recipes.schema import Recipe
from subtone.training.end_to_end.launching import Strategy


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
        Corpus → your copy of it. Several are joined into one table; a speaker is then one of her corpus. The tables of
        papers are made for each.
    out : path
        Result folder; must be new or empty. That of the tables of papers may hold an earlier call's, which it goes on
        with, see :func:`subtone.recipes.paper_tables.run.run_paper_tables`.
    upstream : str or sequence of str, optional
        Instead of the recipe's. Not for a recipe that pre-trains its own; several for one that joins them.
    overrides : sequence of str
        ``key=value``, see :func:`subtone.recipes.load`.
    store : path, optional
        Keep extracted features there, and use those that are there already. A recipe that trains upstreams keeps its
        frames or clips and its runs there, so that the same call goes on after a kill; without ``store`` in a
        folder beside the result, named as it with ``.work`` added. Networks on segments (``cnns``) have their runs in
        that folder in any case, and their features too where there is no ``store``.
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
        itself; with several, their names stand before those of the systems. The tables of papers end in the folder of a
        study. None in a process that only helped to train.

    Raises
    ------
    SubtoneError
        If anything does not fit; nothing half written stays. Clips that cannot be read are left out, and named in
        ``metrics.json``.
    """
    recipe = load_any(name_or_path, overrides)
    if isinstance(recipe, PaperTables):
        if not corpora:
            raise UsageError("no corpus given; pass --corpus NAME=PATH")
        if devices > 1 or several():
            raise UsageError(
                f"recipe {recipe.name!r} runs others one after another in one process; leave --devices and torchrun "
                "away"
            )
        return run_paper_tables(
            recipe if upstream is None else _tables_with_upstreams(recipe, upstream),
            corpora,
            out=out,
            store=store,
            device=device,
            tell=on_progress or silent,
            overwrite=overwrite,
            run=run,
        )
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
    return run_frozen(
        recipe,
        corpora,
        out=out,
        work=work_folder(out),
        store=store,
        device=device,
        tell=tell,
        overwrite=overwrite,
    )


def _with_upstreams(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe on other upstreams, as many as it has."""
    if not recipe.needs_upstream:
        raise RecipeError(f"recipe {recipe.name!r} looks at no upstream; leave --upstream away")
    if len(names) != len(recipe.upstreams):
        wanted = len(recipe.upstreams)
        raise RecipeError(
            f"recipe {recipe.name!r} stands on {wanted} upstream{'s' if wanted > 1 else ''}, given are {len(names)}; "
            f"give --upstream {'once' if wanted == 1 else f'{wanted} times'}"
        )
    return recipe.model_copy(update={"upstream": names[0] if len(names) == 1 else list(names)})


def _tables_with_upstreams(tables: PaperTables, upstream: str | Sequence[str]) -> PaperTables:
    names = [upstream] if isinstance(upstream, str) else [str(one) for one in upstream]
    if not 1 <= len(set(names)) == len(names) <= 2:
        raise RecipeError(
            f"recipe {tables.name!r} takes one upstream, or two that differ; given are {', '.join(names)}"
        )
    return tables.model_copy(update={"upstream": names})


def work_folder(out: str | Path, store: str | Path | None = None) -> Path:
    """Return where a recipe keeps its data and runs.

    Pre-training: ``frames`` and ``RECIPE/runs/NAME/upstream``. Fine-tuning: ``clips`` and
    ``RECIPE/foldN-seedM/upstreamK/averaged``. Networks on segments, wherever the features lie:
    ``RECIPE/NAME/foldN-seedM/network.safetensors``.
    """
    target = Path(out)
    return Path(store) if store is not None else target.with_name(target.name + ".work")
