"""The part of a run that trains networks on segments: each system, fold and seed by itself, finished ones kept."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.extraction import Clip
from subtone.extraction.progress import duration
from subtone.protocols import Fold, Split
from subtone.recipes.claims import claim_anew
from subtone.recipes.data import targets
from subtone.recipes.judge import Scores, probabilities, room_for_development
from subtone.recipes.progress import OnProgress
from subtone.recipes.schema import Recipe
from subtone.recipes.scores import read_scores, rounded, write_scores
from subtone.recipes.segment_sources import Encoded, Sources, layers_of
from subtone.training.end_to_end.fit import CHECKPOINTS, EPOCHS, Fitted
from subtone.training.end_to_end.launching import alone
from subtone.training.end_to_end.options import FitOptions, binding
from subtone.training.heard import Taught
from subtone.training.segments.image_cnn import ImageCNN, load_image_cnn
from subtone.training.segments.saving import SavedAs, save_network
from subtone.training.segments.train import train_segments

SCORES, NETWORK = "scores.safetensors", "network.safetensors"
Rows = npt.NDArray[np.int64]


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


@dataclass(frozen=True)
class CnnAnswers:
    """What the networks on segments of a recipe said.

    Parameters
    ----------
    scores
        System → probabilities ``(seeds, clips, classes)``, NaN for a clip of no test fold.
    development
        System → those of each fold's development clips; see :class:`subtone.recipes.judge.Answers`.
    told
        System → what is told of its trainings.
    """

    scores: dict[str, Scores]
    development: dict[str, list[Scores]]
    told: dict[str, Any]


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
    overwrite
        Whether runs of other settings may be replaced.

    Raises
    ------
    UpstreamError
        If a pre-trained network that a system starts from cannot be opened.
    """

    def __init__(
        self, recipe: Recipe, work: Path, device: str, tell: OnProgress, *, overwrite: bool = False
    ) -> None:
        self._overwrite = overwrite
        self._recipe, self._folder, self._tell = recipe, work / recipe.name, tell
        # Weights of networks with batch norms are not averaged unless it is asked for.
        self._options = recipe.downstream or FitOptions(average=1)
        self._fabric = alone(self._options.precision, device=device)
        names = dict.fromkeys(one.images.weights for one in recipe.cnns.values() if one.images is not None)
        self._images: dict[str, ImageCNN] = {name: load_image_cnn(name) for name in names}

    @property
    def pre_trained(self) -> dict[str, Taught]:
        """System → pre-trained network that it begins as, for those that do."""
        systems = self._recipe.cnns.items()
        return {name: self._images[one.images.weights] for name, one in systems if one.images is not None}

    def train(
        self,
        split: Split,
        clips: Sequence[Clip],
        encoded: Encoded,
        rows: Rows,
    ) -> CnnAnswers:
        """Train what is not trained yet.

        Parameters
        ----------
        split
            The divided clips.
        clips
            These clips.
        encoded
            What was extracted, of more clips perhaps.
        rows
            Where these clips stand in it.
        """
        found = encoded.found
        keys = [found.keys[row] for row in rows]
        jobs = [
            _Job(name, number, place, seed, fold)
            for name in self._recipe.cnns
            for place, seed in enumerate(self._recipe.seeds)
            for number, fold in enumerate(split.folds)
        ]
        for job in jobs:  # all of them at once: what does not fit is told before the first is trained
            claim_anew(
                self._fabric,
                self._folder / job.folder,
                self._about(job, split, keys, encoded),
                whole=self._folder / job.name,
                overwrite=self._overwrite,
            )
        sources = Sources(
            encoded,
            clips,
            keys,
            found.features.num_samples[rows],
            self._recipe.extraction.options,
            self._tell,
        )
        try:
            return self._train(jobs, split, sources, encoded)
        finally:
            sources.close()

    def _train(self, jobs: Sequence[_Job], split: Split, sources: Sources, encoded: Encoded) -> CnnAnswers:
        seeds = len(self._recipe.seeds)
        shape = (seeds, len(split.table), len(split.protocol.classes))
        names = list(self._recipe.cnns)
        scores: dict[str, Scores] = {name: np.full(shape, np.nan) for name in names}
        development = {name: room_for_development(split, seeds) for name in names}
        told: dict[str, Any] = {}
        took: list[float] = []
        for at, job in enumerate(jobs):
            where = f"{job.name}, fold {job.number + 1}, {at + 1} of {len(jobs)}"
            if took:  # what was found done took no time and tells nothing
                where += f", {duration(sum(took) / len(took) * (len(jobs) - at))} left in all"
            began = time.perf_counter()
            if self._job(job, split, sources, encoded, where):
                took.append(time.perf_counter() - began)
            logits, about = read_scores(self._folder / job.folder / SCORES)
            place, tested = job.place, len(job.fold.test)
            given = probabilities(logits["clips"])
            scores[job.name][place, job.fold.test] = given[:tested]
            if len(given) > tested:  # runs of an earlier version kept the test clips only
                development[job.name][job.number][place] = given[tested:]
            told.setdefault(job.name, {})[f"fold{job.number + 1}-seed{job.seed}"] = about
        return CnnAnswers(scores, development, told)

    def _job(self, job: _Job, split: Split, sources: Sources, encoded: Encoded, where: str) -> bool:
        """Do a job, unless it is done; return whether there was anything to do."""
        system, fold = self._recipe.cnns[job.name], job.fold
        folder = self._folder / job.folder
        if (folder / SCORES).exists():
            _tidy(folder)  # what a run that was killed right then has left
            return False
        source = sources.of(system)
        scored = np.concatenate([fold.test, fold.dev])
        run = train_segments(
            self._fabric,
            source,
            targets(split),
            fold.train,
            fold.dev,
            scored,
            len(split.protocol.classes),
            folder,
            system,
            self._options,
            seed=job.seed,
            on_progress=lambda state: self._tell(
                f"{state.sentence()} · training {where}", state.step, state.steps
            ),
        )
        upstream = encoded.upstream
        saved_as = SavedAs(
            system,
            split.protocol.classes,
            upstream.name,
            upstream.fingerprint(),
            layers_of(system, upstream),
            encoded.detector.config(),
        )
        save_network(run.network, saved_as, folder / NETWORK)
        about = {
            "stages": [_told_of(fitted, len(fold.dev) > 0) for fitted in run.stages],
            "segments": len(source.windows.of(fold.train)),
        }
        write_scores(folder / SCORES, {"clips": np.ascontiguousarray(run.logits[scored])}, about)
        _tidy(folder)
        return True

    def _about(self, job: _Job, split: Split, keys: Sequence[str], encoded: Encoded) -> dict[str, Any]:
        """What decides a job's scores."""
        system = self._recipe.cnns[job.name]
        images = None if system.images is None else self._images[system.images.weights].fingerprint()
        return {
            "upstream": encoded.upstream.fingerprint(),
            "backend": dict(encoded.found.backend),
            "pre-trained network": images,
            "settings": asdict(system),
            "downstream": binding(self._options, 1),
            "detector": self._recipe.detector.model_dump(mode="json"),
            "extraction": self._recipe.extraction.model_dump(mode="json"),
            "seed": job.seed,
            "choice or division of clips": sides_of(job.fold, keys, targets(split)),
            "classes": list(split.protocol.classes),
        }


def sides_of(fold: Fold, keys: Sequence[str], wanted: Rows) -> str:
    """Return a digest of which clips are on which side of a fold, and what they are called."""
    sides = "\n\n".join(
        "\n".join(f"{keys[row]}|{wanted[row]}" for row in side.tolist())
        for side in (fold.train, fold.dev, fold.test)
    )
    return hashlib.sha256(sides.encode()).hexdigest()


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
