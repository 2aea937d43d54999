"""What a training tells while it runs: rows of a CSV file, TensorBoard's events, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from subtone.extraction.progress import duration
from subtone.pretraining.curves import Curves

CURVES, EVENTS = "curves.csv", "tensorboard"


@dataclass(frozen=True)
class FitProgress:
    """The state of a training after a step.

    Attributes
    ----------
    step, steps
        Updates done, and in all.
    epoch, epochs
        The one under way, from 1, and how many there are at most.
    loss
        Mean over the epoch so far.
    dev_ua
        Best development UA so far in [0, 1]; None before the first epoch's end.
    remaining_s
        Estimate in seconds, as if no epoch were spared.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    dev_ua: float | None
    remaining_s: float

    def sentence(self) -> str:
        """Say it in a line.

        >>> FitProgress(30, 100, 2, 5, 1.234, 0.5, 90.0).sentence()
        'epoch 2 of 5, loss 1.234, best development UA 50.0 %, 90 s left'
        """
        best = "" if self.dev_ua is None else f"best development UA {100 * self.dev_ua:.1f} %, "
        return f"epoch {self.epoch} of {self.epochs}, loss {self.loss:.3f}, {best}{duration(self.remaining_s)} left"


OnProgress = Callable[[FitProgress], None]
"""Called about twice a second."""


class Logs:
    """A row an epoch in ``curves.csv``, and losses, rates and epochs as TensorBoard's events; a context manager.

    Parameters
    ----------
    folder
        Of the run.
    after_step
        Steps that are done: what was told of later ones belongs to a part of the run that was lost.
    writes
        Whether this process tells anything.
    """

    def __init__(self, folder: Path, after_step: int, *, writes: bool = True) -> None:
        self._curves: Curves | None = None
        self._events: Any = None
        if writes:
            from tensorboardX import SummaryWriter

            self._curves = Curves(folder / CURVES, after_step)
            self._events = SummaryWriter(str(folder / EVENTS), purge_step=after_step + 1, write_to_disk=True)

    def step(self, step: int, row: Mapping[str, float]) -> None:
        """Tell of an update."""
        if self._events is not None:
            for name, value in row.items():
                self._events.add_scalar(f"step/{name}", value, step)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Tell of an epoch; the row begins with ``step``."""
        if self._curves is not None:
            self._curves.add(row)
            for name, value in row.items():
                if name != "step" and math.isfinite(value):  # without development clips there is none to tell
                    self._events.add_scalar(f"epoch/{name}", value, int(row["step"]))
            self._events.flush()

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()
