"""Frames on another grid: what a slow, obvious mean over cells gives, and the same alone as in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.aggregation import align
from subtone.errors import UsageError
from subtone.upstreams import FrameGrid

GRIDS = st.tuples(st.integers(1, 6), st.integers(-4, 4)).map(
    lambda t: FrameGrid(hop=t[0], window=t[0], offset=t[1])
)


def slowly(frames: np.ndarray, source: FrameGrid, target: FrameGrid, count: int) -> np.ndarray:
    """Average over the hop cells of the target, one by one; see `align`."""
    centres = np.array([source.offset + source.hop * t + source.hop / 2 for t in range(len(frames))])
    found = []
    for t in range(count):
        start = target.offset + target.hop * t
        inside = (centres >= start) & (centres < start + target.hop)
        if inside.any():
            found.append(frames[inside].mean(0))
        else:
            gaps = np.abs(centres - (start + target.hop / 2))
            nearest = [i for i in range(len(frames)) if gaps[i] == gaps.min()]
            found.append(frames[nearest[-1]])  # of two as near, the later
    return np.array(found)


@given(
    GRIDS,
    GRIDS,
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 8)), min_size=1, max_size=4),
    st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_alignment_is_the_mean_over_cells_whatever_the_batch(
    one: FrameGrid, other: FrameGrid, sizes: list[tuple[int, int]], seed: int
) -> None:
    source, target = sorted((one, other), key=lambda grid: grid.hop)
    chance = np.random.default_rng(seed)
    widest, most = max(n for n, _ in sizes), max(m for _, m in sizes)
    frames = chance.normal(size=(len(sizes), widest, 3))
    mask = np.arange(widest) < np.array([n for n, _ in sizes])[:, None]
    onto = np.arange(most) < np.array([m for _, m in sizes])[:, None]
    frames[~mask] = 1e6
    got = align(*map(torch.from_numpy, (frames, mask)), source, target, torch.from_numpy(onto)).numpy()
    for row, (n, m) in enumerate(sizes):
        np.testing.assert_allclose(got[row, :m], slowly(frames[row, :n], source, target, m), atol=1e-9)
        assert not got[row, m:].any()


def test_a_finer_grid_is_refused() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(UsageError, match="exchange the two"):
        align(torch.zeros(1, 2, 1), mask, FrameGrid(4, 4, 0), FrameGrid(2, 2, 0), mask)
