"""The loop: batches to gradients to weights, the same whether run at once, interrupted, or shared by processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from subtone.errors import PretrainingError
from subtone.extraction.progress import duration
from subtone.pretraining.loading import Loader
from subtone.pretraining.objectives import Batch, Losses, Objective
from subtone.pretraining.options import PretrainOptions, learning_rate

_REPORT_S = 0.5


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training after a step.

    Attributes
    ----------
    step, steps
        Done, and in all.
    loss
        Mean over the steps since the last report.
    frames_per_s
        Frames without padding that went through the network in a second, in all processes together.
    wait_share
        Of the time, how much was spent waiting for batches.
    remaining_s
        Estimate in seconds.
    """

    step: int
    steps: int
    loss: float
    frames_per_s: float
    wait_share: float
    remaining_s: float

    def sentence(self) -> str:
        """Say it in a line.

        >>> TrainingProgress(30, 100, 0.5123, 12345.6, 0.0, 850.0).sentence()
        'step 30 of 100, loss 0.5123, 12,346 frames/s, 14 min left'
        """
        return (
            f"step {self.step} of {self.steps}, loss {self.loss:.4f}, {self.frames_per_s:,.0f} frames/s, "
            f"{duration(self.remaining_s)} left"
        )


OnProgress = Callable[[TrainingProgress], None]
"""Called about twice a second."""


@dataclass
class Totals:
    """Sums over steps; what means are made of. Loss and parts are weighed by the positions they are means over."""

    steps: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    frames: float = 0.0
    places: float = 0.0
    masked: float = 0.0
    weight: float = 0.0
    gradient_norm: float = 0.0
    loss: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, other: Totals) -> None:
        """Add the sums of other steps."""
        for name in vars(self):
            if name != "parts":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, value in other.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def row(self) -> dict[str, float]:
        """Return the means: losses, coverage, frames per second, shares of padding and of waiting."""
        weight = max(1.0, self.weight)
        return {
            "loss": self.loss / weight,
            **{f"loss_{name}": value / weight for name, value in self.parts.items()},
            "gradient_norm": self.gradient_norm / max(1, self.steps),
            "coverage": self.masked / max(1.0, self.frames),
            "padding": 1 - self.frames / max(1.0, self.places),
            "frames_per_s": self.frames / max(1e-9, self.seconds),
            "wait_share": self.waited_s / max(1e-9, self.seconds),
        }


class Opaque:
    """A batch that passes through Fabric untouched: it would round targets to half precision."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class _Forward(nn.Module):
    """What Fabric wraps; its state is the objective's."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, held: Opaque, generator: torch.Generator) -> Losses:
        losses: Losses = self.objective(held.batch, generator)
        return losses


class Trainer:
    """Steps of an objective in one process, or its part of them in several.

    Everything random in a batch (masks, noise, dropout) follows from the seed and the batch's number, so there is no
    state of generators to keep; and since gradients are summed over positions before they are divided, batches of
    several processes count like as many accumulated in one. (Batch norms, as in NPC, see the batches of several
    processes as one batch, but accumulated ones each for itself.)

    Parameters
    ----------
    fabric
        Launched.
    objective
        What is trained, in place.
    options
        How.
    """

    def __init__(self, fabric: Fabric, objective: Objective, options: PretrainOptions) -> None:
        self._fabric, self._options = fabric, options
        self.batches_per_step = options.accumulate * fabric.world_size
        kind = torch.optim.AdamW if options.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = kind(objective.parameters(), lr=options.learning_rate, fused=True)
        self.objective = objective
        self.model, self._step = fabric.setup(_Forward(objective), self.optimiser)
        self._generator = torch.Generator(device=fabric.device)
        self._begun = 0

    def numbers(self, first_step: int) -> Iterator[int]:
        """Yield the numbers of the batches of this process, from a step to the end."""
        for step in range(first_step, self._options.steps):
            for turn in range(self._options.accumulate):
                yield (
                    step * self.batches_per_step + turn * self._fabric.world_size + self._fabric.global_rank
                )

    def steps(
        self, loader: Loader, first_step: int, on_progress: OnProgress | None = None
    ) -> Iterator[tuple[int, Totals]]:
        """Train; after each step yield how many are done, and the sums over that step.

        Raises
        ------
        PretrainingError
            If a loss or a gradient is not finite. The weights are those before that step.
        """
        self._begun = first_step
        batches, reported, began = iter(loader), Totals(), time.perf_counter()
        self.objective.train()
        for step in range(first_step, self._options.steps):
            started, waited = time.perf_counter(), loader.waited_s
            totals = self._one(step, batches)
            now = time.perf_counter()
            totals.seconds, totals.waited_s = now - started, loader.waited_s - waited
            reported.add(totals)
            if on_progress is not None and (now - began > _REPORT_S or step + 1 == self._options.steps):
                left = self._options.steps - step - 1
                row = reported.row()
                on_progress(
                    TrainingProgress(
                        step + 1,
                        self._options.steps,
                        row["loss"],
                        row["frames_per_s"],
                        row["wait_share"],
                        reported.seconds / reported.steps * left,
                    )
                )
                reported, began = Totals(), now
            yield step + 1, totals

    def _one(self, step: int, batches: Iterator[Any]) -> Totals:
        """Make one update of the weights."""
        options, fabric = self._options, self._fabric
        sums: list[Tensor] = []
        names: list[str] = []
        for turn in range(options.accumulate):
            loaded = next(batches)
            self._seed(loaded.number)
            held = Opaque(self._moved(loaded.batch))
            with fabric.no_backward_sync(self.model, enabled=turn + 1 < options.accumulate):
                losses: Losses = self.model(held, self._generator)
                fabric.backward(losses.summed)
            names = list(losses.parts)
            rows = [losses.total.detach(), *losses.parts.values()]
            weighed = torch.stack(rows).double() * losses.weight
            places = float(loaded.batch.mask.numel())
            counts = torch.stack([losses.weight, losses.masked, losses.valid]).double()
            sums.append(torch.cat([weighed, counts, weighed.new_tensor([places])]))
        summed = torch.stack(sums).sum(0)  # (1 + parts + 4,)
        if fabric.world_size > 1:
            summed = cast(Tensor, fabric.all_reduce(summed, reduce_op="sum"))
        loss, *parts, weight, masked, valid, all_places = summed.tolist()
        norm = self._update(step, loss, weight)
        return Totals(
            steps=1,
            frames=valid,
            places=all_places,
            masked=masked,
            weight=weight,
            gradient_norm=norm,
            loss=loss,
            parts=dict(zip(names, parts, strict=True)),
        )

    def _update(self, step: int, loss: float, weight: float) -> float:
        options = self._options
        # Processes have averaged their sums; what is wanted is the mean over positions.
        scale = self._fabric.world_size / max(1.0, weight)
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        for gradient in gradients:
            gradient.mul_(scale)
        norm = float(torch.nn.utils.clip_grad_norm_(self.objective.parameters(), options.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise PretrainingError(
                f"step {step + 1}: the {'loss' if not math.isfinite(loss) else 'gradient'} is no finite number; try a "
                f"lower learning rate (now {options.learning_rate:g})"
                + (" or precision fp32" if options.precision != "fp32" else "")
                + (
                    "; the last checkpoint is from before"
                    if self._begun > 0 or step >= options.checkpoint_every
                    else "; there is no checkpoint yet"
                )
            )
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(options, step)
        self._step.step()
        self._step.zero_grad(set_to_none=True)
        return norm

    def _seed(self, number: int) -> None:
        drawn = np.random.SeedSequence([self._options.seed, number]).generate_state(2, np.uint64)
        torch.manual_seed(int(drawn[0] >> 1))
        self._generator.manual_seed(int(drawn[1] >> 1))

    def _moved(self, batch: Batch) -> Batch:
        return batch if self._fabric.device.type == "cpu" else batch.to(self._fabric.device)
