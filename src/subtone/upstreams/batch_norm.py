"""Batch normalisation whose statistics are those of valid frames only, of all processes that train together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional


class ValidBatchNorm(nn.Module):
    """Normalise each channel over the valid frames of a batch; in evaluation by running statistics.

    Where several processes train together (``torch.distributed``), the batch is that of all of them.

    Parameters
    ----------
    dim
        Channels.
    momentum
        Weight of the newest batch in the running statistics.
    eps
        Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, frames: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise ``(batch, frames, dim)``.

        Parameters
        ----------
        frames
            To be normalised.
        valid
            ``(valid,)`` int64, places of the valid frames among ``batch * frames``; None where all are.

        Returns
        -------
        Tensor
            ``(batch, frames, dim)``; in training zero where not valid.
        """
        flat = frames.reshape(-1, frames.shape[-1])  # (batch * frames, dim)
        if not self.training or valid is None:
            return self._normalise(flat).reshape(frames.shape)
        packed = self._normalise(flat.index_select(0, valid))  # (valid, dim)
        return torch.zeros_like(flat, dtype=packed.dtype).index_copy(0, valid, packed).reshape(frames.shape)

    def _normalise(self, rows: Tensor) -> Tensor:
        if self.training and _several_processes():
            return self._normalise_together(rows)
        return functional.batch_norm(
            rows,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def _normalise_together(self, rows: Tensor) -> Tensor:
        rows = rows.float()
        own = torch.cat([rows.sum(0), rows.new_tensor([len(rows)])])  # (dim + 1,)
        total = _over_all(own)
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = rows - mean
        variance = _over_all(centred.square().sum(0)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        return torch.addcmul(self.bias, centred, torch.rsqrt(variance + self.eps) * self.weight)


def _several_processes() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _OverAll(torch.autograd.Function):
    """The sum of a tensor over all processes; each one's loss reaches the tensors of all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ARG004
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _over_all(own: Tensor) -> Tensor:
    total: Tensor = _OverAll.apply(own)  # type: ignore[no-untyped-call]
    return total
