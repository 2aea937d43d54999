"""What a training is given: a network, its batches, and what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from subtone.training.end_to_end.network import Batch
from subtone.training.end_to_end.plan import Piece, Plan

Rows = npt.NDArray[np.int64]
ParameterGroup = tuple[float, Sequence[nn.Parameter]]
"""Learning rate, and what is trained at it."""


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def network(self) -> nn.Module:
        """From a :class:`Batch` to logits ``(batch, classes)``."""

    @property
    def plan(self) -> Plan:
        """Training batches."""

    @property
    def dev(self) -> Sequence[Rows]:
        """Development clips, in batches."""

    def read(self, pieces: Sequence[Piece]) -> Batch:
        """Return a training batch; called in a thread."""

    def read_whole(self, rows: Rows) -> Batch:
        """Return clips as they are, to be scored."""

    def groups(self) -> list[ParameterGroup]:
        """Return the parameters to be trained, once the network is where it is trained."""

    def train_mode(self) -> None:
        """Put the network in the mode in which it is trained."""

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that are averaged; all processes ask together."""
