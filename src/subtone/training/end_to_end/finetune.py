"""Fine-tuning of an upstream on the training speakers of one fold: a run that resumes, and its averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from subtone.training.end_to_end.augmentation import Augmenter
from subtone.training.end_to_end.clips import DecodedClips
from subtone.training.end_to_end.fit import Fitted, fit, memory_told
from subtone.training.end_to_end.folder import claim
from subtone.training.end_to_end.logs import OnProgress
from subtone.training.end_to_end.network import Batch, Downstream, Tuned, shape_of
from subtone.training.end_to_end.options import FinetuneOptions, binding
from subtone.training.end_to_end.plan import Piece, Plan, ordered
from subtone.training.end_to_end.spec_masking import SpecMasker
from subtone.training.end_to_end.state import whole
from subtone.training.end_to_end.task import ParameterGroup
from subtone.training.end_to_end.tuning import (
    freeze_unused,
    load_plain,
    plain_state,
    prepare,
    rate_groups,
    train_mode,
)
from subtone.training.end_to_end.weighing import class_weights, unweighted
from subtone.upstreams import Upstream
from subtone.upstreams.base import SAMPLE_RATE_HZ

Rows = npt.NDArray[np.int64]
Opened = Callable[[], Upstream]
"""Opens an upstream, the same and fresh each time."""
_UPSTREAM, _DOWNSTREAM = "upstream/", "downstream/"


@dataclass(frozen=True)
class FoldClips:
    """The clips of a fold that training may hear: never those of its test speakers.

    Parameters
    ----------
    clips
        Decoded.
    targets
        ``(clips,)`` class numbers; those of test clips are not looked at.
    train, dev
        Rows.
    classes
        Number of classes.
    """

    clips: DecodedClips
    targets: Rows
    train: Rows
    dev: Rows
    classes: int


@dataclass(frozen=True)
class Finetuned:
    """An upstream that was fine-tuned.

    Parameters
    ----------
    opened
        Opens the upstream as it was before.
    fitted
        The kept epochs and what is told of the training.
    dev_ua
        Development UA of ``"best"``, the best epoch, and ``"averaged"``, the mean of the best few; NaN without
        development clips.
    """

    opened: Opened
    fitted: Fitted
    dev_ua: Mapping[str, float]

    def load(self, which: Literal["best", "averaged"]) -> Upstream:
        """Return the upstream with the weights of the single best epoch, or with the averaged ones."""
        state = self.fitted.best.first() if which == "best" else self.fitted.best.mean()
        tuned = self.opened()
        load_plain(tuned, _part(state, _UPSTREAM))
        return tuned


def finetune(
    fabric: Fabric,
    opened: Opened,
    fold: FoldClips,
    folder: Path,
    options: FinetuneOptions,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
) -> Finetuned:
    """Fine-tune an upstream, the mean of its frames and one linear layer on top.

    The same call goes on where a run was broken off, at whatever moment, and on a CPU ends in the same weights, to the
    bit. All processes of ``fabric`` make it together; the batches of an update are shared out among them.

    Parameters
    ----------
    fabric
        Launched.
    opened
        Opens the upstream, e.g. ``partial(subtone.upstreams.load, "facebook/wav2vec2-base")``. Called again where a
        fresh one is needed, so that no more than one is in memory at a time.
    fold
        What is trained on, and by what epochs are chosen.
    folder
        Of the run; must be new, or hold a run with the same settings and clips.
    options
        How.
    seed
        Of first weights, order, crops, masks, noise and dropout.
    on_progress
        Told twice a second, in the first process.

    Returns
    -------
    Finetuned

    Raises
    ------
    TrainingError
        If the folder holds another run, a loss is no number, or memory runs out.

    Notes
    -----
    Morais et al. 2022 (arXiv 2202.03896): the whole upstream, a model a fold, the mean of the five best checkpoints.
    """
    upstream = opened()
    claim(
        fabric,
        folder,
        {
            "upstream": upstream.fingerprint(),
            "settings": binding(options, fabric.world_size),
            "seed": seed,
            "clips": fold.clips.digest(np.concatenate([fold.train, fold.dev]), fold.targets),
            "train": len(fold.train),
            "dev": len(fold.dev),
        },
    )
    cuda = [fabric.device] if fabric.device.type == "cuda" else []
    with memory_told(folder, options.fit), torch.random.fork_rng(devices=cuda):
        upstream.to(fabric.device)
        task = _Task(upstream, fold, options, seed, fabric.world_size)
        fitted = fit(
            fabric,
            task,
            folder,
            options.fit,
            class_weights=class_weights(fold.targets[fold.train], fold.classes, options.fit.class_weights),
            seed=seed,
            checkpoint_every=options.checkpoint_every,
            on_progress=on_progress,
        )
        task.close()
        del task, upstream
        averaged = float("nan")
        best = fitted.best.kept[0].ua if len(fold.dev) else float("nan")
        if fabric.is_global_zero and len(fold.dev):
            averaged = best
            if len(fitted.best.kept) > 1:
                averaged = _dev_ua(fabric, opened(), fold, options, fitted.best.mean())
    return Finetuned(opened, fitted, {"best": best, "averaged": averaged})


def rehearse(upstream: Upstream, options: FinetuneOptions) -> None:
    """Try on a second of noise what fine-tuning does, so that what cannot be is told before hours of it.

    Parameters
    ----------
    upstream
        Of no further use: what is frozen and injected stays so.
    options
        How it is to be tuned.

    Raises
    ------
    SubtoneError
        If the upstream cannot be tuned so, its frames cannot be masked so, or what noise, reverb and the like need
        is not there.
    """
    if options.augmentation.active:
        Augmenter(options.augmentation)
    if upstream.module is None:
        return
    prepare(upstream, options.tuning)
    train_mode(upstream, options.tuning)
    with torch.random.fork_rng(devices=[]):
        noise = torch.randn(SAMPLE_RATE_HZ, generator=torch.Generator().manual_seed(0))
        masker = SpecMasker(upstream, options.masking)
        masker.plan([upstream.grid.num_frames(len(noise))], [0])
        upstream.encode([noise])
        masker.close()


class _Task:
    """An upstream with its linear layer, and the waves that it learns from; see :class:`~…task.Task`."""

    def __init__(
        self, upstream: Upstream, fold: FoldClips, options: FinetuneOptions, seed: int, processes: int
    ) -> None:
        self._upstream, self._fold, self._options = upstream, fold, options
        self._augmenter = Augmenter(options.augmentation) if options.augmentation.active else None
        prepare(upstream, options.tuning)
        downstream = _linear(upstream, fold.classes, options, seed)
        masking = options.masking
        hides = masking.time_share > 0 or masking.feature_share > 0
        self._masker = SpecMasker(upstream, masking) if hides else None
        self.network: nn.Module = Tuned(
            upstream, downstream.to(upstream.device), options.layers, self._masker
        )
        self._downstream = downstream
        self.plan = Plan(
            fold.train,
            fold.clips.lengths,
            budget=round(options.fit.batch_s * SAMPLE_RATE_HZ),
            batches_per_step=options.fit.accumulate * processes,
            epochs=options.fit.epochs,
            crop=self._crop(),
            seed=seed,
        )
        self.dev = ordered(fold.dev, fold.clips.lengths, self.plan.budget)
        self._freeze_unused()

    def _crop(self) -> int | None:
        """Longest stretch in samples: what is asked for, and what the upstream can see at once, slowed down or not."""
        options, most = self._options, self._upstream.one_pass_samples
        crop = None if options.crop_s is None else round(options.crop_s * SAMPLE_RATE_HZ)
        if most is None:
            return crop
        slowest = options.augmentation.speed_range[0] if options.augmentation.speed > 0 else 1.0
        most = int(most * min(1.0, slowest))
        return most if crop is None else min(crop, most)

    def _freeze_unused(self) -> None:
        """Freeze what no gradient reaches: sharing it out over processes, torch would wait for its gradient."""
        shortest = int(self._fold.train[np.argmin(self._fold.clips.lengths[self._fold.train])])
        batch = self.read_whole(np.array([shortest], np.int64))
        if self._masker is not None:  # what stands in for hidden frames counts as used
            batch = Batch(batch.inputs, batch.speech, batch.targets, (0,), batch.seconds)
        self.train_mode()  # which is when frames are hidden
        freeze_unused(self.network, lambda: self.network(batch.to(self._upstream.device)).sum())

    def read(self, pieces: Sequence[Piece]) -> Batch:
        waves, speech = [], []
        for piece in pieces:
            wave, spoken = self._fold.clips.read(piece.clip, piece.start, piece.start + piece.length)
            if self._augmenter is not None:
                changed = self._augmenter(wave, piece.seed)
                wave, spoken = changed.wave, changed.segments(spoken)
            waves.append(torch.from_numpy(wave))
            speech.append(spoken)
        targets = torch.from_numpy(self._fold.targets[[piece.clip for piece in pieces]])
        seconds = sum(len(wave) for wave in waves) / SAMPLE_RATE_HZ
        return Batch(waves, speech, targets, [piece.seed for piece in pieces], seconds)

    def read_whole(self, rows: Rows) -> Batch:
        return whole_batch(self._fold, rows)

    def groups(self) -> list[ParameterGroup]:
        rate, decay = self._options.upstream_learning_rate, self._options.tuning.layer_decay
        groups: list[ParameterGroup] = [
            (rate * scale, [parameter for _, parameter in named])
            for scale, named in rate_groups(self._upstream, decay)
            if named
        ]
        return [*groups, (self._options.fit.learning_rate, list(self._downstream.parameters()))]

    def train_mode(self) -> None:
        self.network.train()
        train_mode(self._upstream, self._options.tuning)

    def weights(self) -> dict[str, Tensor]:
        state = {_UPSTREAM + name: value for name, value in plain_state(self._upstream).items()}
        return state | {_DOWNSTREAM + name: whole(v) for name, v in self._downstream.state_dict().items()}

    def close(self) -> None:
        if self._masker is not None:
            self._masker.close()


def whole_batch(fold: FoldClips, rows: Rows) -> Batch:
    """Read clips as they are."""
    read = [fold.clips.read(int(row)) for row in rows]
    waves = [torch.from_numpy(wave) for wave, _ in read]
    seconds = sum(len(wave) for wave in waves) / SAMPLE_RATE_HZ
    return Batch(waves, [speech for _, speech in read], torch.from_numpy(fold.targets[rows]), (), seconds)


def _linear(upstream: Upstream, classes: int, options: FinetuneOptions, seed: int) -> Downstream:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Downstream([shape_of(upstream, options.layers)], classes, dropout=options.fit.dropout)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


@torch.no_grad()
def _dev_ua(
    fabric: Fabric,
    upstream: Upstream,
    fold: FoldClips,
    options: FinetuneOptions,
    state: Mapping[str, Tensor],
) -> float:
    """Return the development UA of weights that no epoch had."""
    load_plain(upstream, _part(state, _UPSTREAM))
    downstream = _linear(upstream, fold.classes, options, seed=0)
    downstream.load_state_dict(_part(state, _DOWNSTREAM))
    upstream.to(fabric.device)
    network = Tuned(upstream, downstream.to(fabric.device), options.layers).eval()
    budget = round(options.fit.batch_s * SAMPLE_RATE_HZ)
    answers = np.zeros(len(fold.targets), np.int64)
    with fabric.autocast():  # as epochs are judged
        for rows in ordered(fold.dev, fold.clips.lengths, budget):
            answers[rows] = network(whole_batch(fold, rows).to(fabric.device)).argmax(-1).cpu().numpy()
    return unweighted(fold.targets[fold.dev], answers[fold.dev], fold.classes)
