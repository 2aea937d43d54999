"""What the contenders of the fine-tuning have in common: the job they are given, and what they tell of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import proc
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional

#: Gradients are measured and never clipped: one contender clips encoder and linear layer apart, the others together.
FAR = 1e9


@dataclass(frozen=True)
class Job:
    """What is to be trained, as the harness wrote it.

    Parameters
    ----------
    weights
        Folder of the encoder in the Hugging Face format, with nothing in it that is dropped or hidden at random.
    linear
        File with ``weight (classes, dim)`` and ``bias (classes,)`` that the linear layer starts from.
    clips
        Files with decoded waves, as Subtone keeps them.
    targets
        A class number for each.
    batch
        Clips to an update.
    batch_s
        Seconds that give as many on average, where batches are filled by seconds.
    batches
        What they are then filled with: rows, epoch by epoch and batch by batch.
    """

    weights: str
    linear: str
    clips: list[str]
    targets: list[int]
    classes: int
    epochs: int
    batch: int
    batch_s: float
    batches: list[list[list[int]]]
    learning_rate: float
    precision: str
    seed: int

    @classmethod
    def read(cls, path: str) -> Job:
        """Read it."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    def waves(self) -> list[npt.NDArray[np.float32]]:
        """Return the decoded clips."""
        return [load_file(path)["wave"] for path in self.clips]

    def start(self, linear: nn.Linear) -> nn.Linear:
        """Give a linear layer the weights that everybody starts from."""
        linear.load_state_dict({name: torch.from_numpy(x) for name, x in load_file(self.linear).items()})
        return linear


class Told:
    """What is told of a training: epoch by epoch the seconds, the losses, and what padding costs."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.peak_mb = 0.0
        self._began = (0.0, 0.0)

    def begin(self) -> None:
        """Begin an epoch."""
        self.epochs.append({"losses": [], "clips": [], "padded": 0})
        self._began = _now()

    def update(self, loss: float, clips: int, padded: int) -> None:
        """Tell of an update: its mean loss, its clips, and the samples that went through with the padding."""
        epoch = self.epochs[-1]
        epoch["losses"].append(loss)
        epoch["clips"].append(clips)
        epoch["padded"] += padded

    def end(self) -> None:
        """End an epoch, before anything is written to disk."""
        epoch, ended = self.epochs[-1], _now()
        epoch["wall_s"], epoch["cpu_s"] = ended[0] - self._began[0], ended[1] - self._began[1]
        epoch["loss"] = float(np.average(epoch["losses"], weights=epoch["clips"]))
        if len(self.epochs) == 1:
            self.peak_mb = proc.peak_rss_mb(os.getpid())

    @contextmanager
    def whole(self) -> Iterator[dict[str, Any]]:
        """Time all of a training, and gather what is told of it."""
        found: dict[str, Any] = {}
        began = time.perf_counter()
        yield found
        found["whole_s"] = time.perf_counter() - began
        found["epochs"], found["peak_mb"] = self.epochs, self.peak_mb
        found["whole_peak_mb"] = proc.peak_rss_mb(os.getpid())


def _now() -> tuple[float, float]:
    return time.perf_counter(), proc.cpu_s(os.getpid())


@torch.no_grad()
def mean_loss(network: nn.Module, score: Callable[[npt.NDArray[np.float32]], Tensor], job: Job) -> float:
    """Return the mean loss of all clips one by one, without padding, in fp32: the same for whoever trained.

    Parameters
    ----------
    network
        Is put into evaluation mode.
    score
        From a wave to ``(1, classes)`` logits.
    """
    network.eval()
    losses = [
        float(functional.cross_entropy(score(wave), torch.tensor([target])))
        for wave, target in zip(job.waves(), job.targets, strict=True)
    ]
    return float(np.mean(losses))
