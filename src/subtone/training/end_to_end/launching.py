"""Processes that train together: how many, on what, and what each of them holds."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import nn

from subtone.errors import TrainingError, UsageError, nearest
from subtone.training.end_to_end.options import Precision

Strategy = Literal["ddp", "fsdp"]
#: What the first process does alone, scoring a fold, say, may take hours; the others wait for it.
_PATIENCE = datetime.timedelta(days=7)


def launched(
    precision: Precision, *, device: str = "cpu", devices: int = 1, strategy: Strategy = "ddp"
) -> Fabric:
    """Start the processes that train together, or join those that torchrun has started.

    Parameters
    ----------
    precision
        ``"bf16"``: products in half the bits.
    device
        ``"cpu"`` or ``"cuda"``.
    devices
        Processes on this machine, each with a GPU of its own on ``"cuda"``. The program is started again for each;
        under torchrun its processes count instead.
    strategy
        ``"ddp"``: each holds all weights. ``"fsdp"``: each holds its part, for upstreams too large for one GPU.

    Raises
    ------
    UsageError
        If the machine has not as many GPUs.
    """
    if strategy not in get_args(Strategy):
        raise UsageError(f"strategy {strategy!r} is not known; {nearest(strategy, get_args(Strategy))}")
    if devices < 1:
        raise UsageError(f"devices = {devices} must be at least 1")
    accelerator, nodes = _accelerator(device), 1
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes, and knows how many
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if accelerator == "cuda" and torch.cuda.device_count() < devices:
        raise UsageError(
            f"{devices} CUDA devices are asked for, this machine has {torch.cuda.device_count()}"
        )
    if devices * nodes == 1:
        return alone(precision, device=device)
    plan: Any = DDPStrategy(timeout=_PATIENCE)
    if strategy == "fsdp":
        plan = ModelParallelStrategy(_shared_out, devices * nodes, 1, timeout=_PATIENCE)
    with _quietly():
        fabric = Fabric(
            accelerator=accelerator,
            strategy=plan,
            devices=devices,
            num_nodes=nodes,
            precision=_FABRIC[precision],
        )
        fabric.launch()
    return fabric


def alone(precision: Precision, *, device: str = "cpu") -> Fabric:
    """Return what trains in this process by itself, whatever others there are."""
    accelerator = _accelerator(device)
    with _quietly():
        # The accelerator by name: left to itself, Fabric takes a GPU wherever there is one.
        fabric = Fabric(
            accelerator=accelerator,
            devices=1,
            strategy=SingleDeviceStrategy(device),
            precision=_FABRIC[precision],
        )
        fabric.launch()
    return fabric


def together(fabric: Fabric, work: Callable[[], None]) -> None:
    """Have the first process do something while the others wait; when it fails, all of them end.

    Raises
    ------
    SubtoneError
        What ``work`` raised, in the first process; in the others one that says that the first has told.
    """
    failed: BaseException | None = None
    if fabric.is_global_zero:
        try:
            work()
        except Exception as error:
            failed = error
    if fabric.world_size > 1 and not fabric.broadcast(failed is None) and failed is None:
        raise TrainingError("the first of the processes could not go on; it tells why")
    if failed is not None:
        raise failed


_FABRIC: dict[Precision, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}


def _accelerator(device: str) -> str:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = device
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is none to train on; use 'cpu' or 'cuda'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} is not there: this machine has no CUDA devices; use 'cpu'")
    return kind


def _shared_out(network: nn.Module, mesh: Any) -> nn.Module:
    """Spread the weights over the processes, block by block: no more than one block is whole at a time."""
    from torch.distributed.fsdp import fully_shard

    ours = mesh["data_parallel"]
    for block in getattr(network, "blocks", ()):
        fully_shard(block, mesh=ours)
    fully_shard(network, mesh=ours)
    return network


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what Fabric tells of itself from the terminal; warnings are told."""
    loggers = [logging.getLogger(name) for name in ("lightning_fabric", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
