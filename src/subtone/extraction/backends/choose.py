"""Which engine: the one asked for, or the best that is there; checked before it is handed out."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, get_args

import torch

from subtone.errors import UsageError, nearest
from subtone.extraction.backends.base import Backend, BackendError
from subtone.extraction.backends.openvino_backend import OpenVinoBackend
from subtone.extraction.backends.products import onednn_multiplies
from subtone.extraction.backends.torch_backend import BatchedTorchBackend, TorchBackend
from subtone.extraction.backends.verify import reference, verify
from subtone.extraction.options import BackendName, Precision
from subtone.upstreams import Upstream


def open_backend(
    upstream: Upstream,
    backend: BackendName = "auto",
    precision: Precision = "fp32",
    *,
    stored: Mapping[str, Any] | None = None,
) -> Backend:
    """Open the engine that computes an upstream's frames, and check it against PyTorch in float32.

    Parameters
    ----------
    upstream
        In float32; on an accelerator, that is where the frames are computed.
    backend
        ``"auto"`` takes what ``stored`` was made with. Else, on a CPU, OpenVINO where it is installed and can run the
        upstream; but for fp32 PyTorch, where that has oneDNN's products, which are as fast and need no conversion.
    precision
        ``"fp32"`` is within 1e-4 of PyTorch one clip at a time; with the others, pooled features have a cosine of at
        least 0.999 with those. ``"fp16"`` is for CUDA, ``"int8"`` for OpenVINO.
    stored
        `Backend.config` of what an existing store was made with. Its precision is not taken over: that is the
        caller's to choose, and the store's to compare.

    Returns
    -------
    Backend
        Use it as a context manager.

    Raises
    ------
    UsageError
        If a name is unknown, an engine is not installed, or cannot run with this precision or device.
    BackendError
        If no engine that was asked for can run the upstream, or not precisely enough.

    Examples
    --------
    >>> from subtone.upstreams import load
    >>> open_backend(load("fbank:40"))
    TorchBackend('fbank:40', precision='fp32', streams=...)
    """
    for what, value, known in (
        ("backend", backend, get_args(BackendName)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in known:
            raise UsageError(f"{what} {value!r} is not known; {nearest(str(value), known)}")
    if upstream.module is not None and next(upstream.module.parameters()).dtype != torch.float32:
        raise UsageError(
            f"upstream {upstream.name} is not in float32; load it without a dtype and choose a precision instead"
        )
    if upstream.core() is None:  # filter banks: nothing that another engine or precision could do
        return _without_network(upstream, backend)
    names = _candidates(upstream, precision, stored) if backend == "auto" else [backend]
    wanted = reference(upstream)
    for name in names:
        opened: Backend | None = None
        try:
            opened = _open(name, upstream, precision)
            verify(opened, wanted)
        except BackendError:
            if opened is not None:
                opened.close()
            if name == names[-1]:
                raise
        else:
            return opened
    raise AssertionError("there is always a candidate")


def _without_network(upstream: Upstream, backend: BackendName) -> Backend:
    if backend == "openvino":
        raise BackendError(
            f"backend openvino: {upstream.name} has no network to run; leave the backend to auto"
        )
    return TorchBackend(upstream, "fp32")


def _candidates(upstream: Upstream, precision: Precision, stored: Mapping[str, Any] | None) -> list[str]:
    """Return the engines to try, best first; the last one's error is the caller's."""
    if upstream.device.type != "cpu" or precision == "fp16":
        return ["torch"]
    if precision == "int8":
        return ["openvino"]
    names = ["openvino", "torch"] if importlib.util.find_spec("openvino") is not None else ["torch"]
    if precision == "fp32" and onednn_multiplies(torch.float32):
        names.reverse()
    before = None if stored is None else stored.get("name")
    return [str(before), *names] if before in names else names


def _open(name: str, upstream: Upstream, precision: Precision) -> Backend:
    if name == "openvino":
        return OpenVinoBackend(upstream, precision)
    if precision == "int8":
        raise UsageError(
            "precision int8 needs backend openvino: leave the backend to auto, with pip install 'subtone[openvino]'"
        )
    if upstream.device.type != "cpu":
        return BatchedTorchBackend(upstream, precision)
    if precision == "fp16":
        raise UsageError("precision fp16 is for CUDA; on a CPU choose bf16 or int8")
    return TorchBackend(upstream, precision)
