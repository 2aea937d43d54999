"""Batches of end-to-end training: every clip once an epoch, within the budget, a function of seed and epoch alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.training.end_to_end.plan import Plan, ordered

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 800), st.integers(0, 3), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_clip_once_within_the_budget(
    lengths: list[int], budget: int, epoch: int, seed: int
) -> None:
    plan = Plan(np.arange(len(lengths)), np.array(lengths), budget, batches_per_step=2, epochs=4, seed=seed)
    batches = plan.batches(epoch)
    assert sorted(piece.clip for batch in batches for piece in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(piece.length for piece in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
        assert all(piece.start == 0 and piece.length == lengths[piece.clip] for piece in batch)
    assert plan.batches(epoch) == batches
    assert plan.steps_of(epoch) == -(-len(batches) // 2)


@given(LENGTHS, st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_a_crop_lies_inside_its_clip(lengths: list[int], crop: int) -> None:
    plan = Plan(np.arange(len(lengths)), np.array(lengths), 1000, 1, 1, crop=crop)
    for batch in plan.batches(0):
        for piece in batch:
            assert piece.length == min(crop, lengths[piece.clip])
            assert 0 <= piece.start <= lengths[piece.clip] - piece.length


def test_epochs_differ_and_so_do_the_seeds_of_a_clip() -> None:
    plan = Plan(np.arange(50), np.full(50, 10), 40, 1, 2, seed=1)
    orders = [[piece.clip for batch in plan.batches(epoch) for piece in batch] for epoch in (0, 1)]
    seeds = [{piece.clip: piece.seed for b in plan.batches(e) for piece in b} for e in (0, 1)]
    assert orders[0] != orders[1]
    assert all(seeds[0][clip] != seeds[1][clip] for clip in range(50))
    assert len(set(seeds[0].values())) == 50


def test_little_of_a_batch_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(100, 1000, 400)
    batches = Plan(np.arange(400), lengths, 16_000, 1, 1).batches(0)
    places = sum(max(piece.length for piece in batch) * len(batch) for batch in batches)
    assert lengths.sum() / places > 0.9


@given(LENGTHS, st.integers(1, 800))
@settings(max_examples=40, deadline=None)
def test_scoring_goes_through_all_rows_by_length(lengths: list[int], budget: int) -> None:
    groups = ordered(np.arange(len(lengths)), np.array(lengths), budget)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    longest = [max(lengths[row] for row in group) for group in groups]
    assert longest == sorted(longest)
