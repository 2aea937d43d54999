"""A checkpoint folder as on the Hugging Face hub: configuration, preprocessing, weights; read safely.

Weights are tensors and never code: safetensors first, and a pickled ``pytorch_model.bin`` only through the
restricted reader of torch that builds nothing but tensors.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from subtone.errors import UpstreamError
from subtone.upstreams.base import SAMPLE_RATE_HZ
from subtone.upstreams.safety import refuse_code

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Parts that inference never uses: their absence does not make a checkpoint incomplete.
_OPTIONAL = ("masked_spec_embed", "num_batches_tracked")


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose configuration has been read and found acceptable; the weights are still on disk.

    Attributes
    ----------
    folder
        Where it lies.
    name
        What the user called it.
    revision
        The hub's commit, or None for a folder of the user's.
    config
        ``config.json`` as it stands.
    preprocessor
        ``preprocessor_config.json`` as it stands, or None when there is none.
    """

    folder: Path
    name: str
    revision: str | None
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any] | None

    @property
    def model_type(self) -> str:
        """The family, by the name that Hugging Face gives it."""
        return str(self.config["model_type"])


def open_checkpoint(folder: Path, name: str, revision: str | None = None) -> Checkpoint:
    """Read the configuration of a folder and refuse what would need foreign code.

    Raises
    ------
    UpstreamError
        If there is no readable configuration, the folder carries code, or the audio is not 16 kHz.
    """
    config = _read_json(folder / "config.json", name)
    if config is None:
        raise UpstreamError(
            f"upstream {name!r}: {folder} has no config.json; pass the folder that holds config.json and "
            f"{WEIGHT_FILES[0]}"
        )
    if not isinstance(config.get("model_type"), str):
        raise UpstreamError(
            f"upstream {name!r}: config.json names no model_type; is it a Hugging Face model folder?"
        )
    preprocessor = _read_json(folder / "preprocessor_config.json", name)
    if preprocessor is None:
        # Newer transformers write the feature extractor inside the processor's file.
        nested = (_read_json(folder / "processor_config.json", name) or {}).get("feature_extractor")
        preprocessor = nested if isinstance(nested, dict) else None
    for document in (config, preprocessor or {}):
        if document.get("auto_map"):
            raise UpstreamError(
                f"upstream {name!r}: refused, its configuration asks to run code of its own (auto_map); "
                "Subtone never runs code from a model folder"
            )
    refuse_code(folder, name)
    rate = (preprocessor or {}).get("sampling_rate", SAMPLE_RATE_HZ)
    if rate != SAMPLE_RATE_HZ:
        raise UpstreamError(
            f"upstream {name!r} works at {rate} Hz; Subtone's upstreams work at {SAMPLE_RATE_HZ} Hz"
        )
    return Checkpoint(folder, name, revision, config, preprocessor)


def _read_json(path: Path, name: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UpstreamError(f"upstream {name!r}: cannot read {path}: {error}") from None
    if not isinstance(document, dict):
        raise UpstreamError(f"upstream {name!r}: {path} must hold a JSON object")
    return document


def load_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into a network, in the network's own precision.

    The network may be a part of the checkpoint (the encoder of a fine-tuned classifier, of an encoder and
    decoder); the rest stays on disk.

    Raises
    ------
    UpstreamError
        If a weight is missing or has another shape, so that no part is ever left random; or the file is
        unsafe or damaged.
    """
    wanted: dict[str, Tensor] = module.state_dict(keep_vars=True)
    shelf = _Shelf(checkpoint)
    prefix = _prefix(list(wanted), shelf.names)
    missing, misfits = [], []
    with torch.no_grad():
        for key, target in wanted.items():
            stored = _stored_name(prefix + key, shelf.names)
            if stored is None:
                target.zero_()
                if not key.endswith(_OPTIONAL):
                    missing.append(key)
                continue
            value = shelf.read(stored)
            if value.shape != target.shape:
                misfits.append(f"{key} is {tuple(value.shape)} instead of {tuple(target.shape)}")
            elif value.dtype == target.dtype and value.device == target.device:
                target.data = value  # of a safetensors file: its pages, which are read when they are needed
            else:
                target.copy_(value)
    if missing:
        raise UpstreamError(
            f"upstream {checkpoint.name!r}: the checkpoint lacks {len(missing)} of {len(wanted)} weights of "
            f"a {checkpoint.model_type} encoder, first {missing[0]!r}; it is incomplete or of another family"
        )
    if misfits:
        raise UpstreamError(
            f"upstream {checkpoint.name!r}: {len(misfits)} weights do not fit config.json, first {misfits[0]}"
        )


class _Shelf:
    """The tensors of a checkpoint by name, over one file or several shards."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._tensors: dict[str, Tensor] = {}
        self._files: dict[str, Any] = {}
        for path in self._paths():
            self._open(path)
        self.names = self._files.keys() | self._tensors.keys()

    def _paths(self) -> list[Path]:
        folder, name = self._checkpoint.folder, self._checkpoint.name
        for file in WEIGHT_FILES:
            if (folder / file).is_file():
                return [folder / file]
            index = _read_json(folder / f"{file}.index.json", name)
            if index is not None:
                shards = sorted({str(shard) for shard in dict(index.get("weight_map", {})).values()})
                for shard in shards:
                    if Path(shard).name != shard or not (folder / shard).is_file():
                        raise UpstreamError(
                            f"upstream {name!r}: {file}.index.json names {shard!r}, which is not there"
                        )
                return [folder / shard for shard in shards]
        raise UpstreamError(
            f"upstream {name!r}: {folder} has no weights; expected {' or '.join(WEIGHT_FILES)}"
        )

    def _open(self, path: Path) -> None:
        try:
            if path.suffix == ".safetensors":
                file = safe_open(path, framework="pt")
                names: list[str] = list(file.keys())  # type: ignore[no-untyped-call]
                self._files.update(dict.fromkeys(names, file))
            else:
                tensors = torch.load(path, map_location="cpu", weights_only=True)
                if isinstance(tensors, dict):
                    self._tensors.update({k: v for k, v in tensors.items() if isinstance(v, Tensor)})
        except pickle.UnpicklingError as error:
            first = str(error).splitlines()[0]
            raise UpstreamError(
                f"upstream {self._checkpoint.name!r}: refused, {path.name} is a pickle that holds more than "
                f"tensors, it may contain code ({first}); ask for the weights as safetensors"
            ) from None
        except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
            raise UpstreamError(
                f"upstream {self._checkpoint.name!r}: {path.name} is damaged: {error}"
            ) from None

    def read(self, name: str) -> Tensor:
        if name in self._tensors:
            return self._tensors[name]
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor


def _prefix(wanted: list[str], stored: set[str]) -> str:
    """Return what stands before the encoder's names, e.g. ``"wav2vec2."`` in a fine-tuned classifier."""
    best, most = "", -1
    for probe in wanted[:3]:
        for name in stored:
            if name != probe and not name.endswith("." + probe):
                continue
            prefix = name.removesuffix(probe)
            hits = sum(_stored_name(prefix + key, stored) is not None for key in wanted)
            if hits > most:
                best, most = prefix, hits
    return best


# Weight normalisation: torch renamed its two factors; checkpoints of both ages are around.
_RENAMED = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)


def _stored_name(name: str, stored: set[str]) -> str | None:
    if name in stored:
        return name
    for new, old in _RENAMED:
        for ours, theirs in ((new, old), (old, new)):
            if name.endswith("." + ours):
                candidate = name.removesuffix(ours) + theirs
                return candidate if candidate in stored else None
    return None
