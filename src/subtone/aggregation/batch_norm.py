"""Batch normalisation over valid frames whose running statistics move once a step, not once a micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from subtone.errors import UsageError

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes that train together."""


class BatchNormError(UsageError, ValueError):
    """A shape or a mask that batch normalisation cannot honour."""


class StepBatchNorm(nn.Module):
    """Normalise each channel over the valid frames of a micro-batch; in evaluation by running statistics.

    Training only notes the statistics of each micro-batch. :func:`settle` averages what a step has noted and
    moves the running statistics once. So a step's micro-batches give the same network whether one process
    accumulates them or several share them out: each is normalised by itself, and the running statistics know
    neither the order nor the process. torch's own moves at each forward, and differently in each process.

    What is noted lives outside buffers: nothing that copies or broadcasts buffers may reach it within a step.

    Parameters
    ----------
    dim : int
        Channels.
    momentum : float
        Weight of the newest step in the running statistics.
    eps : float
        Added to the variance.

    Examples
    --------
    >>> norm = StepBatchNorm(1)
    >>> norm(torch.tensor([[[1.0, 3.0, 9.0]]]), torch.tensor([[True, True, False]])).detach()
    tensor([[[-1.0000,  1.0000,  0.0000]]])
    >>> norm.settle()
    >>> norm.running_mean
    tensor([0.2000])
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
        self._noted: Tensor | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``x``.

        Parameters
        ----------
        x : Tensor
            ``(batch, channels, frames)``, or vectors ``(batch, channels)``.
        mask : Tensor, optional
            ``(batch, frames)`` bool, True where a frame is valid. Default: all are. Masked frames may hold
            anything, NaN included.

        Returns
        -------
        Tensor
            As ``x``, zero where masked; half precision is normed in, and returned as, float32. A single
            valid value normalises to zero, then gets the bias.

        Raises
        ------
        BatchNormError
            (a ``ValueError``) If ``x`` or ``mask`` has another shape.
        """
        self._check(x, mask)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        hidden = None if mask is None else ~mask[:, None]  # (batch, 1, frames)
        if not self.training:
            stats = (self.running_mean, self.running_var, self.weight, self.bias)
            return _zeroed(F.batch_norm(_zeroed(x, hidden), *stats, False, 0.0, self.eps), hidden)
        if hidden is None and x.numel() > x.shape[1]:
            return self._over_all(x)
        # torch's kernel refuses a single value a channel; the one for masks takes it.
        rows = x if x.dim() == 3 else x[..., None]  # (batch, channels, frames)
        hidden = torch.zeros_like(rows[:, :1], dtype=torch.bool) if hidden is None else hidden
        return self._over_valid(rows, hidden).reshape_as(x)

    def settle(self, reduce: Reduce | None = None) -> None:
        """Move the running statistics by what this step has noted; see the function :func:`settle`."""
        settle(self, reduce)

    def _over_all(self, x: Tensor) -> Tensor:
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # With a momentum of 1, torch's kernel leaves the batch's own statistics where running ones would be.
        normed = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        self._note(mean, variance)
        return normed

    def _over_valid(self, x: Tensor, hidden: Tensor) -> Tensor:
        valid = (~hidden).sum()  # stays a tensor: asking for its value would wait for a GPU
        count = valid.clamp(min=1)
        normed: Tensor
        normed, mean, variance = _NormValid.apply(x, hidden, count, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        self._note(mean, variance * (count / (count - 1).clamp(min=1)), valid)
        return normed

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor, valid: Tensor | None = None) -> None:
        # A micro-batch without a valid frame has mean and variance 0; it isn't counted.
        count = torch.ones_like(mean[:1]) if valid is None else (valid > 0).to(mean.dtype)[None]
        # Summed in float64, so that the order of the micro-batches is lost when the sum is rounded.
        noted = torch.cat([mean, variance, count]).to(_exact(mean))  # (2 * channels + 1,)
        self._noted = noted if self._noted is None else self._noted + noted

    def _check(self, x: Tensor, mask: Tensor | None) -> None:
        dim = len(self.weight)
        if x.dim() not in (2, 3) or x.shape[1] != dim:
            raise BatchNormError(
                f"x must be (batch, channels = {dim}, frames) or (batch, channels = {dim}), got {tuple(x.shape)}"
            )
        wanted = (x.shape[0], *x.shape[2:])
        if mask is not None and (x.dim() != 3 or mask.dtype != torch.bool or mask.shape != wanted):
            raise BatchNormError(
                "mask must be bool (batch, frames) beside x (batch, channels, frames), "
                f"got {mask.dtype} {tuple(mask.shape)} beside {tuple(x.shape)}"
            )


@torch.no_grad()
def settle(network: nn.Module, reduce: Reduce | None = None) -> None:
    """Move the running statistics of all :class:`StepBatchNorm` in a network, once a step.

    Each moves towards the average of the means and unbiased variances that its micro-batches have noted; one
    that has noted nothing, in any process, stays.

    Parameters
    ----------
    network : Module
        That trains.
    reduce : callable, optional
        Sums a float64 vector over the processes; called once for the whole network, in each of them, also in
        one that had no micro-batch. Default: this process is alone.
    """
    norms = [module for module in network.modules() if isinstance(module, StepBatchNorm)]
    if not norms:
        return
    sizes = [2 * len(norm.weight) + 1 for norm in norms]
    noted = torch.cat(
        [
            norm.weight.new_zeros(size, dtype=_exact(norm.weight)) if norm._noted is None else norm._noted
            for norm, size in zip(norms, sizes, strict=True)
        ]
    )
    if reduce is not None:
        noted = reduce(noted)
    for norm, total in zip(norms, torch.split(noted, sizes), strict=True):
        count = total[-1]
        mean, variance = (total[:-1] / count.clamp(min=1)).to(norm.running_mean.dtype).chunk(2)
        share = norm.momentum * (count > 0).to(mean.dtype)
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance, share)
        norm._noted = None


class _NormValid(torch.autograd.Function):
    """Batch norm over what isn't hidden, with mean and biased variance beside.

    Left to autograd, the same lines take more than half as long again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, hidden: Tensor, count: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.masked_fill(hidden, 0)  # (batch, channels, frames)
        mean = x.sum((0, 2)) / count
        centred = x.sub_(mean[:, None]).masked_fill_(hidden, 0)
        variance = centred.square().sum((0, 2)) / count
        inverse = torch.rsqrt(variance + eps)  # (channels,)
        ctx.save_for_backward(centred, hidden, count, weight, inverse)
        ctx.mark_non_differentiable(mean, variance)
        normed = torch.addcmul(bias[:, None], centred, (inverse * weight)[:, None])
        return normed.masked_fill_(hidden, 0), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _mean: Tensor, _variance: Tensor) -> tuple[Tensor | None, ...]:
        centred, hidden, count, weight, inverse = ctx.saved_tensors
        gradient = gradient.masked_fill(hidden, 0)
        to_bias = gradient.sum((0, 2))
        to_weight = (gradient * centred).sum((0, 2)) * inverse
        # What moves mean and variance along with x is no change of the normed value.
        to_x = torch.addcmul(gradient, centred, (to_weight * inverse / -count)[:, None])
        to_x = to_x.sub_((to_bias / count)[:, None]).mul_((weight * inverse)[:, None])
        return to_x.masked_fill_(hidden, 0), None, None, to_weight, to_bias, None


def _zeroed(x: Tensor, hidden: Tensor | None) -> Tensor:
    return x if hidden is None else x.masked_fill(hidden, 0)


def _exact(beside: Tensor) -> torch.dtype:
    return torch.float32 if beside.device.type == "mps" else torch.float64  # MPS has no float64
