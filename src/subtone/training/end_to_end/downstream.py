"""A downstream on the frames of fixed upstreams: trained on one fold, its best epochs averaged, its clips scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from subtone.aggregation import AggregatorOptions
from subtone.training.end_to_end.averaging import Best
from subtone.training.end_to_end.fit import Fitted, fit
from subtone.training.end_to_end.frames import ClipFrames
from subtone.training.end_to_end.logs import FitProgress
from subtone.training.end_to_end.network import Batch, Downstream, Fusion, Scorer
from subtone.training.end_to_end.options import FitOptions
from subtone.training.end_to_end.plan import Piece, Plan, ordered
from subtone.training.end_to_end.state import whole
from subtone.training.end_to_end.task import ParameterGroup
from subtone.training.end_to_end.weighing import class_weights

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DownstreamOptions:
    """What one downstream is.

    Parameters
    ----------
    aggregator
        What makes one vector of the frames.
    fusion
        How several upstreams are joined; None with one.
    """

    aggregator: AggregatorOptions
    fusion: Fusion | None = None


@dataclass(frozen=True)
class Trained:
    """A downstream that was trained, and what it says.

    Parameters
    ----------
    logits
        ``(clips, classes)`` float32 of the rows asked for; NaN elsewhere.
    fitted
        What is told of the training.
    network
        With the weights that were chosen, in evaluation mode.
    """

    logits: npt.NDArray[np.float32]
    fitted: Fitted
    network: Downstream


def train_downstream(
    fabric: Fabric,
    frames: Sequence[ClipFrames],
    targets: Rows,
    train: Rows,
    dev: Rows,
    score: Rows,
    classes: int,
    folder: Path,
    what: DownstreamOptions,
    options: FitOptions,
    *,
    seed: int,
    on_progress: Callable[[FitProgress], None] | None = None,
) -> Trained:
    """Train a downstream on frames that stay as they are.

    Frames are standardised by those of the training clips. Batches hold frames of ``options.batch_s`` seconds.

    Parameters
    ----------
    fabric
        Launched, of one process.
    frames
        Of each upstream, for all clips.
    targets
        ``(clips,)`` class numbers; those of the clips that are scored are not looked at.
    train, dev, score
        Rows to train on, to choose epochs by, and to score in the end.
    classes
        Number of classes.
    folder
        Of the run, new or broken off.
    what, options
        The network, and how its weights are found.
    seed
        Of first weights, order and dropout.
    on_progress
        See :func:`subtone.training.end_to_end.fit.fit`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Downstream(
            [one.shape for one in frames], classes, what.aggregator, what.fusion, options.dropout
        )
    for scale, one in zip(network.scales, frames, strict=True):
        scale.fit(*one.moments(train))  # type: ignore[operator]
    task = _Task(network, frames, targets, train, dev, options, seed)
    with torch.random.fork_rng(devices=[]):
        fitted = fit(
            fabric,
            task,
            folder,
            options,
            class_weights=class_weights(targets[train], classes, options.class_weights),
            seed=seed,
            on_progress=on_progress,
        )
    network.load_state_dict(_chosen(fitted.best))
    logits = np.full((len(targets), classes), np.nan, np.float32)
    network.cpu().eval()
    with torch.no_grad():
        for rows in ordered(score, frames[0].lengths, task.plan.budget):
            logits[rows] = network([one.read(rows) for one in frames]).numpy()
    return Trained(logits, fitted, network)


def _chosen(best: Best) -> Mapping[str, Tensor]:
    return best.mean() if len(best.kept) > 1 else best.first()


class _Task:
    """A downstream, and the frames that it learns from; see :class:`~subtone.training.end_to_end.task.Task`."""

    def __init__(
        self,
        downstream: Downstream,
        frames: Sequence[ClipFrames],
        targets: Rows,
        train: Rows,
        dev: Rows,
        options: FitOptions,
        seed: int,
    ) -> None:
        self._downstream, self._frames, self._targets = downstream, frames, targets
        self.network: nn.Module = Scorer(downstream)
        grid = frames[0].shape.grid
        self._hop_s = grid.hop / grid.sample_rate_hz
        self.plan = Plan(
            train,
            frames[0].lengths,
            budget=round(options.batch_s / self._hop_s),
            batches_per_step=options.accumulate,
            epochs=options.epochs,
            seed=seed,
        )
        self.dev = ordered(dev, frames[0].lengths, self.plan.budget)
        self._rate = options.learning_rate

    def read(self, pieces: Sequence[Piece]) -> Batch:
        return self.read_whole(np.array([piece.clip for piece in pieces], np.int64))

    def read_whole(self, rows: Rows) -> Batch:
        seconds = float(self._frames[0].lengths[rows].sum()) * self._hop_s
        streams = [one.read(rows) for one in self._frames]
        return Batch(streams, (), torch.from_numpy(self._targets[rows]), (), seconds)

    def groups(self) -> list[ParameterGroup]:
        return [(self._rate, [p for p in self._downstream.parameters() if p.requires_grad])]

    def train_mode(self) -> None:
        self.network.train()

    def weights(self) -> dict[str, Tensor]:
        return {name: whole(value) for name, value in self._downstream.state_dict().items()}
