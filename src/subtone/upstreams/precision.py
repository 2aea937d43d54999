"""Full single precision on GPUs, which otherwise round the factors of convolutions to 10 bits (TF32)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LOCK = threading.Lock()
_users = 0
_before: Any = None


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run float32 convolutions in float32: with TF32 a clip's frames would differ by 1e-3 between batches.

    The setting is one for the whole process: the last of the threads inside restores what it was.
    """
    global _users, _before
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    switch: Any
    exact: Any
    switch, name, exact = cudnn, "allow_tf32", False
    if hasattr(cudnn, "conv"):  # torch 2.9 and later
        switch, name, exact = cudnn.conv, "fp32_precision", "ieee"
    with _LOCK:
        _users += 1
        if _users == 1:
            _before = getattr(switch, name)
            setattr(switch, name, exact)
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _users == 0:
                setattr(switch, name, _before)
