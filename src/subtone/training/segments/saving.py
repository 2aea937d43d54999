"""A trained network on segments in a file: weights, and beside them all that is needed to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from subtone.errors import SubtoneError, TrainingError
from subtone.files import appears_whole
from subtone.training.segments.image_cnn import ImageCNN, image_cnn_of
from subtone.training.segments.network import SegmentNetwork
from subtone.training.segments.stack import StackOptions
from subtone.training.segments.system import SegmentSystem

SCHEMA = 1
_ABOUT = "subtone"


@dataclass(frozen=True)
class SavedAs:
    """What a network on segments was trained as.

    Parameters
    ----------
    system
        What it is.
    labels
        Emotions, in the order of its classes.
    upstream, fingerprint
        Name of the upstream whose feature maps it takes, and what tells that from others.
    layers
        Which of the upstream's layers.
    detector
        Configuration of what finds the speech.
    """

    system: SegmentSystem
    labels: tuple[str, ...]
    upstream: str
    fingerprint: str
    layers: tuple[int, ...]
    detector: Mapping[str, Any]


def save_network(network: SegmentNetwork, saved_as: SavedAs, path: Path) -> None:
    """Write a network, whole or not at all; :func:`load_network` reads it back and needs nothing beside the file.

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    encoder = network.encoder
    about = {
        "schema": SCHEMA,
        **asdict(saved_as),
        "dim": network.mean.shape[1],
        "images": encoder.config() if isinstance(encoder, ImageCNN) else None,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    try:
        with appears_whole(path) as partial:
            save_file(tensors, partial, {_ABOUT: json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: could not be written: {error}; make room, then give the same command again"
        ) from error


def load_network(path: str | Path) -> tuple[SegmentNetwork, SavedAs]:
    """Return a network in evaluation mode, on the CPU, and what it was trained as.

    Raises
    ------
    TrainingError
        If the file is not there, is damaged, or was written by a newer Subtone.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[_ABOUT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        schema, dim, images = (about.pop(name) for name in ("schema", "dim", "images"))
        if schema != SCHEMA:
            raise TrainingError(
                f"{path}: was written as schema {schema}, this version of Subtone reads {SCHEMA}; install "
                "the version that made it"
            )
        saved_as = TypeAdapter(SavedAs).validate_python(about)
        system = saved_as.system
        encoder: StackOptions | ImageCNN = system.network or StackOptions()
        if system.images is not None:
            encoder = image_cnn_of(images, system.images.weights)
        shape = (len(saved_as.layers), int(dim))
        network = SegmentNetwork(shape, len(saved_as.labels), encoder, system.decision)
        network.load_state_dict(tensors)
    except SubtoneError:
        raise
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        why = " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: is no network on segments, or is damaged: {why}") from error
    return network.eval(), saved_as
