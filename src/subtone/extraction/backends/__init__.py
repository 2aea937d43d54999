"""Engines that compute an upstream's frames: PyTorch and OpenVINO, each checked against PyTorch in float32."""

from __future__ import annotations

from subtone.extraction.backends.base import Backend, BackendError, cores
from subtone.extraction.backends.choose import open_backend
from subtone.extraction.backends.verify import Agreement, agreement, probes, reference, verify

__all__ = [
    "Agreement",
    "Backend",
    "BackendError",
    "agreement",
    "cores",
    "open_backend",
    "probes",
    "reference",
    "verify",
]
