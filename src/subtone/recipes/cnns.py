"""The part of a run that trains networks on segments: each system, fold and seed by itself, finished ones kept."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.errors import RecipeError, StoreError, TrainingError, UsageError
from subtone.extraction import (
    Clip,
    Extraction,
    ExtractionOptions,
    FeatureMaps,
    FeatureStore,
    extract,
)
from subtone.extraction.progress import duration
from subtone.protocols import Fold, Split
from subtone.recipes.data import targets
from subtone.recipes.judge import Scores, probabilities
from subtone.recipes.progress import OnProgress
from subtone.recipes.schema import Recipe
from subtone.recipes.scores import read_scores, rounded, write_scores
from subtone.speech import Detector
from subtone.training.end_to_end.fit import CHECKPOINTS, EPOCHS, Fitted
from subtone.training.end_to_end.folder import claim
from subtone.training.end_to_end.launching import alone
from subtone.training.end_to_end.options import FitOptions, binding
from subtone.training.heard import Taught
from subtone.training.segments.image_cnn import ImageCNN, load_image_cnn
from subtone.training.segments.source import EachAlone, Source, WithinClips, parts_of
from subtone.training.segments.system import SegmentSystem
from subtone.training.segments.train import train_segments
from subtone.training.segments.windows import SegmentOptions, Windows, cut
from subtone.upstreams import Upstream

SCORES = "scores.safetensors"
Rows = npt.NDArray[np.int64]


def frames_to_keep(recipe: Recipe, upstream: Upstream, store: str | Path) -> ExtractionOptions:
    """Return how to extract so that a store holds the layers that the recipe's networks look at.

    Raises
    ------
    StoreError
        If there is a store that keeps others.
    UsageError
        If the upstream has no such layer.
    """
    wanted = sorted({layer for one in recipe.cnns.values() for layer in layers_of(one, upstream)})
    made, options = FeatureStore.how(store), recipe.extraction.options
    if made is None:
        return replace(options, frames=tuple(wanted))
    kept = made.get("frames") or []
    if not set(wanted) <= set(kept):  # more than enough is fine
        held = f"frames of layers {_listed(kept)} alone" if kept else "no frames"
        raise StoreError(
            f"{store}: holds {held}, and networks on segments (cnns) need those of {_listed(wanted)}; name another "
            "--store folder, into which they are extracted then, or delete this one"
        )
    return options


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def layers_of(system: SegmentSystem, upstream: Upstream) -> tuple[int, ...]:
    """Return the layers of an upstream that a system looks at.

    Raises
    ------
    UsageError
        If there is no such layer.
    """
    if system.layer is None:
        return tuple(range(upstream.num_layers))
    if not -upstream.num_layers <= system.layer < upstream.num_layers:
        raise UsageError(
            f"cnns: layer {system.layer} is asked for, {upstream.name!r} has layers 0 to {upstream.num_layers - 1}"
        )
    return (system.layer % upstream.num_layers,)


@dataclass(frozen=True)
class _Job:
    """One system on one fold under one seed."""

    name: str
    number: int
    place: int
    seed: int
    fold: Fold

    @property
    def folder(self) -> str:
        """Of its run, below the recipe's."""
        return f"{self.name}/fold{self.number + 1}-seed{self.seed}"


class Cnns:
    """The networks on segments of a recipe.

    Parameters
    ----------
    recipe
        With ``cnns``.
    work
        Where their runs lie, in a folder of the recipe's name.
    device
        Where they are trained.
    tell
        See :data:`subtone.recipes.progress.OnProgress`.

    Raises
    ------
    UpstreamError
        If a pre-trained network that a system starts from cannot be opened.
    """

    def __init__(self, recipe: Recipe, work: Path, device: str, tell: OnProgress) -> None:
        self._recipe, self._folder, self._device, self._tell = recipe, work / recipe.name, device, tell
        self._options = recipe.downstream or FitOptions()
        names = dict.fromkeys(one.images.weights for one in recipe.cnns.values() if one.images is not None)
        self._images: dict[str, ImageCNN] = {name: load_image_cnn(name) for name in names}

    @property
    def pre_trained(self) -> list[Taught]:
        """Networks that systems start from."""
        return list(self._images.values())

    def train(
        self,
        split: Split,
        clips: Sequence[Clip],
        found: Extraction,
        rows: Rows,
        upstream: Upstream,
        detector: Detector,
        store: str | Path,
    ) -> tuple[dict[str, Scores], dict[str, Any]]:
        """Train what is not trained yet.

        Parameters
        ----------
        split
            The divided clips.
        clips
            These clips.
        found
            What was extracted, of more clips perhaps.
        rows
            Where these clips stand in it.
        upstream, detector, store
            That it was extracted with, and into.

        Returns
        -------
        (dict, dict)
            Probabilities of every system, ``(seeds, clips, classes)``, NaN for a clip of no test fold; and what is told
            of the trainings.
        """
        keys = [found.keys[row] for row in rows]
        shape = (len(self._recipe.seeds), len(keys), len(split.protocol.classes))
        scores: dict[str, Scores] = {}
        told: dict[str, Any] = {}
        jobs = [
            _Job(name, number, place, seed, fold)
            for name in self._recipe.cnns
            for place, seed in enumerate(self._recipe.seeds)
            for number, fold in enumerate(split.folds)
        ]
        sources = _Sources(
            self._recipe, clips, keys, found.features.num_samples[rows], upstream, detector, store, self._tell
        )
        took: list[float] = []
        for at, job in enumerate(jobs):
            where = f"{job.name}, fold {job.number + 1}, {at + 1} of {len(jobs)}"
            if took:  # what was found done took no time and tells nothing
                where += f", {duration(sum(took) / len(took) * (len(jobs) - at))} left in all"
            began = time.perf_counter()
            if self._job(job, split, keys, sources, upstream, where):
                took.append(time.perf_counter() - began)
            logits, about = read_scores(self._folder / job.folder / SCORES)
            given = scores.setdefault(job.name, np.full(shape, np.nan))
            given[job.place, job.fold.test] = probabilities(logits["clips"])
            told.setdefault(job.name, {})[f"fold{job.number + 1}-seed{job.seed}"] = about
        sources.close()
        return scores, told

    def _job(
        self,
        job: _Job,
        split: Split,
        keys: Sequence[str],
        sources: _Sources,
        upstream: Upstream,
        where: str,
    ) -> bool:
        """Do a job, unless it is done; return whether there was anything to do."""
        system, fold = self._recipe.cnns[job.name], job.fold
        fabric = alone(self._options.precision, device=self._device)
        folder = self._folder / job.folder
        wanted = targets(split)
        with _beside_the_result():
            claim(fabric, folder, self._about(job, split, keys, wanted, upstream), whole=self._folder)
        if (folder / SCORES).exists():
            _tidy(folder)  # what a run that was killed right then has left
            return False
        source = sources.of(system)
        run = train_segments(
            fabric,
            source,
            wanted,
            fold.train,
            fold.dev,
            fold.test,
            len(split.protocol.classes),
            folder,
            system,
            self._options,
            seed=job.seed,
            on_progress=lambda state: self._tell(
                f"{state.sentence()} · training {where}", state.step, state.steps
            ),
        )
        about = {
            "stages": [_told_of(fitted, len(fold.dev) > 0) for fitted in run.stages],
            "segments": len(source.windows.of(fold.train)),
        }
        write_scores(folder / SCORES, {"clips": np.ascontiguousarray(run.logits[fold.test])}, about)
        _tidy(folder)
        return True

    def _about(
        self, job: _Job, split: Split, keys: Sequence[str], wanted: Rows, upstream: Upstream
    ) -> dict[str, Any]:
        """What decides a job's scores."""
        system, fold = self._recipe.cnns[job.name], job.fold
        sides = "\n\n".join(
            "\n".join(f"{keys[row]}|{wanted[row]}" for row in side.tolist())
            for side in (fold.train, fold.dev, fold.test)
        )
        images = None if system.images is None else self._images[system.images.weights].fingerprint()
        return {
            "upstream": upstream.fingerprint(),
            "pre-trained network": images,
            "settings": asdict(system),
            "downstream": binding(self._options, 1),
            "detector": self._recipe.detector.model_dump(mode="json"),
            "extraction": self._recipe.extraction.model_dump(mode="json"),
            "seed": job.seed,
            "choice or division of clips": hashlib.sha256(sides.encode()).hexdigest(),
            "classes": list(split.protocol.classes),
        }


class _Sources:
    """The segments that systems ask for, each kind cut once."""

    def __init__(
        self,
        recipe: Recipe,
        clips: Sequence[Clip],
        keys: Sequence[str],
        num_samples: Rows,
        upstream: Upstream,
        detector: Detector,
        store: str | Path,
        tell: OnProgress,
    ) -> None:
        self._recipe, self._clips, self._keys, self._num_samples = recipe, clips, keys, num_samples
        self._upstream, self._detector, self._folder, self._tell = upstream, detector, store, tell
        self._known: dict[tuple[SegmentOptions, tuple[int, ...]], Source] = {}
        self._maps: list[FeatureMaps] = []

    def of(self, system: SegmentSystem) -> Source:
        layers = layers_of(system, self._upstream)
        key = (replace(system.segments, shift=False), layers)
        if key not in self._known:
            self._known[key] = self._cut(system.segments, layers)
        return self._known[key]

    def _cut(self, options: SegmentOptions, layers: tuple[int, ...]) -> Source:
        maps = self._opened(self._keys, layers)
        grid = self._upstream.grid
        speech = [
            one.project(grid, int(length)) for one, length in zip(maps.speech, maps.lengths, strict=True)
        ]
        windows = cut(maps.lengths.tolist(), speech, grid.hop / grid.sample_rate_hz, options)
        if options.context == "clip":
            return WithinClips(maps, windows)
        return self._alone(windows, layers)

    def _opened(self, keys: Sequence[str], layers: tuple[int, ...]) -> FeatureMaps:
        maps = FeatureMaps(FeatureStore.open(self._folder), keys, layers)
        self._maps.append(maps)
        return maps

    def _alone(self, windows: Windows, layers: tuple[int, ...]) -> EachAlone:
        """Encode each segment by itself, into the same store."""
        parts = parts_of(windows, self._clips, self._num_samples / self._upstream.grid.sample_rate_hz)
        found = extract(
            parts,
            self._upstream,
            self._detector,
            statistics=(),
            store=self._folder,
            options=self._recipe.extraction.options,  # whose layers are those that the store keeps
            on_progress=lambda state: self._tell(
                f"extracting segments: {state.sentence()}", state.done, state.total
            ),
        )
        if found.failed:
            raise RecipeError(
                f"{len(found.failed)} of {len(parts)} segments cannot be encoded by themselves: "
                f"{found.failed[0].message}"
            )
        return EachAlone(self._opened(found.keys, layers), windows)

    def close(self) -> None:
        for maps in self._maps:
            maps.close()


@contextmanager
def _beside_the_result() -> Iterator[None]:
    """Let an error of what is shared with fine-tuning say where these runs lie: with the result, never in a store."""
    try:
        yield
    except TrainingError as error:
        told = str(error).replace("give --store another folder", "give the result another folder (--out)")
        raise TrainingError(told) from error


def _told_of(fitted: Fitted, developed: bool) -> dict[str, Any]:
    kept = fitted.best.kept
    return {
        "epochs": fitted.epochs,
        "kept": [one.epoch + 1 for one in kept],
        "dev_ua": round(kept[0].ua, 4) if developed else None,
        "seconds": round(fitted.seconds, 1),
        "history": [{name: rounded(value) for name, value in row.items()} for row in fitted.history],
    }


def _tidy(folder: Path) -> None:
    """Leave of a finished job its curves, TensorBoard's events, and the network."""
    for stage in folder.iterdir():
        for part in (CHECKPOINTS, EPOCHS):
            shutil.rmtree(stage / part, ignore_errors=True)
