"""Run a recipe that fine-tunes its upstreams: each fold's anew, networks on their frames, all measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from lightning_fabric import Fabric

from subtone import upstreams
from subtone.corpora.several import left_out
from subtone.errors import RecipeError
from subtone.evaluation import describe_environment, write_results
from subtone.extraction import clips_of
from subtone.extraction.backends import open_backend
from subtone.extraction.progress import duration
from subtone.files import sweep_partial
from subtone.protocols import Fold, Split
from subtone.recipes.data import divide, positions, read_corpora, targets
from subtone.recipes.judge import (
    Answers,
    Scores,
    calibrations,
    for_whom,
    judge,
    probabilities,
    room_for_development,
)
from subtone.recipes.load import dump
from subtone.recipes.networks import NetworkSection, Weights
from subtone.recipes.progress import OnProgress
from subtone.recipes.published import beside
from subtone.recipes.schema import Recipe
from subtone.recipes.scores import read_scores, told_of, write_scores
from subtone.speech import get_detector
from subtone.training.end_to_end.clips import DecodedClips, decode
from subtone.training.end_to_end.downstream import DownstreamOptions, train_downstream
from subtone.training.end_to_end.finetune import Finetuned, FoldClips, finetune, rehearse
from subtone.training.end_to_end.fit import CHECKPOINTS, EPOCHS
from subtone.training.end_to_end.folder import claim
from subtone.training.end_to_end.frames import ClipFrames, encode_frames
from subtone.training.end_to_end.launching import Strategy, alone, launched, together
from subtone.training.end_to_end.options import FinetuneOptions, FitOptions, binding
from subtone.training.heard import taught_on

SCORES, FRAMES = "scores.safetensors", "frames"


@dataclass(frozen=True)
class Job:
    """One fold under one seed: its upstreams are fine-tuned, then its networks are trained and its clips scored."""

    number: int
    seed: int
    place: int
    fold: Fold

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"fold{self.number + 1}-seed{self.seed}"

    @property
    def scored(self) -> npt.NDArray[np.int64]:
        """The clips that are scored in the end: those that are tested, then those of development, for calibration."""
        return np.concatenate([self.fold.test, self.fold.dev])


def run_finetuned(
    recipe: Recipe,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    work: Path,
    device: str,
    devices: int,
    strategy: Strategy,
    tell: OnProgress,
    overwrite: bool,
) -> Path | None:
    """Fine-tune, train, score and write the result folder.

    Parameters
    ----------
    recipe
        With ``finetuning``.
    corpora
        Corpus → your copy of it; several are joined into one table.
    out, overwrite
        See :func:`subtone.recipes.run`.
    work
        Folder of decoded clips, and in a folder of the recipe's name of the runs. What is finished there is not done
        again.
    device, devices, strategy
        See :func:`subtone.training.end_to_end.launching.launched`.
    tell
        See :data:`subtone.recipes.progress.OnProgress`.

    Returns
    -------
    Path or None
        The result folder; None in a process that only helped to train.
    """
    began = time.perf_counter()
    assert recipe.finetuning is not None
    fabric = launched(recipe.finetuning.fit.precision, device=device, devices=devices, strategy=strategy)
    tell("reading the corpus", 0, 1)
    table = read_corpora(recipe, corpora)
    divide(recipe, corpora, table)  # a leak or a wrong name is told before hours of training
    known = [_Known.of(name) for name in recipe.upstreams]
    _rehearse(recipe)
    clips = _decoded(recipe, table, work, fabric, tell)
    split = divide(recipe, corpora, table.iloc[clips.rows])
    run = _Run(recipe, known, clips.select(positions(split)), split, work / recipe.name, fabric, device, tell)
    answers = run.finish()
    if not fabric.is_global_zero:
        return None
    tell("scoring", 0, 1)
    systems, comparisons = judge(recipe, answers)
    record = {**split.protocol.to_dict(), "description": run.description + taught_on(known, table)}
    return write_results(
        out,
        protocol=record,
        systems=systems,
        comparisons=comparisons,
        slices=for_whom(recipe, answers),
        calibration=calibrations(answers),
        predictions=answers.table(),
        recipe=dump(recipe),
        environment=describe_environment(seeds=recipe.seeds, device=device),
        sections=beside(recipe, corpora, systems),
        extra={
            "recipe": recipe.name,
            "upstreams": [{"name": one.name, "fingerprint": one.fingerprint} for one in known],
            "finetuning": run.told,
            "published": [row.model_dump() for row in recipe.published],
            "left_out": left_out(table),
            "failed": [{"file": Path(f.file).name, "message": f.message} for f in clips.failed],
            "audio_s": round(float(clips.lengths.sum()) / 16_000, 1),
            "seconds": {"all": round(time.perf_counter() - began, 1)},
        },
        overwrite=overwrite,
    )


@dataclass(frozen=True)
class _Known:
    """What is to be known of an upstream all along; the upstream itself is opened where it is needed."""

    name: str
    fingerprint: str
    taught_on: tuple[str, ...]
    has_network: bool

    @classmethod
    def of(cls, name: str) -> _Known:
        loaded = upstreams.load(name)
        return cls(name, loaded.fingerprint(), loaded.taught_on, loaded.module is not None)


def _rehearse(recipe: Recipe) -> None:
    """Try what the run will do with its upstreams; see :func:`subtone.training.end_to_end.finetune.rehearse`."""
    assert recipe.finetuning is not None
    for name in recipe.upstreams:
        one = upstreams.load(name)
        if (recipe.extraction.backend, recipe.extraction.precision) != ("auto", "fp32"):
            open_backend(one, recipe.extraction.backend, recipe.extraction.precision).close()
        rehearse(one, recipe.finetuning)


def _decoded(
    recipe: Recipe, table: pd.DataFrame, work: Path, fabric: Fabric, tell: OnProgress
) -> DecodedClips:
    detector = get_detector(recipe.detector.name, **recipe.detector.options)

    def all_clips() -> DecodedClips:
        return decode(
            clips_of(table),
            work / "clips",
            detector,
            on_progress=lambda state: tell(f"decoding: {state.sentence()}", state.done, state.total),
        )

    done: list[DecodedClips] = []
    together(fabric, lambda: done.append(all_clips()))
    found = done[0] if done else all_clips()  # the other processes find everything there
    if not len(found):
        shown = "; ".join(failure.message for failure in found.failed[:5])
        raise RecipeError(f"no clip could be read: {shown}")
    return found


class _Run:
    """One call of a recipe that fine-tunes, in one process."""

    def __init__(
        self,
        recipe: Recipe,
        known: Sequence[_Known],
        clips: DecodedClips,
        split: Split,
        folder: Path,
        fabric: Fabric,
        device: str,
        tell: OnProgress,
    ) -> None:
        assert recipe.finetuning is not None
        self._recipe, self._known, self._clips, self._split = recipe, known, clips, split
        self._folder, self._fabric, self._device, self._tell = folder, fabric, device, tell
        self._options: FinetuneOptions = recipe.finetuning
        self._downstream = recipe.downstream or FitOptions()
        self._targets = targets(split)
        self._corpora = {str(name) for name in split.table["corpus"].dropna()}
        self._classes = len(split.protocol.classes)
        self._jobs = [
            Job(number, seed, place, fold)
            for place, seed in enumerate(recipe.seeds)
            for number, fold in enumerate(split.folds)
        ]
        self.told: dict[str, Any] = {}

    def finish(self) -> Answers:
        """Do what is not done yet; return what every network says of the clips."""
        seeds = len(self._recipe.seeds)
        shape = (seeds, len(self._targets), self._classes)
        scores: dict[str, Scores] = {name: np.full(shape, np.nan) for name in self._recipe.networks}
        development = {name: room_for_development(self._split, seeds) for name in self._recipe.networks}
        took: list[float] = []
        for at, job in enumerate(self._jobs):
            place = f"{job.name}, {at + 1} of {len(self._jobs)}"
            if took:  # what was found done took no time and tells nothing
                place += f", {duration(sum(took) / len(took) * (len(self._jobs) - at))} left in all"
            began = time.perf_counter()
            if self._job(job, place):
                took.append(time.perf_counter() - began)
            if self._fabric.is_global_zero:
                for name, logits in self._scores_of(job).items():
                    given, tested = probabilities(logits), len(job.fold.test)
                    scores[name][job.place, job.fold.test] = given[:tested]
                    if len(given) > tested:  # runs of an earlier version kept the test clips only
                        development[name][job.number][job.place] = given[tested:]
            self._fabric.barrier()
        frozen = self._folder / "frozen"
        if self._fabric.is_global_zero:
            shutil.rmtree(frozen, ignore_errors=True)
        return Answers.of(self._split, scores, development)

    def _job(self, job: Job, place: str) -> bool:
        """Do a job, unless it is done; return whether there was anything to do."""
        folder = self._folder / job.name
        claim(self._fabric, folder, self._about(job), whole=self._folder)
        if (folder / SCORES).exists():
            together(self._fabric, lambda: _tidy(folder))  # what a run that was killed right then has left
            return False
        tuned = {number: self._finetune(job, number, folder, place) for number in self._tuned_numbers}
        together(self._fabric, lambda: self._measure(job, folder, tuned, place))
        return True

    def _about(self, job: Job) -> dict[str, Any]:
        """What decides a job's scores."""
        fold = job.fold
        rows = np.concatenate([fold.train, fold.dev, fold.test])
        return {
            "upstreams": [one.fingerprint for one in self._known],
            "settings": binding(self._options, self._fabric.world_size),
            "downstream": asdict(self._downstream),
            "networks": {name: one.model_dump(mode="json") for name, one in self._recipe.networks.items()},
            "detector": self._recipe.detector.model_dump(mode="json"),
            "extraction": [self._recipe.extraction.backend, self._recipe.extraction.precision],
            "seed": job.seed,
            "choice or division of clips": self._clips.digest(rows, self._targets),
            "number of clips to train on, develop on and test": [
                len(fold.train),
                len(fold.dev),
                len(fold.test),
            ],
        }

    @property
    def description(self) -> str:
        """What was done, in a line."""
        names = [self._recipe.upstreams[number] for number in self._tuned_numbers]
        how = "no upstream is fine-tuned"
        if names:
            unheard = "clips" if self._split.protocol.speaker_dependent else "speakers"
            how = (
                f"{', '.join(names)} fine-tuned ({self._options.tuning.train}) for each fold anew, without its test "
                f"{unheard}"
            )
        return f"{self._split.protocol.describe()} | {how}"

    @cached_property
    def _tuned_numbers(self) -> list[int]:
        """Which upstreams are to be fine-tuned: those with a network whose tuned weights something stands on."""
        if self._options.tuning.train == "nothing":
            return []
        wanted = {
            number
            for name, network in self._recipe.networks.items()
            if network.weights != "frozen"
            for number in self._recipe.upstreams_of(name)
        }
        return [n for n in sorted(wanted) if self._known[n].has_network]

    def _finetune(self, job: Job, number: int, folder: Path, place: str) -> Finetuned:
        name = self._recipe.upstreams[number]
        fold = FoldClips(self._clips, self._targets, job.fold.train, job.fold.dev, self._classes)
        return finetune(
            self._fabric,
            partial(upstreams.load, name),
            fold,
            folder / f"upstream{number + 1}",
            self._options,
            seed=job.seed,
            on_progress=lambda state: self._tell(
                f"{state.sentence()} · fine-tuning {Path(name).name}, {place}", state.step, state.steps
            ),
        )

    def _measure(self, job: Job, folder: Path, tuned: Mapping[int, Finetuned], place: str) -> None:
        """Train every network on the frames of its upstreams; score the fold's test clips, then development ones."""
        frames = _Frames(self, folder / FRAMES, tuned, place)
        found: dict[str, npt.NDArray[np.float32]] = {}
        networks: dict[str, Any] = {}
        for name, network in self._recipe.networks.items():
            logits, networks[name] = self._train(job, folder, name, network, frames, place)
            found[name] = np.ascontiguousarray(logits[job.scored])
        made = describe_environment(device=self._device)
        about = {
            "made": {name: made[name] for name in ("date", "versions")},  # in this call, or in one before
            "upstreams": {self._recipe.upstreams[n]: told_of(one) for n, one in tuned.items()},
            "networks": networks,
        }
        for number, one in tuned.items():
            averaged = one.load("averaged")
            averaged.taught_on = tuple(sorted({*averaged.taught_on, *self._corpora}))
            target = folder / f"upstream{number + 1}" / "averaged"
            if target.exists():
                sweep_partial(target)
            averaged.save(target)
        write_scores(folder / SCORES, found, about)
        frames.close()
        _tidy(folder)

    def _train(
        self, job: Job, folder: Path, name: str, network: NetworkSection, frames: _Frames, place: str
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        options = self._downstream if network.average else replace(self._downstream, average=1)
        place_of = list(self._recipe.networks).index(name) + 1
        own = folder / f"network{place_of}"
        fabric = alone(options.precision, device=self._device)
        about = {"network": network.model_dump(mode="json"), "options": binding(options, 1), "seed": job.seed}
        claim(fabric, own, about)
        trained = train_downstream(
            fabric,
            [frames.of(network.weights, number) for number in self._recipe.upstreams_of(name)],
            self._targets,
            job.fold.train,
            job.fold.dev,
            job.scored,
            self._classes,
            own,
            DownstreamOptions(network.aggregator, network.fusion),
            options,
            seed=job.seed,
            on_progress=lambda state: self._tell(
                f"{state.sentence()} · training {name}, {place}", state.step, state.steps
            ),
        )
        kept = trained.fitted.best.kept
        return trained.logits, {
            "epochs": trained.fitted.epochs,
            "kept": [one.epoch + 1 for one in kept],
            "dev_ua": kept[0].ua if len(job.fold.dev) else None,
            "seconds": round(trained.fitted.seconds, 1),
        }

    def _scores_of(self, job: Job) -> Mapping[str, npt.NDArray[np.float32]]:
        logits, self.told[job.name] = read_scores(self._folder / job.name / SCORES)
        return logits

    def encode(
        self, weights: Weights, number: int, path: Path, tuned: Mapping[int, Finetuned], place: str
    ) -> ClipFrames:
        """Encode all clips with an upstream: as it was, or as a fold has it."""
        name = self._recipe.upstreams[number]
        kept = tuned.get(number)
        upstream = upstreams.load(name) if weights == "frozen" or kept is None else kept.load(weights)
        upstream.to(self._device)
        return encode_frames(
            upstream,
            self._clips,
            path,
            self._options.layers,
            backend=self._recipe.extraction.backend,
            precision=self._recipe.extraction.precision,
            on_clip=lambda done, of: self._tell(
                f"frames of {Path(name).name}, {weights} · {place}", done, of
            ),
        )

    @property
    def frozen_folder(self) -> Path:
        """Of the frames of upstreams as they were, which all folds share."""
        return self._folder / "frozen"

    @cached_property
    def frozen_frames(self) -> dict[int, ClipFrames]:
        """The frames of upstreams as they were, by number, as far as they were encoded."""
        return {}


class _Frames:
    """The frames that the networks of a job ask for, each encoded once."""

    def __init__(self, run: _Run, folder: Path, tuned: Mapping[int, Finetuned], place: str) -> None:
        self._run, self._folder, self._tuned, self._place = run, folder, tuned, place
        self._own: dict[tuple[str, int], ClipFrames] = {}

    def of(self, weights: Weights, number: int) -> ClipFrames:
        if weights == "frozen" or number not in self._tuned:
            frozen = self._run.frozen_frames
            if number not in frozen:
                path = self._run.frozen_folder / f"upstream{number + 1}.frames"
                frozen[number] = self._run.encode("frozen", number, path, {}, self._place)
            return frozen[number]
        key = (weights, number)
        if key not in self._own:
            path = self._folder / f"{weights}{number + 1}.frames"
            self._own[key] = self._run.encode(weights, number, path, self._tuned, self._place)
        return self._own[key]

    def close(self) -> None:
        self._own.clear()


def _tidy(folder: Path) -> None:
    """Leave of a finished job its curves, TensorBoard's events, and the averaged upstreams."""
    shutil.rmtree(folder / FRAMES, ignore_errors=True)
    for run in folder.iterdir():
        for part in (CHECKPOINTS, EPOCHS):
            shutil.rmtree(run / part, ignore_errors=True)
