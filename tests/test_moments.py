"""Moments: frames pooled a stretch at a time give what they give when pooled at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from subtone import pooling
from subtone.extraction.moments import FrameWeights, Moments, merge, moments, statistics, weigh
from subtone.pooling import STATISTICS, WEIGHTINGS, PoolingError, pool
from tests.pooling_cases import NAMES, calm


@pytest.fixture(autouse=True)
def own_weightings() -> Iterator[None]:
    """Take back what a test registers."""
    kept = dict(STATISTICS), dict(WEIGHTINGS)
    yield
    for registry, before in zip((STATISTICS, WEIGHTINGS), kept, strict=True):
        registry.clear()
        registry.update(before)


def cut_up(frames: Tensor, weights: FrameWeights, cuts: list[int]) -> list[Moments]:
    bounds = [0, *sorted(set(cuts) - {0, frames.shape[1]}), frames.shape[1]]
    places = [slice(a, b) for a, b in pairwise(bounds)]
    return [moments(frames[:, place], weights, place) for place in places]


def pooled_at_once(frames: Tensor, speech: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    spoken = torch.from_numpy(speech)[None]
    layers = [pool(layer[None].double(), torch.ones_like(spoken), spoken, names) for layer in frames]
    return {name: torch.cat([layer[name] for layer in layers]).numpy() for name in names}


@calm
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.lists(st.integers(1, 39)), st.randoms())
def test_stretches_merged_in_any_order_are_the_pooling_of_all_frames(
    flags: list[bool], cuts: list[int], random: object
) -> None:
    speech = np.array(flags)
    frames = 5 + torch.randn(3, len(flags), 4, generator=torch.Generator().manual_seed(len(flags)))
    weights = weigh(NAMES, speech)
    parts = cut_up(frames, weights, [cut for cut in cuts if cut < len(flags)])
    found = statistics(merge(parts), weights, NAMES)
    wanted = pooled_at_once(frames, speech, NAMES)
    assert list(found) == list(NAMES)
    for name in NAMES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)
    random.shuffle(parts)  # type: ignore[attr-defined]
    again = statistics(merge(parts), weights, NAMES)
    assert all(np.array_equal(again[name], found[name]) for name in NAMES)


def test_frames_wider_than_a_block_are_pooled_the_same() -> None:
    speech = np.arange(900) % 7 < 4
    frames = torch.randn(2, 900, 300, generator=torch.Generator().manual_seed(1))
    weights = weigh(NAMES, speech)
    found = statistics(merge(cut_up(frames, weights, [1, 450])), weights, NAMES)
    for name, wanted in pooled_at_once(frames, speech, NAMES).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)


def test_a_small_deviation_far_from_zero_keeps_its_digits() -> None:
    speech = np.ones(2_000, bool)
    frames = 1e4 + 0.1 * torch.randn(1, 2_000, 3, generator=torch.Generator().manual_seed(2))
    frames[:, 1_000:] -= 3e4
    weights = weigh(["gap_std"], speech)
    found = statistics(merge(cut_up(frames, weights, [300, 1_000])), weights, ["gap_std"])["gap_std"]
    np.testing.assert_allclose(found[0], frames[0].double().numpy().std(0), rtol=1e-6)
    first = statistics(moments(frames[:, :300], weights, slice(0, 300)), weights, ["gap_std"])["gap_std"]
    np.testing.assert_allclose(first[0], frames[0, :300].double().numpy().std(0), rtol=1e-6)


def test_frames_that_do_not_move_have_no_deviation() -> None:
    speech = np.array([True, False] * 20)
    frames = torch.full((2, 40, 3), 0.1)
    weights = weigh(NAMES, speech)
    found = statistics(merge(cut_up(frames, weights, [7, 30])), weights, NAMES)
    assert all((found[name] == 0).all() for name in NAMES if name.endswith("std"))


def test_without_speech_sap_is_gap_to_the_bit() -> None:
    frames = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(3))
    weights = weigh(NAMES, np.zeros(40, bool))
    found = statistics(merge(cut_up(frames, weights, [11])), weights, NAMES)
    for moment in ("mean", "std"):
        assert np.array_equal(found[f"sap_{moment}"], found[f"gap_{moment}"])
        assert np.array_equal(found[f"sap_segment_{moment}"], found[f"gap_{moment}"])


def test_a_weighting_of_ones_own_needs_no_more_than_its_function() -> None:
    @pooling.weighting("late")
    def late(_frames: Tensor, mask: Tensor, _speech: Tensor) -> Tensor:
        return mask * mask.cumsum(1)

    frames = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(4))
    speech = np.arange(30) > 20
    names = ("late_mean", "late_std")
    weights = weigh(names, speech)
    found = statistics(merge(cut_up(frames, weights, [10, 20])), weights, names)
    for name, wanted in pooled_at_once(frames, speech, names).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5)


@pytest.mark.parametrize("look", [lambda x: x.abs(), lambda x: (x > 0.5) + 1.0, lambda x: x.softmax(1)])
def test_a_weighting_that_looks_at_frames_is_refused(look: object) -> None:
    pooling.weighting("seeing")(lambda frames, _mask, _speech: look(frames.sum(-1)))  # type: ignore[operator]
    with pytest.raises(PoolingError, match=r"'seeing' looks at what the frames hold; .* encoded in one pass"):
        weigh(["gap_mean", "seeing_mean"], np.ones(9, bool))


def test_a_statistic_that_is_no_weighted_mean_is_refused_and_an_unknown_one_told() -> None:
    STATISTICS["highest"] = lambda frames, _mask, _speech: frames.amax(1)
    with pytest.raises(PoolingError, match="'highest' needs all frames of a clip at once"):
        weigh(["highest"], np.ones(9, bool))
    with pytest.raises(PoolingError, match="'gap_meen' is not known; did you mean 'gap_mean'"):
        weigh(["gap_meen"], np.ones(9, bool))
    with pytest.raises(PoolingError, match="'gap_median' is not known"):
        weigh(["gap_median"], np.ones(9, bool))


def test_a_stretch_that_is_missing_is_told() -> None:
    frames, weights = torch.randn(1, 30, 2), weigh(["gap_mean"], np.ones(30, bool))
    parts = cut_up(frames, weights, [10, 20])
    for some in (parts[1:], [parts[0], parts[2]], []):
        with pytest.raises(PoolingError, match="are missing"):
            merge(some)
    with pytest.raises(PoolingError, match="frames 0 to 10 of a clip cannot be 9 frames"):
        moments(frames[:, :9], weights, slice(0, 10))
