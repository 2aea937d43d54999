"""Runs of speech in an utterance: number them, count their frames, let them attend to each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subtone.errors import UsageError


class RunsError(UsageError, ValueError):
    """A size that attention over runs cannot honour."""


def speech_runs(speech: Tensor, mask: Tensor | None = None) -> Tensor:
    """Number the runs of speech in each row from 0; -1 where there is no speech.

    >>> speech_runs(torch.tensor([[True, True, False, True, False]]))
    tensor([[ 0,  0, -1,  1, -1]])
    """
    mask = torch.ones_like(speech) if mask is None else mask
    speech = speech & mask
    # Speech frames with no pause between them are one run. As many pauses lie before each of them, so that
    # count names the run; the names that occur are numbered through.
    names = (mask & ~speech).cumsum(1)  # (batch, frames), each 0..frames
    sizes = names.new_zeros(len(names), names.shape[1] + 1).scatter_add(1, names, speech.long())
    ids = (sizes > 0).cumsum(1).gather(1, names) - 1  # (batch, frames)
    return ids.masked_fill(~speech, -1)


def run_lengths(ids: Tensor) -> Tensor:
    """Count the frames of each numbered run, ``(batch, runs)``; 0 behind a row's last run.

    >>> run_lengths(torch.tensor([[0, 0, -1, 1, -1]]))
    tensor([[2, 1]])
    """
    runs = int(ids.max()) + 1 if len(ids) else 1
    return ids.new_zeros(len(ids), runs).scatter_add(1, ids.clamp_min(0), (ids >= 0).long())


class SegmentAttention(nn.Module):
    """Multi-head self-attention over the runs s of an utterance: ``s + Attention(LayerNorm(s))``.

    The norm stands before the attention, not behind the sum, so that attended runs keep the scale of the
    frames. An utterance of one run has nothing to attend to: it passes through unchanged.

    Parameters
    ----------
    dim : int
        Size of a frame.
    heads : int
        Attention heads; divides ``dim``.

    Examples
    --------
    >>> SegmentAttention(8, heads=2)(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        if dim < 1 or heads < 1 or dim % heads:
            raise RunsError(f"heads = {heads} must be positive and divide dim = {dim}")
        self.dim = dim
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, runs: Tensor, run_mask: Tensor) -> Tensor:
        """Attend over ``runs`` ``(batch, runs, dim)``, those where ``run_mask`` ``(batch, runs)`` is True.

        Returns
        -------
        Tensor
            ``(batch, runs, dim)``; zeros where ``run_mask`` is False.

        Raises
        ------
        RunsError
            (a ``ValueError``) If ``runs`` has another ``dim``.
        """
        if runs.shape[-1] != self.dim:
            raise RunsError(f"attention was built for dim = {self.dim}, the frames have {runs.shape[-1]}")
        padding = ~run_mask[..., None]  # (batch, runs, 1)
        runs = runs.masked_fill(padding, 0)
        mixed = self.queries_keys_values(self.norm(runs)).unflatten(-1, (3, self.heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (batch, heads, runs, dim / heads)
        heard = _attend(query, key, value, run_mask).transpose(1, 2).flatten(2)  # (batch, runs, dim)
        return _unless_alone(runs + self.out(heard), runs, run_mask).masked_fill(padding, 0)


def plain_attention(runs: Tensor, run_mask: Tensor) -> Tensor:
    """Attend without parameters: one head, identity projections, ``softmax(s sᵀ / sqrt(dim)) s``.

    >>> runs = torch.tensor([[[1.0], [1.0], [7.0]]])
    >>> plain_attention(runs, torch.tensor([[True, True, False]]))[0, :2]
    tensor([[1.],
            [1.]])
    """
    one_head = runs[:, None]  # (batch, 1, runs, dim)
    return _unless_alone(_attend(one_head, one_head, one_head, run_mask)[:, 0], runs, run_mask)


def _attend(query: Tensor, key: Tensor, value: Tensor, run_mask: Tensor) -> Tensor:
    # Padding attends to itself: a softmax over nothing is NaN before torch 2.5, and so is its gradient.
    itself = torch.eye(run_mask.shape[1], dtype=torch.bool, device=run_mask.device)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=run_mask[:, None, None, :] | itself)


def _unless_alone(attended: Tensor, runs: Tensor, run_mask: Tensor) -> Tensor:
    several = run_mask.sum(1) > 1
    return torch.where(several[:, None, None], attended, runs)
