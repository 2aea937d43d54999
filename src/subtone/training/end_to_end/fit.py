"""The loop of every training on clips: batches to gradients to weights, epochs to the best few of them.

The same whether run at once, broken off and taken up again, or shared by processes: all that is random in a batch
follows from the seed, the epoch and the batch's place in it, and gradients are summed over clips before they are
divided, so that a batch is the same whoever computes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from subtone.aggregation import StepBatchNorm, settle
from subtone.errors import TrainingError, is_out_of_memory
from subtone.pretraining.ahead import Ahead
from subtone.pretraining.checkpoints import Checkpoints
from subtone.training.end_to_end.averaging import Best, Kept
from subtone.training.end_to_end.launching import together
from subtone.training.end_to_end.logs import FitProgress, Logs, OnProgress
from subtone.training.end_to_end.network import Batch
from subtone.training.end_to_end.options import FitOptions
from subtone.training.end_to_end.plan import Piece
from subtone.training.end_to_end.state import collect, restore
from subtone.training.end_to_end.sums import Sums
from subtone.training.end_to_end.task import Task

CHECKPOINTS, EPOCHS = "checkpoint", "epochs"
_REPORT_S = 0.5


@dataclass(frozen=True)
class Fitted:
    """A training that has come to its end.

    Parameters
    ----------
    best
        The kept epochs and their weights.
    epochs
        Passes that were made.
    steps, seconds
        Updates, and how long they and the development took, all calls together.
    history
        A row an epoch: see ``curves.csv``.
    """

    best: Best
    epochs: int
    steps: int
    seconds: float
    history: tuple[Mapping[str, float], ...]


@dataclass
class _State:
    """Where a training stands, as a checkpoint's note holds it."""

    step: int = 0
    epoch: int = 0
    in_epoch: int = 0
    seconds: float = 0.0
    sums: dict[str, Any] = field(default_factory=dict)
    kept: list[dict[str, Any]] = field(default_factory=list)
    kept_before: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


def fit(
    fabric: Fabric,
    task: Task,
    folder: Path,
    options: FitOptions,
    *,
    class_weights: Tensor,
    seed: int,
    checkpoint_every: int | None = None,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train a network, from wherever its folder stands, and keep its best epochs by development UA.

    Called again after a kill at whatever moment it goes on from the last checkpoint, and on a CPU ends in the same
    weights to the bit. Without development clips the last epochs are kept.

    Parameters
    ----------
    fabric
        Launched.
    task
        What, and on what clips. Test clips are not among them.
    folder
        Of the run: ``curves.csv``, ``tensorboard/``, ``checkpoint/``, ``epochs/``.
    options
        How.
    class_weights
        ``(classes,)`` weight of each class in the loss.
    seed
        Of dropout and whatever else the network draws.
    checkpoint_every
        Steps between checkpoints; None makes one after each epoch alone.
    on_progress
        Told twice a second, in the first process.

    Raises
    ------
    TrainingError
        If a loss or a gradient is not finite, or memory runs out.
    """
    with memory_told(folder, options):
        return _Fit(fabric, task, folder, options, class_weights, seed, checkpoint_every).finish(on_progress)


@contextmanager
def memory_told(folder: Path, options: FitOptions) -> Iterator[None]:
    """Turn memory that runs out within the block into an error that names the knob."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{folder}: not enough memory for batches of {options.batch_s:g} s of audio; halve batch_s "
            "(finetuning.fit.batch_s, or downstream.batch_s), and double accumulate beside it (now "
            f"{options.accumulate}) to keep the size of an update; shorter crops (finetuning.crop_s) and "
            "finetuning.tuning.gradient_checkpointing need less, too. The training then begins anew: delete this folder"
        ) from error


class _Fit:
    """One call of :func:`fit`, in one process."""

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        folder: Path,
        options: FitOptions,
        class_weights: Tensor,
        seed: int,
        checkpoint_every: int | None,
    ) -> None:
        self._fabric, self._task, self._folder, self._options = fabric, task, folder, options
        self._seed, self._every = seed, checkpoint_every
        self._first = fabric.is_global_zero
        # The optimiser last: where weights are spread over processes, they are new tensors by then.
        self._network = task.network
        self._model = fabric.setup_module(self._network)
        self._rates: list[float] = []
        groups = []
        for rate, parameters in task.groups():
            self._rates.append(rate)
            groups.append({"params": list(parameters), "lr": rate})
        self._trained = [p for group in groups for p in group["params"]]  # type: ignore[attr-defined]
        self._raw = torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=True)
        self._optimiser = cast(torch.optim.Optimizer, fabric.setup_optimizers(self._raw))
        self._class_weights = class_weights.to(fabric.device)
        self._steps_of = [task.plan.steps_of(epoch) for epoch in range(options.epochs)]
        self._steps = sum(self._steps_of)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, keep=2)
        self._state = _State()
        self._count = 0  # batches of the epoch

    def finish(self, on_progress: OnProgress | None) -> Fitted:
        self._take_up()
        state, options = self._state, self._options
        best = Best(
            self._folder / EPOCHS,
            options.average,
            [Kept(**one) for one in state.kept],
            before=[Kept(**one) for one in state.kept_before],
            writes=self._first,
        )
        self._fabric.barrier()
        with Logs(self._folder, state.step, writes=self._first) as logs:
            self._began, self._begun_at, self._before_s = time.perf_counter(), state.step, state.seconds
            while not state.ended:
                self._epoch(best, logs, on_progress if self._first else None)
        return Fitted(best, state.epoch, state.step, state.seconds, tuple(state.history))

    def _take_up(self) -> None:
        if self._first:
            self._checkpoints.sweep()
        self._fabric.barrier()
        note = self._checkpoints.load_tensors(lambda tensors: restore(self._network, self._raw, tensors))
        if note is not None:
            self._state = _State(**note)

    def _save(self, best: Best) -> None:
        """Write a checkpoint; all processes take part."""
        state = self._state
        state.seconds = self._before_s + time.perf_counter() - self._began
        state.kept_before, state.kept = state.kept, [asdict(one) for one in best.kept]
        tensors = collect(self._network, self._raw)
        note = asdict(state)
        together(self._fabric, lambda: self._checkpoints.save_tensors(state.step, tensors, note))

    def _epoch(self, best: Best, logs: Logs, on_progress: OnProgress | None) -> None:
        """Train to the end of the epoch, look at the development clips, and keep the weights if they are good."""
        state = self._state
        sums = Sums(**state.sums)
        reported = time.perf_counter()
        with self._batches(state.epoch, state.in_epoch) as ahead:
            batches = iter(ahead)
            while state.in_epoch < self._steps_of[state.epoch]:
                started, waited = time.perf_counter(), ahead.waited_s
                done = self._step(batches)
                now = time.perf_counter()
                done.seconds, done.waited_s = now - started, ahead.waited_s - waited
                sums.add(done)
                state.step += 1
                state.in_epoch += 1
                rate = self._rate(state.step - 1)
                logs.step(state.step, {"loss": done.loss / max(1e-12, done.weight), "learning_rate": rate})
                if on_progress is not None and now - reported > _REPORT_S:
                    reported = now
                    on_progress(self._progress(sums, best))
                last = state.in_epoch == self._steps_of[state.epoch]
                if self._every is not None and state.step % self._every == 0 and not last:
                    state.sums = asdict(sums)
                    self._save(best)
        self._close_epoch(sums, best, logs)
        if on_progress is not None:
            on_progress(self._progress(sums, best))

    def _close_epoch(self, sums: Sums, best: Best, logs: Logs) -> None:
        state, options = self._state, self._options
        loss, ua = self._development()
        judged = (
            Kept(state.epoch, ua, loss) if math.isfinite(ua) else Kept(state.epoch, 0.0, -float(state.epoch))
        )
        if not best.kept or judged.rank < best.kept[0].rank:
            state.best_epoch = state.epoch
        if best.wants(judged):
            weights = self._task.weights()
            together(self._fabric, lambda: best.write(judged, weights))
            best.add(judged)
        row = {
            "step": float(state.step),
            "epoch": float(state.epoch + 1),
            "learning_rate": self._rate(state.step - 1),
            **sums.row(),
            "dev_loss": loss,
            "dev_ua": ua,
        }
        state.history.append(row)
        logs.epoch(row)
        state.epoch, state.in_epoch, state.sums = state.epoch + 1, 0, {}
        waited = state.epoch - 1 - state.best_epoch
        state.ended = state.epoch == options.epochs or (
            options.patience is not None and math.isfinite(ua) and waited >= options.patience
        )
        self._save(best)
        best.settle([Kept(**one) for one in state.kept_before])

    def _batches(
        self, epoch: int, begun: int
    ) -> Ahead[tuple[int, bool, list[Piece]], tuple[int, bool, Batch]]:
        """Read this process's batches of an epoch from a step on: (number, whether it counts, batch)."""
        size, rank, processes = (
            self._task.plan.batches_per_step,
            self._fabric.global_rank,
            self._fabric.world_size,
        )
        batches = self._task.plan.batches(epoch)
        self._count = len(batches)

        def asked() -> Iterator[tuple[int, bool, list[Piece]]]:
            for step in range(begun, self._steps_of[epoch]):
                for turn in range(rank, size, processes):
                    number = step * size + turn
                    # The last step may lack batches. A process without one takes part with one that does not count.
                    counts = number < len(batches)
                    if counts or processes > 1:
                        yield number, counts, batches[min(number, len(batches) - 1)]

        return Ahead(asked(), lambda one: (one[0], one[1], self._task.read(one[2])))

    def _step(self, batches: Iterator[tuple[int, bool, Batch]]) -> Sums:
        """Make one update of the weights."""
        fabric, state = self._fabric, self._state
        size, processes = self._task.plan.batches_per_step, fabric.world_size
        here = len(range(fabric.global_rank, size, processes))
        if processes == 1:  # the last step of an epoch may have fewer
            here = min(size, self._count - state.in_epoch * size)
        taken = [next(batches) for _ in range(here)]
        weight = sum((self._weight_of(batch) for _, counts, batch in taken if counts), start=torch.zeros(()))
        weight = self._over_all(weight.double())
        sums = torch.zeros(4, dtype=torch.float64)
        for turn, (number, counts, batch) in enumerate(taken):
            _seed(self._seed, state.epoch, number)
            self._task.train_mode()
            if (
                not counts
            ):  # it reaches all weights as the others do, but nothing of it may stay in batch norms
                for part in self._network.modules():
                    if isinstance(part, StepBatchNorm):
                        part.eval()
            with fabric.no_backward_sync(self._model, enabled=turn + 1 < here):
                logits, targets = self._logits(batch)
                loss = functional.cross_entropy(
                    logits,
                    targets,
                    self._class_weights,
                    reduction="sum",
                    label_smoothing=self._options.label_smoothing,
                )
                # Processes average their gradients; what is wanted is that of the mean over all clips of the update.
                fabric.backward(loss * (processes / max(1e-12, float(weight)) if counts else 0.0))
            if counts:
                hits = (logits.detach().argmax(-1) == targets).sum()
                told = [float(loss.detach()), float(hits), float(len(targets)), batch.seconds]
                sums += torch.tensor(told, dtype=torch.float64)
        sums = self._over_all(sums)
        settle(self._network, _summed_by(fabric) if processes > 1 else None)
        loss_sum, hit, clips, seconds = sums.tolist()
        return Sums(
            steps=1,
            loss=loss_sum,
            weight=float(weight),
            hits=hit,
            clips=clips,
            seconds_heard=seconds,
            gradient_norm=self._update(loss_sum),
        )

    def _weight_of(self, batch: Batch) -> Tensor:
        return self._class_weights.cpu()[batch.targets].sum()

    def _over_all(self, sums: Tensor) -> Tensor:
        """Return sums over all processes, on the CPU."""
        if self._fabric.world_size == 1:
            return sums
        return cast(Tensor, self._fabric.all_reduce(sums.to(self._fabric.device), reduce_op="sum")).cpu()

    def _logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        moved = batch.to(self._fabric.device)
        logits: Tensor = self._model(moved)
        return logits.float(), moved.targets

    def _update(self, loss: float) -> float:
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
        if (
            norm > self._options.clip_norm
        ):  # most are shorter, and to go through all weights once less saves time
            torch.nn.utils.clip_grads_with_norm_(self._trained, self._options.clip_norm, total)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            rates = f"{max(self._rates):g}" + (
                f" and {min(self._rates):g}" if len(set(self._rates)) > 1 else ""
            )
            raise TrainingError(
                f"{self._folder}: step {self._state.step + 1}: the {'gradient' if math.isfinite(loss) else 'loss'} is "
                f"no finite number; try lower learning rates (now {rates})"
                + (" or precision fp32" if self._options.precision != "fp32" else "")
            )
        factor = self._factor(self._state.step)
        for group, rate in zip(self._raw.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return norm

    def _factor(self, step: int) -> float:
        """Share of the highest rate at a step, from 0: a linear rise, then a linear fall."""
        warmup = round(self._options.warmup_share * self._steps)
        if step < warmup:
            return (step + 1) / warmup
        return (self._steps - step) / max(1, self._steps - warmup)

    def _rate(self, step: int) -> float:
        return max(self._rates) * self._factor(step)

    @torch.no_grad()
    def _development(self) -> tuple[float, float]:
        """Return loss and UA of the development clips; NaN without any."""
        rank, processes = self._fabric.global_rank, self._fabric.world_size
        classes = len(self._class_weights)
        sums = torch.zeros(2, dtype=torch.float64)  # loss, weight
        table = torch.zeros(2, classes, dtype=torch.float64)  # hits, clips
        batches = self._task.dev
        if not batches:
            return math.nan, math.nan
        self._network.eval()
        for first in range(0, len(batches), processes):
            number = first + rank
            logits, targets = self._logits(self._task.read_whole(batches[min(number, len(batches) - 1)]))
            if number >= len(batches):  # it took part for the others' sake
                continue
            logits, targets = logits.cpu(), targets.cpu()
            loss = functional.cross_entropy(logits, targets, self._class_weights.cpu(), reduction="sum")
            sums += torch.stack([loss, self._class_weights.cpu()[targets].sum()]).double()
            hit = (logits.argmax(-1) == targets).double()
            table[0].index_add_(0, targets, hit)
            table[1].index_add_(0, targets, torch.ones_like(hit))
        both = self._over_all(torch.cat([sums, table.flatten()]))
        sums, table = both[:2], both[2:].reshape(2, classes)
        there = table[1] > 0
        return float(sums[0] / sums[1].clamp_min(1e-12)), float((table[0][there] / table[1][there]).mean())

    def _progress(self, sums: Sums, best: Best) -> FitProgress:
        state = self._state
        done = max(1, state.step - self._begun_at)
        left = 0 if state.ended else self._steps - state.step
        return FitProgress(
            state.step,
            self._steps,
            min(state.epoch + 1, self._options.epochs),
            self._options.epochs,
            sums.row()["loss"],
            best.kept[0].ua if best.kept and self._task.dev else None,
            (time.perf_counter() - self._began) / done * left,
        )


def _seed(seed: int, epoch: int, number: int) -> None:
    drawn = np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)
    torch.manual_seed(int(drawn[0] >> 1))


def _summed_by(fabric: Fabric) -> Callable[[Tensor], Tensor]:
    return lambda tensor: cast(Tensor, fabric.all_reduce(tensor, reduce_op="sum"))
