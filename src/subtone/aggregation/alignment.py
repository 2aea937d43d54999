"""Frames of one upstream brought onto the frame grid of another, so that both can be joined frame by frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from subtone.errors import UsageError
from subtone.upstreams import FrameGrid


def align(frames: Tensor, mask: Tensor, source: FrameGrid, target: FrameGrid, onto: Tensor) -> Tensor:
    """Average the frames of each clip over the hop cells of a coarser grid.

    A target frame is the mean of the source frames whose centres lie in its hop cell; where there is none (equal
    hops, an end that one grid reaches and the other does not), the frame of the clip whose centre is nearest.

    Parameters
    ----------
    frames : Tensor
        ``(batch, frames, dim)`` on the source grid; masked frames may hold anything.
    mask : Tensor
        ``(batch, frames)`` bool, True at a clip's frames, which come first.
    source, target : FrameGrid
        The two grids; the target's hop is at least the source's.
    onto : Tensor
        ``(batch, target frames)`` bool, the mask on the target grid.

    Returns
    -------
    Tensor
        ``(batch, target frames, dim)``; zero where ``onto`` is False.

    Raises
    ------
    UsageError
        If the target's hop is the smaller, or the sampling rates differ.

    Examples
    --------
    >>> fine, coarse = FrameGrid(hop=2, window=2, offset=0), FrameGrid(hop=4, window=4, offset=0)
    >>> two, four = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    >>> align(torch.tensor([[[1.0], [3.0], [5.0], [9.0]]]), four, fine, coarse, two)
    tensor([[[2.],
             [7.]]])
    """
    if source.sample_rate_hz != target.sample_rate_hz:
        raise UsageError(
            f"frames at {source.sample_rate_hz} Hz cannot be brought onto a grid at {target.sample_rate_hz} Hz"
        )
    if target.hop < source.hop:
        raise UsageError(
            f"frames of hop {source.hop} cannot be brought onto the finer grid of hop {target.hop}; exchange the two"
        )
    if source == target and torch.equal(mask, onto):
        return frames.masked_fill(~onto[..., None], 0)
    device = frames.device
    position = torch.arange(onto.shape[1], device=device)
    # In half samples, so that everything stays a whole number.
    begin = 2 * (target.offset + target.hop * position) - 2 * source.offset - source.hop  # (target frames,)
    first = -torch.div(
        -begin, 2 * source.hop, rounding_mode="floor"
    )  # the first centre at or behind the cell's start
    stop = -torch.div(-(begin + 2 * target.hop), 2 * source.hop, rounding_mode="floor")
    middle = torch.div(
        begin + target.hop + source.hop, 2 * source.hop, rounding_mode="floor"
    )  # the nearest centre
    lengths = mask.sum(1)  # (batch,)
    last = (lengths - 1).clamp_min(0)[:, None]  # (batch, 1)
    total = torch.zeros(*onto.shape, frames.shape[2], dtype=frames.dtype, device=device)
    count = torch.zeros(onto.shape, dtype=frames.dtype, device=device)
    for step in range(math.ceil(target.hop / source.hop) + 1):
        index = first + step  # (target frames,)
        there = (index < stop) & (index >= 0) & (index <= last)  # (batch, target frames)
        taken = _take(frames, index.clamp_min(0).expand_as(onto).minimum(last))
        total = total + taken.masked_fill(~there[..., None], 0)
        count = count + there
    nearest = _take(frames, middle.clamp_min(0).expand_as(onto).minimum(last))
    found = torch.where((count > 0)[..., None], total / count.clamp_min(1)[..., None], nearest)
    return found.masked_fill(~onto[..., None], 0)  # (batch, target frames, dim)


def _take(frames: Tensor, index: Tensor) -> Tensor:
    return frames.gather(1, index[..., None].expand(-1, -1, frames.shape[2]))  # (batch, target frames, dim)
