"""Checkpoints: one safetensors file each, tensors and a JSON note, whole or not there at all; nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from subtone.errors import PretrainingError
from subtone.extraction.scratch import fsync_folder
from subtone.files import appears_whole

_NOTE = "subtone"
_MODEL, _OPTIMISER = "model/", "optimiser/"


class Checkpoints:
    """The checkpoints of a run, the newest few.

    Parameters
    ----------
    folder
        Where they lie; made when the first is written.
    keep
        How many stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """Return what is there, the newest last."""
        return sorted(self._folder.glob("step-*.safetensors"))

    def save(
        self, step: int, model: nn.Module, optimiser: torch.optim.Optimizer, note: Mapping[str, Any]
    ) -> None:
        """Write the state after a number of steps; it is on disk, whole, when this returns.

        Raises
        ------
        PretrainingError
            If it cannot be written, e.g. on a full disk; those before it stay.
        """
        tensors = {_MODEL + name: value for name, value in model.state_dict().items()}
        for name, parameter in model.named_parameters():
            for kind, value in optimiser.state.get(parameter, {}).items():
                tensors[f"{_OPTIMISER}{name}/{kind}"] = value
        self.save_tensors(step, tensors, note)

    def save_tensors(self, step: int, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Write tensors by name, as :meth:`save` does those of a model and an optimiser."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        path = self._folder / f"step-{step:09d}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with appears_whole(path) as partial:
                save_file(dict(tensors), partial, {_NOTE: json.dumps({"step": step, **note})})
            fsync_folder(self._folder)
            for old in self.paths()[: -self._keep]:
                old.unlink()
        except (OSError, SafetensorError) as error:
            raise PretrainingError(
                f"{path}: could not be written: {error}; make room, then give the same command again"
            ) from error

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Bring model and optimiser to the newest checkpoint and return its note; None where there is none.

        Raises
        ------
        PretrainingError
            If it is damaged, or of another model.
        """
        return self.load_tensors(lambda tensors: _restore(model, optimiser, tensors))

    def load_tensors(self, restore: Callable[[Mapping[str, Tensor]], None]) -> dict[str, Any] | None:
        """Hand the tensors of the newest checkpoint to ``restore`` and return its note, as :meth:`load` does."""
        paths = self.paths()
        if not paths:
            return None
        path = paths[-1]
        try:
            with safe_open(path, framework="pt") as file:
                note: dict[str, Any] = json.loads(file.metadata()[_NOTE])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            restore(tensors)
        except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise PretrainingError(
                f"{path}: is damaged ({why}); delete it and give the same command again: the run goes on from "
                f"{'the checkpoint before it' if len(paths) > 1 else 'the beginning'}"
            ) from error
        return note

    def sweep(self) -> None:
        """Delete what a killed run had half written."""
        for path in self._folder.glob(".step-*"):
            path.unlink(missing_ok=True)


def _restore(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    model.load_state_dict(
        {name[len(_MODEL) :]: value for name, value in tensors.items() if name.startswith(_MODEL)}
    )
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        if not name.startswith(_OPTIMISER):
            continue
        parameter_name, _, kind = name[len(_OPTIMISER) :].rpartition("/")
        parameter = parameters[parameter_name]
        optimiser.state[parameter][kind] = value.to(parameter.device, copy=True)
