"""Train a network on the segments of a fold's training clips, and score its test clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from subtone.training.end_to_end.fit import Fitted, fit
from subtone.training.end_to_end.logs import FitProgress
from subtone.training.end_to_end.network import Batch
from subtone.training.end_to_end.options import FitOptions
from subtone.training.end_to_end.plan import Piece, Plan, ordered
from subtone.training.end_to_end.task import ParameterGroup
from subtone.training.end_to_end.weighing import class_weights
from subtone.training.segments.image_cnn import ImageCNN
from subtone.training.segments.network import SegmentNetwork
from subtone.training.segments.source import InParts, Source
from subtone.training.segments.system import SegmentSystem
from subtone.training.segments.windows import Rows

HEAD, WHOLE = "head", "whole"
"""Folders of the two stages of a pre-trained network."""


@dataclass(frozen=True)
class SegmentRun:
    """A network that was trained, and what it says.

    Parameters
    ----------
    logits
        ``(clips, classes)`` float32 log posteriors of the rows asked for; NaN elsewhere.
    network
        In evaluation mode, on the CPU.
    stages
        What is told of the trainings, the last one last.
    """

    logits: npt.NDArray[np.float32]
    network: SegmentNetwork
    stages: tuple[Fitted, ...]


def train_segments(
    fabric: Fabric,
    source: Source,
    targets: Rows,
    train: Rows,
    dev: Rows,
    score: Rows,
    classes: int,
    folder: Path,
    system: SegmentSystem,
    options: FitOptions,
    *,
    seed: int,
    on_progress: Callable[[FitProgress], None] | None = None,
) -> SegmentRun:
    """Train a network on segments; killed and called again, it goes on from its last epoch.

    Every segment is labelled as its clip is; with attention, clips are trained as a whole. Features are standardised by
    the training clips. Epochs are chosen by the UA of whole development clips.

    Parameters
    ----------
    fabric
        Launched, of one process.
    source
        Segments of all clips.
    targets
        ``(clips,)`` class numbers; those of the clips that are scored are not looked at.
    train, dev, score
        Clips to train on, to choose epochs by, and to score in the end.
    classes
        Number of classes.
    folder
        Of the run, new or broken off.
    system
        What is trained.
    options
        How its weights are found; ``batch_s`` counts the seconds of all segments of a batch.
    seed
        Of first weights, order, shifts and dropout.
    on_progress
        See :func:`subtone.training.end_to_end.fit.fit`.

    Raises
    ------
    TrainingError
        If the training diverges or memory runs out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SegmentNetwork(source.shape, classes, system.encoder(), system.decision)
    network.standardise(*source.moments(train))
    stages = []
    for name, part in _stages(system, options, network):
        task = _Task(network, source, targets, train, dev, part, system, seed, frozen=name == HEAD)
        (folder / name).mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            fitted = fit(
                fabric,
                task,
                folder / name,
                part,
                class_weights=_class_weights(source, targets, train, classes, part, system),
                seed=seed,
                on_progress=on_progress,
            )
        network.load_state_dict(fitted.best.mean() if len(fitted.best.kept) > 1 else fitted.best.first())
        stages.append(fitted)
    network.to(fabric.device).eval()
    logits = np.full((len(targets), classes), np.nan, np.float32)
    logits[score] = score_clips(network, source, score, options.batch_s)
    return SegmentRun(logits, network.cpu(), tuple(stages))


def score_clips(
    network: SegmentNetwork, source: Source, clips: Rows, batch_s: float = 60.0
) -> npt.NDArray[np.float32]:
    """Score clips by their segments.

    Parameters
    ----------
    network
        In evaluation mode.
    source
        Segments of all clips.
    clips
        Rows to score.
    batch_s
        Seconds of segments that go through the network together.

    Returns
    -------
    ndarray
        ``(clips, classes)`` float32 log posteriors, the same whatever is scored beside a clip.
    """
    place = {clip: at for at, clip in enumerate(clips.tolist())}
    found = np.empty((len(clips), network.linear.out_features), np.float32)
    device = network.linear.weight.device
    with torch.no_grad():
        for rows in ordered(clips, _lengths(source), _budget(source, batch_s)):
            scored = network(_whole(source, rows, np.zeros(len(rows), np.int64), batch_s).to(device))
            found[[place[clip] for clip in rows.tolist()]] = scored.float().cpu().numpy()
    return found


class _Task:
    """Segments, or clips of segments, to learn from; see :class:`~subtone.training.end_to_end.task.Task`."""

    def __init__(
        self,
        network: SegmentNetwork,
        source: Source,
        targets: Rows,
        train: Rows,
        dev: Rows,
        options: FitOptions,
        system: SegmentSystem,
        seed: int,
        *,
        frozen: bool,
    ) -> None:
        self.network: SegmentNetwork = network
        self._source, self._targets, self._options, self._system = source, targets, options, system
        self._frozen = frozen
        budget = _budget(source, options.batch_s)
        windows = source.windows
        self._by_clip = system.decision == "attention"
        rows = train if self._by_clip else windows.of(train)
        lengths = _lengths(source) if self._by_clip else np.full(len(windows), windows.frames)
        self.plan = Plan(
            rows, lengths, budget, batches_per_step=options.accumulate, epochs=options.epochs, seed=seed
        )
        self.dev = ordered(dev, _lengths(source), budget)

    def read(self, pieces: Sequence[Piece]) -> Batch:
        rows = np.array([piece.clip for piece in pieces], np.int64)
        source, chances = self._source, [np.random.default_rng(piece.seed) for piece in pieces]
        if not self._by_clip:
            windows, owner = rows, np.arange(len(rows))
            targets = self._targets[source.windows.clips[rows]]
            shifts = [chance.uniform(-0.5, 0.5) for chance in chances]
        else:
            most = max(1, _budget(source, self._options.batch_s) // source.windows.frames)
            drawn = [
                _some(source.windows.of(rows[[place]]), most, chance) for place, chance in enumerate(chances)
            ]
            windows, targets = np.concatenate(drawn), self._targets[rows]
            owner = np.repeat(np.arange(len(rows)), [len(one) for one in drawn])
            shifts = np.concatenate(
                [chance.uniform(-0.5, 0.5, len(one)) for chance, one in zip(chances, drawn, strict=True)]
            ).tolist()
        maps = source.read(windows, shifts if self._system.segments.shift else None)
        return _batch(source, maps, owner, targets)

    def read_whole(self, rows: Rows) -> Batch:
        return _whole(self._source, rows, self._targets[rows], self._options.batch_s)

    def groups(self) -> list[ParameterGroup]:
        rate, encoder = self._options.learning_rate, self.network.encoder
        images = self._system.images
        if images is None or not isinstance(encoder, ImageCNN):
            return [(rate, list(self.network.parameters()))]
        taught = {id(parameter) for parameter in encoder.parameters()}
        new = [p for p in self.network.parameters() if id(p) not in taught]
        return (
            [(rate, new)]
            if self._frozen
            else [(images.learning_rate, list(encoder.parameters())), (rate, new)]
        )

    def train_mode(self) -> None:
        self.network.train()

    def weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}


def _stages(
    system: SegmentSystem, options: FitOptions, network: SegmentNetwork
) -> Iterator[tuple[str, FitOptions]]:
    """Yield the stages of a training, and make the network ready for each."""
    if isinstance(network.encoder, ImageCNN):
        assert system.images is not None
        network.encoder.freeze()
        yield HEAD, replace(options, epochs=system.images.head_epochs, patience=None, average=1)
        network.encoder.unfreeze()
    yield WHOLE, options


def _some(windows: Rows, most: int, chance: np.random.Generator) -> Rows:
    """Return the segments of a clip, or as many of them at random as memory is meant for."""
    return windows if len(windows) <= most else np.sort(chance.choice(windows, most, replace=False))


def _whole(source: Source, rows: Rows, targets: Rows, batch_s: float) -> Batch:
    """Return clips, each with all its segments, of which a batch's worth is in memory at a time."""
    windows = source.windows.of(rows)
    owner = np.repeat(np.arange(len(rows)), source.windows.counts[rows])
    parts = InParts(source, windows, _budget(source, batch_s) // source.windows.frames)
    return _batch(source, parts, owner, targets)


def _batch(source: Source, maps: Tensor | InParts, owner: Rows, targets: Rows) -> Batch:
    seconds = len(owner) * source.windows.frames * source.windows.hop_s
    return Batch([maps, torch.from_numpy(owner)], (), torch.from_numpy(targets), (), seconds)


def _lengths(source: Source) -> Rows:
    """``(clips,)`` frames of all segments of each clip."""
    return source.windows.counts * source.windows.frames


def _budget(source: Source, batch_s: float) -> int:
    return max(1, round(batch_s / source.windows.hop_s))


def _class_weights(
    source: Source, targets: Rows, train: Rows, classes: int, options: FitOptions, system: SegmentSystem
) -> Tensor:
    """Weigh classes by what is learned from: segments, or clips with attention."""
    learned = targets[train]
    if system.decision != "attention":
        learned = np.repeat(learned, source.windows.counts[train])
    return class_weights(learned, classes, options.class_weights)
