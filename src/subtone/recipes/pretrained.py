"""Run a recipe that pre-trains its own upstreams: one a variant, fold and repeat, each then frozen and measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from subtone import upstreams
from subtone.audio import expand
from subtone.corpora.several import left_out, read_several
from subtone.errors import RecipeError
from subtone.evaluation import Comparison, Evaluation, describe_environment, write_results
from subtone.evaluation.calibrated import Calibration
from subtone.evaluation.slices import Slices
from subtone.extraction import PooledFeatures, clips_of, extract
from subtone.pretraining.frames import FrameCorpus, prepare
from subtone.pretraining.intensity import ReadyScores, open_intensity
from subtone.pretraining.run import pretrain
from subtone.protocols import Split
from subtone.recipes.data import divide, read_corpora, section_for, targets
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
from subtone.recipes.pretraining import PretrainingSection
from subtone.recipes.progress import OnProgress
from subtone.recipes.schema import Recipe
from subtone.speech import get_detector
from subtone.training import train_frozen
from subtone.upstreams.filterbank_network import FilterBankNetworkUpstream
from subtone.upstreams.stacked import StackedUpstream

#: Between a corpus and a system, where a run has several corpora.
ON = ": "


@dataclass(frozen=True)
class Downstream:
    """One corpus on which the upstreams are measured.

    Parameters
    ----------
    name, path
        As given.
    everyone
        All its clips, whatever their emotion: they are pre-trained on.
    split
        Its clips of the recipe's classes, divided.
    """

    name: str
    path: str | Path
    everyone: pd.DataFrame
    split: Split

    def files_of_test(self, fold: int) -> set[str]:
        """Files in which a test speaker of a fold is heard; the test clips' own if speakers are unknown or shared."""
        tested = self.split.table.iloc[self.split.folds[fold].test]
        speakers = set() if self.split.protocol.speaker_dependent else set(tested["speaker"].dropna())
        heard = self.everyone["speaker"].isin(speakers).to_numpy(bool)
        files = self.everyone.index.get_level_values("file")
        return {str(f) for f in files[heard]} | {str(f) for f in tested.index.get_level_values("file")}


@dataclass(frozen=True)
class Job:
    """One pre-training run: ``fold`` is the one whose test speakers it must not hear, None for no one left out."""

    variant: str
    fold: int | None
    repeat: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        fold = "all" if self.fold is None else f"fold{self.fold + 1}"
        return f"{self.variant}-{fold}-run{self.repeat + 1}"


def run_pretrained(
    recipe: Recipe,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    work: Path,
    device: str,
    tell: OnProgress,
    overwrite: bool,
) -> Path:
    """Pre-train every variant at the same budget, measure all of them on every corpus, write the result folder.

    Parameters
    ----------
    recipe
        With ``pretraining``.
    corpora
        Corpus → your copy of it. Each is divided and measured for itself; all are pre-trained on together.
    out, overwrite
        See :func:`subtone.recipes.run`.
    work
        Folder of frames, and in a folder of the recipe's name pre-training runs and features. What is finished there
        is not done again.
    device
        Where upstreams are trained and compute.
    tell
        See :data:`subtone.recipes.progress.OnProgress`.

    Returns
    -------
    Path
        The result folder.
    """
    plan = recipe.pretraining
    assert plan is not None
    began = time.perf_counter()
    tell("reading the corpora", 0, 1)
    downstreams = [_downstream(recipe, name, path) for name, path in corpora.items()]
    num_folds = _equal_folds(plan, downstreams)
    frames = _frames(plan, downstreams, work / "frames", tell)
    unreadable = {failure.file for failure in frames.failed}
    if unreadable:  # folds of what is left, before anything is trained on them
        downstreams = [_downstream(recipe, one.name, one.path, unreadable) for one in downstreams]
        num_folds = _equal_folds(plan, downstreams)
    jobs, own = _jobs(plan, num_folds), work / recipe.name
    runs: dict[str, Any] = {}
    for i, job in enumerate(jobs):
        heard = frames if job.fold is None else frames.without(_unheard(downstreams, job.fold, frames))
        runs[job.name] = _pretrain(plan, job, heard, own / "runs" / job.name, device, tell, (i, len(jobs)))
    trained = time.perf_counter()
    answers = [_answers(recipe, one, jobs, own, device, tell) for one in downstreams]
    tell("scoring", 0, 1)
    systems: dict[str, Evaluation] = {}
    comparisons: list[Comparison] = []
    slices: dict[str, Slices] = {}
    calibration: dict[str, Calibration] = {}
    for one, given in zip(downstreams, answers, strict=True):
        before = f"{one.name}{ON}" if len(downstreams) > 1 else ""
        evaluations, pairs = judge(recipe, given)
        systems |= {before + name: evaluation for name, evaluation in evaluations.items()}
        slices |= {before + name: found for name, found in for_whom(recipe, given).items()}
        calibration |= {before + name: found for name, found in calibrations(given).items()}
        comparisons += [replace(pair, a=before + pair.a, b=before + pair.b) for pair in pairs]
    predictions = pd.concat(
        [given.table().assign(corpus=one.name) for one, given in zip(downstreams, answers, strict=True)]
    )
    ended = time.perf_counter()
    return write_results(
        out,
        protocol=_protocol(plan, downstreams),
        systems=systems,
        comparisons=comparisons,
        slices=slices,
        calibration=calibration,
        predictions=predictions,
        recipe=dump(recipe),
        environment=describe_environment(seeds=recipe.seeds, device=device),
        extra={
            "recipe": recipe.name,
            "pretraining": {
                "hours": round(frames.hours, 3),
                "frames": frames.num_frames,
                "seeds": sorted({job.seed for job in jobs}),
                "runs": runs,
            },
            "left_out": _left_out(downstreams),
            "failed": [{"file": Path(f.file).name, "message": f.message} for f in frames.failed],
            "seconds": {"all": round(ended - began, 1), "downstream": round(ended - trained, 1)},
        },
        overwrite=overwrite,
    )


def _downstream(
    recipe: Recipe, name: str, path: str | Path, unreadable: set[str] | None = None
) -> Downstream:
    corpora = {name: path}
    everyone = read_several(corpora, **section_for(recipe, corpora).options)
    table = read_corpora(recipe, corpora)
    if unreadable:
        table = table[~table.index.get_level_values("file").isin(unreadable)]
    return Downstream(name, path, everyone, divide(recipe, corpora, table))


def _equal_folds(plan: PretrainingSection, downstreams: Sequence[Downstream]) -> int:
    """Return the number of folds; fold ``i`` of every corpus is kept from the same upstreams."""
    counts = {one.name: len(one.split.folds) for one in downstreams}
    if plan.leave_out == "test-speakers" and len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise RecipeError(
            f"the corpora have different numbers of folds ({told}), but one upstream a fold is pre-trained for all of "
            "them; pass --set protocol.folds=group-k-fold, or --set pretraining.leave_out=nothing, or one corpus a run"
        )
    return max(counts.values())


def _frames(
    plan: PretrainingSection, downstreams: Sequence[Downstream], folder: Path, tell: OnProgress
) -> FrameCorpus:
    """Frames of all that is pre-trained on: the corpora's clips and the recipe's further audio."""
    parts = [one.everyone.index for one in downstreams]
    more = expand(plan.audio) if plan.audio else []
    if more:
        whole = [(str(file), pd.Timedelta(0), pd.NaT) for file in more]
        parts.append(pd.MultiIndex.from_tuples(whole, names=["file", "start", "end"]))
    index = parts[0].append(parts[1:]) if len(parts) > 1 else parts[0]
    return prepare(
        index,
        folder,
        intensity=open_intensity(plan.intensity) if plan.needs_intensity else None,
        on_progress=lambda state: tell(f"frames: {state.sentence()}", state.done, state.total),
        on_wait=lambda sentence: tell(sentence, 0, 1),
    )


def _unheard(downstreams: Sequence[Downstream], fold: int, frames: FrameCorpus) -> set[str]:
    # Of a file in several stretches, those that could be read are there, and must not be heard.
    absent = {failure.file for failure in frames.failed if failure.file not in frames}
    return set().union(*(one.files_of_test(fold) for one in downstreams)) - absent


def _jobs(plan: PretrainingSection, num_folds: int) -> list[Job]:
    folds: list[int | None] = list(range(num_folds)) if plan.leave_out == "test-speakers" else [None]
    return [
        Job(variant, fold, repeat, plan.seed + (fold or 0) * plan.repeats + repeat)
        for fold in folds
        for repeat in range(plan.repeats)
        for variant in plan.variants
    ]


def _pretrain(
    plan: PretrainingSection,
    job: Job,
    frames: FrameCorpus,
    folder: Path,
    device: str,
    tell: OnProgress,
    place: tuple[int, int],
) -> dict[str, Any]:
    """Pre-train one upstream, or find it finished; return what the result says of it."""
    number, of = place
    run = pretrain(
        plan.architecture,
        frames,
        folder,
        options=replace(
            plan.options(job.variant, job.seed), accelerator="cpu" if device == "cpu" else "cuda"
        ),
        on_progress=lambda state: tell(
            f"pre-training {job.name}, {number + 1} of {of}: {state.sentence()}", state.step, state.steps
        ),
    )
    return {"seed": job.seed, **run.result}


def _answers(
    recipe: Recipe, one: Downstream, jobs: Sequence[Job], own: Path, device: str, tell: OnProgress
) -> Answers:
    """Measure all upstreams on one corpus."""
    plan = recipe.pretraining
    assert plan is not None
    split, wanted = one.split, targets(one.split)
    classes = len(split.protocol.classes)
    networks = [_network(own / "runs" / job.name / "upstream", device) for job in jobs]
    features = _features(recipe, one, StackedUpstream(networks), own / "features" / one.name, tell)
    layers = networks[0].num_layers
    rows = len(recipe.seeds) * plan.repeats
    scores: dict[str, Scores] = {
        name: np.full((rows, len(split.table), classes), np.nan) for name in recipe.system_names
    }
    development = {name: room_for_development(split, rows) for name in recipe.system_names}
    for system_name, system in recipe.systems.items():
        x = features.matrix(system.statistics)  # (clips, networks * layers, dim)
        for i, job in enumerate(jobs):
            tell(f"{one.name}: training on {job.name}", i, len(jobs))
            first = job.fold or 0
            folds = split.folds if job.fold is None else split.folds[first : first + 1]
            held = np.ascontiguousarray(x[:, i * layers : (i + 1) * layers])
            fitted = train_frozen(held, wanted, folds, recipe.seeds, classes, recipe.training.options)
            tested = np.concatenate([fold.test for fold in folds])
            at = slice(job.repeat * len(recipe.seeds), (job.repeat + 1) * len(recipe.seeds))
            name = recipe.named(job.variant, system_name)
            scores[name][at, tested] = probabilities(fitted.logits[:, tested])
            for number, logits in enumerate(fitted.dev_by_fold, first):
                development[name][number][at] = probabilities(logits)
    heard = np.isfinite(next(iter(scores.values()))).all(axis=(0, 2)).astype(bool)  # (clips,)
    kept = {name: given[:, heard] for name, given in scores.items()}
    return Answers(split, heard, kept, development)


def _network(folder: Path, device: str) -> FilterBankNetworkUpstream:
    network = upstreams.load(folder, device=device)
    assert isinstance(network, FilterBankNetworkUpstream)
    return network


def _features(
    recipe: Recipe, one: Downstream, encoder: StackedUpstream, store: Path, tell: OnProgress
) -> PooledFeatures:
    found = extract(
        clips_of(one.split.table),
        encoder,
        get_detector(recipe.detector.name, **recipe.detector.options),
        statistics=recipe.statistics,
        store=store,
        options=recipe.extraction.options,
        on_progress=lambda state: tell(f"{one.name}: {state.sentence()}", state.done, state.total),
    )
    if found.failed:  # it could be read when the frames were made, and the folds hold it by now
        message = found.failed[0].message
        raise RecipeError(f"{message}; it could be read before: see to it and run the same command again")
    return found.features


def _protocol(plan: PretrainingSection, downstreams: Sequence[Downstream]) -> dict[str, Any]:
    """What the result says was done, of one corpus or of several."""
    what = f"{plan.architecture} ({plan.size}) pre-trained"
    if plan.leave_out == "test-speakers":
        heard = f"{what} for each fold anew, without its test speakers"
        if any(one.split.protocol.speaker_dependent for one in downstreams):
            heard = f"{what} for each fold anew, without its test clips, TEST SPEAKERS INCLUDED"
    else:
        heard = f"{what} once on all speakers, without labels, TEST SPEAKERS INCLUDED"
    if plan.needs_intensity:
        scorer = open_intensity(plan.intensity)
        trained_on = set() if isinstance(scorer, ReadyScores) else set(scorer.trained_on)
        taught = sorted({one.name for one in downstreams} & trained_on)
        if isinstance(scorer, ReadyScores):
            heard += "; the intensities are ready scores, from who knows what speakers"
        elif taught:
            heard += (
                f"; the intensities are of a model that was taught on {', '.join(taught)} with levels, TEST SPEAKERS "
                "INCLUDED"
            )
    runs = f"{plan.repeats} pre-training run{'s' if plan.repeats > 1 else ''} a variant and fold"
    told = {one.name: one.split.protocol for one in downstreams}
    description = " | ".join(protocol.describe() for protocol in told.values())
    record = (
        next(iter(told.values())).to_dict()
        if len(told) == 1
        else {
            "corpora": {name: protocol.to_dict() for name, protocol in told.items()},
            "clips": sum(protocol.clips for protocol in told.values()),
        }
    )
    return {**record, "description": f"{description} | {heard}; {runs}"}


def _left_out(downstreams: Sequence[Downstream]) -> dict[str, list[dict[str, str]]]:
    each = [left_out(one.everyone) for one in downstreams]
    return {kind: [entry for record in each for entry in record.get(kind, [])] for kind in each[0]}
