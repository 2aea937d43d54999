"""Subtone's own loop, called as its recipes call it; it alone writes checkpoints, outside the seconds of an epoch."""

from __future__ import annotations

import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor
from tuning import FAR, Job, Told, mean_loss

from subtone import upstreams
from subtone.training.end_to_end import fit as loop
from subtone.training.end_to_end.clips import DecodedClips
from subtone.training.end_to_end.finetune import FoldClips, finetune, whole_batch
from subtone.training.end_to_end.launching import launched
from subtone.training.end_to_end.network import Downstream, Tuned, shape_of
from subtone.training.end_to_end.options import FinetuneOptions, FitOptions
from subtone.upstreams import Upstream


class Way:
    """One training a process."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Read the encoder."""
        torch.set_num_threads(threads)
        self._opened = partial(upstreams.load, weights)
        return {name: version(name) for name in ("subtone", "torch", "transformers")}

    def train(self, job: str, before: bool) -> dict[str, Any]:
        """Train, and tell."""
        given, told = Job.read(job), Told()
        fold, options = _fold(given), _options(given)
        downstream = given_downstream(self._opened(), given)
        result = {"loss_before": self._loss(self._opened(), downstream, fold, given)} if before else {}
        loop._Fit = _watched(told, fold.clips.lengths)  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as name:
            with told.whole() as found:
                fabric = launched(options.fit.precision)
                tuned = finetune(fabric, self._opened, fold, Path(name), options, seed=given.seed)
            state = tuned.fitted.best.first()
            downstream.load_state_dict(
                {k.removeprefix("downstream/"): v for k, v in state.items() if k.startswith("downstream/")}
            )
            result["loss_after"] = self._loss(tuned.load("best"), downstream, fold, given)
        return result | found

    @staticmethod
    def _loss(upstream: Upstream, downstream: Downstream, fold: FoldClips, job: Job) -> float:
        network, rows = Tuned(upstream, downstream, "last"), iter(range(len(fold.targets)))

        def score(_: npt.NDArray[np.float32]) -> Tensor:
            logits: Tensor = network(whole_batch(fold, np.array([next(rows)])))
            return logits

        return mean_loss(network, score, job)


def given_downstream(upstream: Upstream, job: Job) -> Downstream:
    """Return mean and linear layer as :func:`finetune` makes them of the seed, and see that they are everybody's."""
    torch.manual_seed(job.seed)
    made = Downstream([shape_of(upstream, "last")], job.classes)
    weight = made.linear.weight.detach().clone()
    job.start(made.linear)
    if not torch.equal(weight, made.linear.weight):
        raise RuntimeError("Subtone's linear layer does not start from the weights that the others get")
    return made


def _options(job: Job) -> FinetuneOptions:
    return FinetuneOptions(
        fit=FitOptions(
            epochs=job.epochs,
            average=1,
            learning_rate=job.learning_rate,
            weight_decay=0.0,
            warmup_share=0.0,
            batch_s=job.batch_s,
            clip_norm=FAR,
            class_weights="none",
            dropout=0.0,
            precision=job.precision,  # type: ignore[arg-type]
        ),
        upstream_learning_rate=job.learning_rate,
        crop_s=None,
    )


def _fold(job: Job) -> FoldClips:
    paths = tuple(map(Path, job.clips))
    rows = np.arange(len(paths))
    lengths = []
    for path in paths:
        with safe_open(path, framework="np") as file:
            lengths.append(file.get_slice("wave").get_shape()[0])
    clips = DecodedClips(paths, np.array(lengths, np.int64), (), rows)
    return FoldClips(clips, np.array(job.targets), rows, rows[:0], job.classes)


def _watched(told: Told, lengths: npt.NDArray[np.int64]) -> type[loop._Fit]:
    """Return the loop, with an eye on where epochs begin and end and on what each update loses."""

    class Watched(loop._Fit):
        def _epoch(self, *arguments: Any) -> None:
            told.begin()
            super()._epoch(*arguments)

        def _step(self, batches: Any) -> Any:
            batch = self._task.plan.batches(self._state.epoch)[self._state.in_epoch]
            done = super()._step(batches)
            padded = len(batch) * max(int(lengths[piece.clip]) for piece in batch)
            told.update(done.loss / done.weight, int(done.clips), padded)
            return done

        def _close_epoch(self, *arguments: Any) -> None:
            told.end()
            super()._close_epoch(*arguments)

    return Watched
