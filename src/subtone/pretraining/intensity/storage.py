"""An intensity model as a folder: sizes in JSON, weights in safetensors, a card; never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from subtone.errors import BundleError
from subtone.files import write_whole
from subtone.pretraining.intensity.network import NUM_MEL, IntensityNetwork, IntensityOptions

MODEL_TYPE = "subtone-intensity"
SCHEMA = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "card.md"


def sizes(network: IntensityNetwork) -> dict[str, Any]:
    """Return what a network is built from, as JSON has it."""
    return {"num_mel": NUM_MEL, **asdict(network.options)}


def write(folder: Path, network: IntensityNetwork, trained_on: tuple[str, ...], card: str) -> None:
    """Write a model's folder, the weights last but the config: without it a folder is no model.

    Raises
    ------
    BundleError
        If it cannot be written.
    """
    config = {
        "model_type": MODEL_TYPE,
        "schema_version": SCHEMA,
        "trained_on": list(trained_on),
        "network": sizes(network),
    }
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / CARD, card.encode())
        write_whole(folder / WEIGHTS, save(tensors))
        write_whole(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
    except OSError as error:
        raise BundleError(
            f"{folder}: could not be written: {error}; make room, or name another folder"
        ) from error


def read(folder: Path) -> tuple[IntensityNetwork, tuple[str, ...], str]:
    """Read a model's folder: network in evaluation mode, corpora heard, card.

    Raises
    ------
    BundleError
        If it is not there, is no intensity model, is newer than this Subtone, or is damaged.
    """
    if not folder.is_dir():
        raise BundleError(
            f"intensity model {str(folder)!r}: is neither 'default', which ships with Subtone, nor a folder"
        )
    config = _config(folder)
    again = "get the model from its author again, or train it anew with 'subtone intensity train'"
    try:
        described = dict(config["network"])
        if described.pop("num_mel") != NUM_MEL:
            raise BundleError(f"num_mel must be {NUM_MEL}")
        options = IntensityOptions(**{**described, "dilations": tuple(described["dilations"])})
        trained_on = tuple(str(name) for name in config["trained_on"])
        tensors = load((folder / WEIGHTS).read_bytes())
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
                raise BundleError(f"{name} must hold finite float32 numbers")
        # Built without memory: the tensors of the file take the place of the network's own.
        with torch.device("meta"):
            network = IntensityNetwork(options)
        network.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError, BundleError) as error:
        why = " ".join(str(error).split())
        raise BundleError(f"intensity model {folder}: is damaged: {why}; {again}") from error
    card = folder / CARD
    network.requires_grad_(False)
    return network.eval(), trained_on, card.read_text(encoding="utf-8") if card.is_file() else ""


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"intensity model {folder}: {CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") != MODEL_TYPE:
        raise BundleError(f"{folder}: is no intensity model; expected model_type {MODEL_TYPE!r} in {CONFIG}")
    if config.get("schema_version") != SCHEMA:
        raise BundleError(
            f"intensity model {folder}: has schema {config.get('schema_version')!r}, this Subtone reads {SCHEMA}; "
            "install a newer Subtone"
        )
    return config
