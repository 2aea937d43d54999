"""Position embeddings of conformers without a memory: the same numbers whatever clip, or thread, came before.

The published modules keep the embeddings of the last length in an attribute. Two threads with clips of different
lengths can so be given each other's, and a traced copy is bound to the length that it was traced with.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class RotaryPositions(nn.Module):
    """Cosines and sines of rotary embeddings, ``(2, frames, 1, 1, head_dim)``, for ``(batch, frames, dim)``.

    Parameters
    ----------
    published
        The module it stands for; its frequencies are taken over under their name, as one of the weights or not.
    """

    inv_freq: Tensor

    def __init__(self, published: Any) -> None:
        super().__init__()
        stored = "inv_freq" in published.state_dict()
        self.register_buffer("inv_freq", published.inv_freq, persistent=stored)  # (head_dim / 2,)

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        times = torch.arange(hidden.shape[1], device=hidden.device).to(self.inv_freq.dtype)  # (frames,)
        angles = times[:, None] * self.inv_freq  # (frames, head_dim / 2)
        angles = torch.cat([angles, angles], dim=-1)[:, None, None, :]  # (frames, 1, 1, head_dim)
        return torch.stack([angles.cos(), angles.sin()]).to(hidden.dtype)


class RelativePositions(nn.Module):
    """Sinusoids of the distances from ``frames - 1`` down to ``1 - frames``, ``(1, 2 frames - 1, dim)``.

    Parameters
    ----------
    published
        The module it stands for.
    """

    def __init__(self, published: Any) -> None:
        super().__init__()
        self.dim = int(published.d_model)

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        num_frames, device = hidden.shape[1], hidden.device
        distances = torch.arange(num_frames - 1, -num_frames, -1, device=device).float()  # (2 frames - 1,)
        rates = torch.exp(
            torch.arange(0, self.dim, 2, device=device).float() * -(math.log(10000.0) / self.dim)
        )  # (dim / 2,)
        angles = distances[:, None] * rates  # (2 frames - 1, dim / 2)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (2 frames - 1, dim)
        return waves[None].to(hidden.dtype)


def forget_positions(encoder: Any) -> None:
    """Put modules without a memory in the place of the published position embeddings, if an encoder has any."""
    published = getattr(encoder, "embed_positions", None)
    if hasattr(published, "inv_freq"):
        encoder.embed_positions = RotaryPositions(published)
    elif hasattr(published, "extend_pe"):
        encoder.embed_positions = RelativePositions(published)
