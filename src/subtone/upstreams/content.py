"""What tells networks apart: the content of their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def content_digest(module: nn.Module, header: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a header and all weights, by name, type, shape and value."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key, weights in sorted(module.state_dict().items()):
        tensor = weights.detach().cpu().contiguous()
        digest.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_version(module: nn.Module) -> tuple[Any, ...]:
    """Return what changes whenever a weight does, without looking at the weights."""
    state = module.state_dict(keep_vars=True)
    return tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in state.values())
