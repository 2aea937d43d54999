"""The best epochs of a training, and the mean of their weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from subtone.errors import TrainingError
from subtone.files import appears_whole


@dataclass(frozen=True)
class Kept:
    """An epoch whose weights are kept.

    Parameters
    ----------
    epoch
        From 0.
    ua, loss
        On the development clips; UA in [0, 1].
    """

    epoch: int
    ua: float
    loss: float

    @property
    def rank(self) -> tuple[float, float, int]:
        """By development UA, among equals by loss, then the earlier."""
        return (-self.ua, self.loss, self.epoch)


class Best:
    """The weights of the best few epochs by development UA, one safetensors file each.

    Parameters
    ----------
    folder
        Where the files lie.
    keep
        How many.
    kept
        What a run that is taken up again had; other files are deleted.
    before
        What the checkpoint before the last names: should the last one be damaged, the run goes on from there.
    writes
        Whether this process writes; of several that train together one does.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        kept: Sequence[Kept] = (),
        *,
        before: Sequence[Kept] = (),
        writes: bool = True,
    ) -> None:
        self.folder, self._keep, self._writes = folder, keep, writes
        self.kept = sorted(kept, key=lambda one: one.rank)
        self.settle(before)

    def wants(self, one: Kept) -> bool:
        """Whether an epoch is among the best so far."""
        return len(self.kept) < self._keep or one.rank < self.kept[-1].rank

    def write(self, one: Kept, state: Mapping[str, Tensor]) -> None:
        """Write the weights of an epoch; on disk when this returns.

        Raises
        ------
        TrainingError
            If they cannot be written.
        """
        path = self._path(one)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with appears_whole(path) as partial:
                tensors = {name: value.contiguous() for name, value in state.items()}
                save_file(tensors, partial, {"development": json.dumps({"ua": one.ua, "loss": one.loss})})
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{path}: could not be written: {error}; make room, then give the same command again"
            ) from error

    def add(self, one: Kept) -> None:
        """Count an epoch that was written among the best; files no longer wanted go with :meth:`settle`."""
        self.kept = sorted([*self.kept, one], key=lambda other: other.rank)[: self._keep]

    def settle(self, before: Sequence[Kept] = ()) -> None:
        """Delete the weights that neither this checkpoint nor the one before names; call it behind a checkpoint."""
        if not self._writes:
            return
        named = {self._path(one) for one in (*self.kept, *before)}
        for path in [*self.folder.glob("epoch-*.safetensors"), *self.folder.glob(".epoch-*")]:
            if path not in named:
                path.unlink(missing_ok=True)

    def load(self, one: Kept) -> dict[str, Tensor]:
        """Return the weights of an epoch.

        Raises
        ------
        TrainingError
            If they are gone or damaged.
        """
        path = self._path(one)
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{path}: is gone or damaged ({error}); delete its run's folder and give the same command again"
            ) from error

    def first(self) -> dict[str, Tensor]:
        """Return the weights of the single best epoch."""
        return self.load(self.kept[0])

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of the weights of all kept epochs; see :func:`mean_of`."""
        return mean_of(self.load(one) for one in self.kept)

    def _path(self, one: Kept) -> Path:
        return self.folder / f"epoch-{one.epoch + 1:04d}.safetensors"


def mean_of(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of weights by name, summed in float64; what is no floating number is the first's.

    Notes
    -----
    Checkpoint averaging as in Morais et al. 2022 (arXiv 2202.03896), section 2.

    Examples
    --------
    >>> import torch
    >>> mean_of([{"w": torch.tensor([1.0]), "n": torch.tensor(3)}, {"w": torch.tensor([2.0]), "n": torch.tensor(5)}])
    {'w': tensor([1.5000]), 'n': tensor(3)}
    """
    sums: dict[str, Tensor] = {}
    first: dict[str, Tensor] = {}
    count = 0
    for state in states:
        first = first or dict(state)
        count += 1
        for name, value in state.items():
            if value.is_floating_point():
                sums[name] = sums[name] + value.double() if name in sums else value.double()
    return {
        name: (sums[name] / count).to(value.dtype) if name in sums else value for name, value in first.items()
    }
