"""A trained network on segments in a file: weights, and beside them what it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from subtone.errors import SubtoneError, TrainingError
from subtone.training.segments.network import SegmentNetwork
from subtone.training.segments.system import SegmentSystem
from subtone.upstreams.files import appears_whole


def save_network(network: SegmentNetwork, system: SegmentSystem, path: Path) -> None:
    """Write a network, whole or not at all; :func:`load_network` reads it back.

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    layers, dim = network.mean.shape
    about = {"layers": layers, "dim": dim, "classes": network.linear.out_features, "system": asdict(system)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    try:
        with appears_whole(path) as partial:
            save_file(tensors, partial, {"about": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: could not be written: {error}; make room, then give the same command again"
        ) from error


def load_network(path: str | Path) -> tuple[SegmentNetwork, SegmentSystem]:
    """Return a network in evaluation mode, on the CPU, and what it is.

    Raises
    ------
    TrainingError
        If the file is not there or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        system = TypeAdapter(SegmentSystem).validate_python(about["system"])
        shape = (int(about["layers"]), int(about["dim"]))
        network = SegmentNetwork(shape, int(about["classes"]), system.encoder, system.decision)
        network.load_state_dict(tensors)
    except SubtoneError:  # of the pre-trained network that it began as
        raise
    except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: is no network on segments, or is damaged: {why}") from error
    return network.eval(), system
