"""The state of a training as whole tensors by name, however its weights are spread over processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_MODEL, _OPTIMISER = "model/", "optimiser/"


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU with all its parts; all processes must ask for it together when it is spread."""
    gathered = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    copied: Tensor = gathered.detach().cpu().clone()
    return copied


def collect(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what training changes: trained parameters, buffers, and what the optimiser remembers of each."""
    tensors = {_MODEL + name: whole(p) for name, p in network.named_parameters() if p.requires_grad}
    tensors |= {_MODEL + name: whole(buffer) for name, buffer in network.named_buffers()}
    for name, parameter in network.named_parameters():
        for kind, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{_OPTIMISER}{name}/{kind}"] = whole(value)
    return tensors


def restore(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Bring network and optimiser to what :func:`collect` returned.

    Raises
    ------
    KeyError
        If the tensors are of another network.
    """
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                _put(parameter, tensors[_MODEL + name])
        for name, buffer in network.named_buffers():
            _put(buffer, tensors[_MODEL + name])
    for name, value in tensors.items():
        if not name.startswith(_OPTIMISER):
            continue
        parameter_name, _, kind = name[len(_OPTIMISER) :].rpartition("/")
        parameter = parameters[parameter_name]
        # As the optimiser itself has it: a count of steps is one number, whatever else is spread.
        same = value.shape == parameter.shape and value.dim() > 0
        optimiser.state[parameter][kind] = (
            _like(parameter, value) if same else value.to(parameter.device, copy=True)
        )


def _put(target: Tensor, value: Tensor) -> None:
    target.copy_(_like(target, value))


def _like(target: Tensor, value: Tensor) -> Tensor:
    """Return a whole tensor spread as another is."""
    value = value.to(device=target.device, dtype=target.dtype, copy=True)
    if not hasattr(target, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(target, DTensor)
    return distribute_tensor(value, target.device_mesh, target.placements)
