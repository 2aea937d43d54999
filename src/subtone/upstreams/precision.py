"""Full single precision on GPUs, which otherwise round the factors of convolutions to 10 bits (TF32)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run float32 convolutions in float32: with TF32 a clip's frames would differ by 1e-3 between batches."""
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    switch: Any
    exact: Any
    switch, name, exact = cudnn, "allow_tf32", False
    if hasattr(cudnn, "conv"):  # torch 2.9 and later
        switch, name, exact = cudnn.conv, "fp32_precision", "ieee"
    before = getattr(switch, name)
    setattr(switch, name, exact)
    try:
        yield
    finally:
        setattr(switch, name, before)
