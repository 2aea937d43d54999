"""PyTorch as an engine: a clip a call on a CPU, batches on an accelerator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch import Tensor, nn

from subtone.extraction.backends.base import Backend, cores, paired
from subtone.extraction.backends.products import rebuilt
from subtone.extraction.options import Precision
from subtone.upstreams import Survey, Upstream, Wave
from subtone.upstreams.mode import evaluation
from subtone.upstreams.precision import full_precision

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
#: Memory that a second of audio takes in a batch at most, wav2vec2-large in float32; half of what is free is used.
_BYTES_A_SECOND = 64 * 2**20
_MOST_BATCH_S = 640.0


class TorchBackend(Backend):
    """One clip a call: `Upstream.front` in float32, then the network rebuilt for the CPU's matrix kernels.

    Parameters
    ----------
    upstream
        On a CPU, in float32.
    precision
        ``"fp32"`` shares the weights with the upstream, ``"bf16"`` has its own.
    """

    name = "torch"
    batch_s = 0.0

    def __init__(self, upstream: Upstream, precision: Precision) -> None:
        self.upstream, self.precision = upstream, precision
        self.streams = cores()
        core = upstream.core()
        self._network: nn.Module | None = None
        if core is not None:
            self._network = rebuilt(core, DTYPES[precision]).eval()

    @torch.no_grad()  # not inference mode: filters that the upstream keeps are made here, and others need gradients
    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> list[Tensor]:
        """Return ``(layers, frames, dim)`` of each clip; see `Backend.encode`."""
        self._check_open()
        return [self._one(wave, survey) for wave, survey in paired(waves, surveys)]

    def _one(self, wave: Wave, survey: Survey | None) -> Tensor:
        return _layers(self.upstream.front(wave, survey), self._network)

    def versions(self) -> dict[str, str]:
        """Return the release of torch."""
        return {"torch": version("torch")}

    def close(self) -> None:
        """Give back weights that are not the upstream's."""
        super().close()
        self._network = None


class BatchedTorchBackend(Backend):
    """Padded batches in one call, for accelerators; `Upstream.encode` keeps the clips from one another.

    Attention is torch's fused one, and float32 is float32: TF32 is off inside the upstream's convolutions and, unless
    a program turns it on, in products of matrices.

    Parameters
    ----------
    upstream
        In float32.
    precision
        ``"bf16"`` and ``"fp16"`` have weights of their own.
    """

    name = "torch"
    streams = 1

    def __init__(self, upstream: Upstream, precision: Precision) -> None:
        self.upstream, self.precision = upstream, precision
        self.batch_s = _batch_s(upstream.device)
        self._network = upstream
        if DTYPES[precision] != torch.float32 and upstream.module is not None:
            self._network = copy.deepcopy(upstream)
            assert self._network.module is not None
            self._network.module.to(DTYPES[precision])

    @torch.no_grad()
    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> list[Tensor]:
        """Return ``(layers, frames, dim)`` of each clip; see `Backend.encode`."""
        self._check_open()
        pairs = paired(waves, surveys)
        whole = [wave for wave, survey in pairs if survey is None]
        done = iter(self._batch(whole) if whole else [])
        return [next(done) if survey is None else self._chunk(wave, survey) for wave, survey in pairs]

    def _batch(self, waves: Sequence[Wave]) -> list[Tensor]:
        with evaluation(self._network.module):
            encoded = self._network.encode(waves)
        lengths = encoded.mask.sum(dim=1).tolist()
        return [
            frames[:, :length].float() for frames, length in zip(encoded.frames, lengths, strict=True)
        ]  # each (layers, frames, dim)

    def _chunk(self, wave: Wave, survey: Survey) -> Tensor:
        with evaluation(self._network.module), full_precision(self.device):
            return _layers(self._network.front(wave, survey), self._network.core())

    def versions(self) -> dict[str, str]:
        """Return the release of torch."""
        return {"torch": version("torch")}


def _layers(inputs: Tensor, network: nn.Module | None) -> Tensor:
    """Return ``(layers, frames, dim)`` float32 of ``(channels, inputs)``, or of frames where no network follows."""
    frames: Tensor = inputs.T[None] if network is None else network(inputs[None])
    return frames.float()


def _batch_s(device: torch.device) -> float:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 8 * 2**30
    return min(_MOST_BATCH_S, free / 2 / _BYTES_A_SECOND)
