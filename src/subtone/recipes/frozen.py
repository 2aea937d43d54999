"""Run a recipe on features that stay as they are: extract once, train all systems on them, score, write."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone import upstreams
from subtone.corpora.several import left_out
from subtone.errors import RecipeError
from subtone.evaluation import describe_environment, write_results
from subtone.extraction import Clip, Failure, clips_of, extract
from subtone.extraction.functionals import Functionals, FunctionalSet, Smile, functionals
from subtone.protocols import Split
from subtone.recipes.cnns import Cnns
from subtone.recipes.data import NOT_ASKED_FOR, divide, positions, read_corpora, targets
from subtone.recipes.judge import Answers, Scores, calibrations, for_whom, judge, probabilities
from subtone.recipes.load import dump
from subtone.recipes.progress import OnProgress
from subtone.recipes.published import beside
from subtone.recipes.remarks import chosen, headline, remarks
from subtone.recipes.schema import Recipe
from subtone.recipes.segment_sources import Encoded, frames_to_keep
from subtone.recipes.svms import fit_machine
from subtone.recipes.systems import SvmSection
from subtone.speech import get_detector
from subtone.training import train_frozen
from subtone.training.heard import Taught, taught_on


def run_frozen(
    recipe: Recipe,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    work: Path,
    store: str | Path | None,
    device: str,
    tell: OnProgress,
    overwrite: bool,
) -> Path:
    """Extract, train, score and write the result folder.

    Parameters
    ----------
    recipe
        With neither ``pretraining`` nor ``finetuning``.
    corpora
        Corpus → your copy of it; several are joined into one table.
    out, store, overwrite
        See :func:`subtone.recipes.run`.
    work
        Folder of the runs of networks on segments, and of their features where there is no store.
    device
        Where the upstream and networks compute.
    tell
        See :data:`subtone.recipes.progress.OnProgress`.
    """
    began = time.perf_counter()
    tell("reading the corpus", 0, 1)
    table = read_corpora(recipe, corpora)
    # Folds first: a leak or a wrong name is told before hours of extraction.
    divide(recipe, corpora, table)
    run = _Run(recipe, table, work, store, device, tell, overwrite=overwrite)
    split = divide(recipe, corpora, table.iloc[run.rows])
    trained = time.perf_counter()
    answers, told = run.train(split)
    trained = time.perf_counter() - trained
    tell("scoring", 0, 1)
    systems, comparisons = judge(recipe, answers)
    seconds = time.perf_counter() - began
    named = {} if recipe.split is None else {"split": recipe.split}
    return write_results(
        out,
        protocol={
            **split.protocol.to_dict(),
            **named,
            "description": split.protocol.describe()
            + taught_on([*run.upstreams, *dict.fromkeys(run.images.values())], table),
        },
        systems=systems,
        comparisons=comparisons,
        slices=for_whom(recipe, answers),
        calibration=calibrations(answers),
        predictions=answers.table(),
        recipe=dump(recipe),
        environment=describe_environment(seeds=recipe.seeds, device=device),
        sections={**beside(recipe, corpora, systems), **chosen(told.get("svms", {}))},
        about=headline(recipe),
        remarks=remarks(
            recipe,
            systems,
            failed=len(run.failed),
            clips=len(table),
            not_asked_for=table.attrs.get(NOT_ASKED_FOR, {}),
            upstreams=run.upstreams,
            images=run.images,
        ),
        extra={
            "recipe": recipe.name,
            "not_asked_for": table.attrs.get(NOT_ASKED_FOR, {}),
            **run.about,
            **told,
            "left_out": left_out(table),
            "failed": [{"file": Path(f.file).name, "message": f.message} for f in run.failed],
            "seconds": {
                "all": round(seconds, 1),
                "extraction": round(run.seconds, 1),
                "training": round(trained, 1),
            },
        },
        overwrite=overwrite,
    )


class _Run:
    """One run: the features of all clips that every system can use, and the systems trained on them."""

    def __init__(
        self,
        recipe: Recipe,
        table: pd.DataFrame,
        work: Path,
        store: str | Path | None,
        device: str,
        tell: OnProgress,
        *,
        overwrite: bool,
    ) -> None:
        self._overwrite = overwrite
        self._recipe, self._table, self._work, self._device = recipe, table, work, device
        self._tell = tell
        self._clips: list[Clip] = clips_of(table)
        self._cnns = Cnns(recipe, work, device, tell, overwrite=overwrite) if recipe.cnns else None
        sets = dict.fromkeys(one.functionals for one in recipe.svms.values() if one.functionals)
        for which in sets:  # a missing extra is told now, not after hours of extraction
            Smile(which)
        began = time.perf_counter()
        self._encoded = self._encode(store)
        kept = store if store is not None else work
        self._functionals: dict[FunctionalSet, Functionals] = {
            which: self._measure(which, kept) for which in sets
        }
        self.seconds = time.perf_counter() - began
        each = [one.rows for one in self._functionals.values()]
        if self._encoded is not None:
            each.append(self._encoded.found.rows)
        self.rows = each[0]
        for rows in each[1:]:
            self.rows = np.intersect1d(self.rows, rows)
        if not len(self.rows):
            raise RecipeError(
                f"no clip could be used by all systems: {'; '.join(f.message for f in self.failed[:5])}"
            )

    @property
    def failed(self) -> list[Failure]:
        """Clips that are left out of all systems, each once."""
        failures = [] if self._encoded is None else [*self._encoded.found.failed]
        lacking = set() if self._encoded is None else self._lacking(self._encoded.found.rows)
        for one in self._functionals.values():
            missing = self._lacking(one.rows)
            # In the order of the clips, as failures are told.
            failures += [f for row, f in zip(sorted(missing), one.failed, strict=True) if row not in lacking]
            lacking |= missing
        return failures

    def _lacking(self, rows: npt.NDArray[np.int64]) -> set[int]:
        """Return the clips that are not among ``rows``."""
        return set(range(len(self._clips))) - set(rows.tolist())

    @property
    def upstreams(self) -> list[Taught]:
        """The upstream, if there is one."""
        return [] if self._encoded is None else [self._encoded.upstream]

    @property
    def images(self) -> dict[str, Taught]:
        """System → pre-trained network that it begins as."""
        return {} if self._cnns is None else self._cnns.pre_trained

    @property
    def about(self) -> dict[str, Any]:
        """What a result tells of its features."""
        told: dict[str, Any] = {}
        if self._encoded is not None:
            upstream, found = self._encoded.upstream, self._encoded.found
            told["upstream"] = {"name": self._recipe.upstream, "fingerprint": upstream.fingerprint()}
            told["backend"] = dict(found.backend)
            told["audio_s"] = round(found.audio_s, 1)
        if self._functionals:
            told["functionals"] = {name: one.maker for name, one in self._functionals.items()}
        return told

    def _encode(self, store: str | Path | None) -> Encoded | None:
        recipe = self._recipe
        if not recipe.needs_upstream:
            return None
        (name,) = recipe.upstreams
        upstream = upstreams.load(name, device=self._device)
        detector = get_detector(recipe.detector.name, **recipe.detector.options)
        folder = store if store is not None or not recipe.cnns else self._work / "features"
        options = recipe.extraction.options
        if recipe.cnns:
            assert folder is not None
            options = frames_to_keep(recipe, upstream, folder)
        found = extract(
            self._clips,
            upstream,
            detector,
            statistics=recipe.statistics,  # networks on segments take theirs from the store as they need them
            store=folder,
            options=options,
            on_progress=lambda state: self._tell(f"extracting: {state.sentence()}", state.done, state.total),
        )
        return Encoded(upstream, detector, found, None if folder is None else Path(folder))

    def _measure(self, which: FunctionalSet, store: str | Path | None) -> Functionals:
        return functionals(
            self._clips,
            which,
            store=store,
            on_progress=lambda state: self._tell(
                f"openSMILE, {which}: {state.sentence()}", state.done, state.total
            ),
        )

    def train(self, split: Split) -> tuple[Answers, dict[str, Any]]:
        """Train all systems; return what they say of the clips, and what is told of them.

        Parameters
        ----------
        split
            Of the clips :attr:`rows`.
        """
        scores: dict[str, Scores] = {}
        development: dict[str, Sequence[Scores]] = {}
        told: dict[str, Any] = {}
        self._train_pooled(split, scores, development, told)
        built_in = self._train_svms(split, scores, told)
        if self._cnns is not None:
            assert self._encoded is not None
            clips = [self._clips[row] for row in self.rows[positions(split)].tolist()]
            rows = self._rows_of(self._encoded.found.rows, split)
            found = self._cnns.train(split, clips, self._encoded, rows)
            scores |= found.scores
            development |= found.development
            told["cnns"] = found.told
        return Answers.of(split, scores, development, built_in), told

    def _rows_of(self, rows: npt.NDArray[np.int64], split: Split) -> npt.NDArray[np.int64]:
        """Return where the clips of a split stand among ``rows``, which some features have."""
        return np.searchsorted(rows, self.rows[positions(split)])

    def _train_pooled(
        self,
        split: Split,
        scores: dict[str, Scores],
        development: dict[str, Sequence[Scores]],
        told: dict[str, Any],
    ) -> None:
        recipe, steps = self._recipe, {}
        for i, (name, system) in enumerate(recipe.systems.items()):
            assert self._encoded is not None
            self._tell("training", i, len(recipe.systems))
            found = self._encoded.found
            features = found.features.select(self._rows_of(found.rows, split))
            fitted = train_frozen(
                features.matrix(system.statistics),
                targets(split),
                split.folds,
                recipe.seeds,
                len(split.protocol.classes),
                recipe.training.options,
            )
            scores[name] = probabilities(fitted.logits)
            development[name] = [probabilities(logits) for logits in fitted.dev_by_fold]
            steps[name] = fitted.steps.tolist()
        if steps:
            told["steps"] = steps

    def _train_svms(
        self, split: Split, scores: dict[str, Scores], told: dict[str, Any]
    ) -> dict[str, list[float]]:
        """Return the temperatures of those that development clips have scaled, fold by fold."""
        found = {}
        for name, section in self._recipe.svms.items():
            folder = self._work / self._recipe.name / name
            scores[name], found[name] = fit_machine(
                name,
                section,
                self._numbers(section, split),
                split,
                folder,
                self._tell,
                overwrite=self._overwrite,
            )
        if found:
            told["svms"] = found
        scaled = all(len(fold.dev) for fold in split.folds)
        return {name: [one["temperature"] for one in folds] for name, folds in found.items() if scaled}

    def _numbers(self, system: SvmSection, split: Split) -> npt.NDArray[np.float32]:
        """Return one row of numbers a clip, ``(clips, dim)``."""
        if system.functionals is not None:
            found = self._functionals[system.functionals]
            return found.values[self._rows_of(found.rows, split)]
        assert self._encoded is not None
        pooled = self._encoded.found
        features = pooled.features.select(self._rows_of(pooled.rows, split))
        return features.matrix(system.statistics).reshape(len(split.table), -1)
