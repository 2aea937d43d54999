"""Pooling: by hand, against slow loops, by name, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from subtone.errors import SubtoneError
from subtone.pooling import (
    STATISTICS,
    AttentiveStatistics,
    PoolingError,
    SegmentAttention,
    gap,
    gap_sap,
    pool,
    run_means,
    sap,
    speech_runs,
    statistics_of,
    weighting,
)
from tests.pooling_cases import (
    DIM,
    FORMS,
    NAMES,
    Clip,
    calm,
    clips,
    close,
)
from tests.reference import pooled_slowly

# --- Worked by hand


def test_gap_by_hand() -> None:
    frames = torch.tensor([[[1.0, 10.0], [3.0, 30.0]], [[5.0, 50.0], [9.0, 90.0]]])
    assert gap(frames).tolist() == [[2, 20], [7, 70]]
    mask = torch.tensor([[True, True], [True, False]])
    assert gap(frames, mask).tolist() == [[2, 20], [5, 50]]
    assert gap(frames, mask, std=True).tolist() == [[2, 20, 1, 10], [5, 50, 0, 0]]


def test_sap_by_hand() -> None:
    # Runs {1, 3} and {8}: run means 2 and 8.
    frames = torch.tensor([[[1.0], [3.0], [100.0], [8.0]]], dtype=torch.float64)
    speech = torch.tensor([[True, True, False, True]])
    assert sap(frames, speech, std=True).tolist()[0] == pytest.approx([4, (26 / 3) ** 0.5])
    # About 5: ((16 + 4) / 2 + 9) / 2 = 9.5.
    assert sap(frames, speech, "segment", std=True).tolist()[0] == pytest.approx([5, 9.5**0.5])
    # Scores 4, 16 and 16, 64: run 2 hears 8 with weight 1 / (1 + e^-12), run 8 hears 8 almost alone.
    attended = np.array([2 + 6 / (1 + np.exp(-12)), 2 + 6 / (1 + np.exp(-48))])
    assert sap(frames, speech, "attention").item() == pytest.approx(attended.mean())


def test_gap_and_sap_stand_in_the_documented_order() -> None:
    frames = torch.tensor([[[1.0], [3.0], [8.0]]])
    speech = torch.tensor([[True, True, False]])
    assert gap_sap(frames, speech).tolist() == [[4, 2]]
    both = gap_sap(frames, speech, std=True)
    assert torch.equal(both, torch.cat([gap(frames, std=True), sap(frames, speech, std=True)], dim=1))
    named = pool(frames, torch.ones_like(speech), speech, statistics_of("gap+sap", std=True))
    assert torch.equal(both, torch.cat(list(named.values()), dim=1))


def test_runs_by_hand() -> None:
    speech = torch.tensor([[True, True, False, True, False], [False, False, True, False, True], [False] * 5])
    assert speech_runs(speech).tolist() == [[0, 0, -1, 1, -1], [-1, -1, 0, -1, 1], [-1] * 5]
    frames = torch.arange(15.0).view(3, 5, 1)
    means, run_mask = run_means(frames, speech)
    assert means.squeeze(-1).tolist() == [[0.5, 3], [7, 9], [12, 0]]
    assert run_mask.tolist() == [[True, True], [True, True], [True, False]]


def test_a_run_does_not_reach_into_the_next_row() -> None:
    speech = torch.tensor([[False, True], [True, False]])
    frames = torch.tensor([[[1.0], [2.0]], [[4.0], [8.0]]])
    assert speech_runs(speech).tolist() == [[-1, 0], [0, -1]]
    for form in FORMS:
        assert sap(frames, speech, form).tolist() == [[2], [4]]


def test_a_run_bridges_masked_frames_but_not_valid_silence() -> None:
    speech = torch.tensor([[True, False, True]])
    assert speech_runs(speech, torch.tensor([[True, False, True]])).tolist() == [[0, -1, 0]]
    assert speech_runs(speech, torch.tensor([[True, True, True]])).tolist() == [[0, -1, 1]]
    # Speech that somebody marked in the padding is no speech.
    assert speech_runs(torch.tensor([[True, True]]), torch.tensor([[True, False]])).tolist() == [[0, -1]]


# --- Against the oracle


@calm
@given(clips())
def test_pooling_equals_the_slow_loops(clip: Clip) -> None:
    frames, mask, speech = clip
    for form in FORMS:
        for row, got in enumerate(sap(frames, speech, form, mask=mask, std=True)):
            wanted = pooled_slowly(frames[row].numpy(), mask[row].numpy(), speech[row].numpy(), form)
            np.testing.assert_allclose(got, np.concatenate(wanted), rtol=1e-7, atol=1e-7)
    for row, got in enumerate(gap(frames, mask, std=True)):
        wanted = pooled_slowly(frames[row].numpy(), mask[row].numpy(), speech[row].numpy(), "gap")
        np.testing.assert_allclose(got, np.concatenate(wanted), rtol=1e-7, atol=1e-7)


@calm
@given(clips())
def test_named_statistics_equal_the_functions(clip: Clip) -> None:
    frames, mask, speech = clip
    pooled = pool(frames, mask, speech, NAMES)
    assert tuple(pooled) == NAMES
    assert torch.equal(torch.cat([pooled["gap_mean"], pooled["gap_std"]], 1), gap(frames, mask, std=True))
    for stem, form in (("sap", "frame"), ("sap_segment", "segment")):
        got = torch.cat([pooled[f"{stem}_mean"], pooled[f"{stem}_std"]], 1)
        assert torch.equal(got, sap(frames, speech, form, mask=mask, std=True))


@calm
@given(clips())
def test_frame_form_is_the_length_weighted_mean_of_runs(clip: Clip) -> None:
    frames, mask, speech = clip
    speech[:, 0] = mask[:, 0] = True  # every row has speech of its own
    means, run_mask = run_means(frames, speech, mask)
    ids = speech_runs(speech, mask)
    lengths = (ids[:, :, None] == torch.arange(means.shape[1])).sum(1) * run_mask
    weighted = (means * lengths[..., None]).sum(1) / lengths.sum(1, keepdim=True)
    close(sap(frames, speech, "frame", mask=mask), weighted)
    close(sap(frames, speech, "segment", mask=mask), means.sum(1) / run_mask.sum(1, keepdim=True))


def test_attentive_statistics_are_the_weighted_moments() -> None:
    torch.manual_seed(0)
    module = AttentiveStatistics(3, hidden=6).double()
    frames = torch.randn(1, 7, 3, dtype=torch.float64)
    first, last = module.score[0], module.score[2]
    scores = torch.stack([last.weight[0] @ torch.tanh(first.weight @ x + first.bias) for x in frames[0]])
    weights = scores.exp() / scores.exp().sum()
    mean = weights @ frames[0]
    std = (weights @ (frames[0] ** 2) - mean**2).sqrt()
    close(module(frames)[0], torch.cat([mean, std]))


def test_segment_attention_is_the_documented_formula() -> None:
    torch.manual_seed(0)
    attention = SegmentAttention(4, heads=1).double()
    runs = torch.randn(1, 3, 4, dtype=torch.float64)
    query, key, value = attention.queries_keys_values(attention.norm(runs[0])).chunk(3, dim=-1)
    heard = (query @ key.T / 4**0.5).softmax(-1) @ value
    close(attention(runs, torch.ones(1, 3, dtype=torch.bool))[0], runs[0] + attention.out(heard))


# --- Names


def test_the_statistics_of_a_pooling_are_named_in_order() -> None:
    assert tuple(STATISTICS)[: len(NAMES)] == NAMES
    assert statistics_of("gap") == ("gap_mean",)
    assert statistics_of("sap") == ("sap_mean",)
    assert statistics_of("gap+sap") == ("gap_mean", "sap_mean")
    assert statistics_of("gap+sap", "segment") == ("gap_mean", "sap_segment_mean")
    assert statistics_of("sap", "segment", std=True) == ("sap_segment_mean", "sap_segment_std")


def test_a_new_pooling_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subtone.pooling.STATISTICS", dict(STATISTICS))

    @weighting("gap_late")
    def late_frames(_frames: Tensor, mask: Tensor, _speech: Tensor) -> Tensor:
        return mask * mask.cumsum(1)

    frames = torch.tensor([[[3.0], [6.0], [torch.nan]]])
    mask = torch.tensor([[True, True, False]])
    pooled = pool(frames, mask, mask, statistics_of("gap+gap_late", std=True))
    assert pooled["gap_late_mean"].item() == 5
    assert pooled["gap_late_std"].item() == pytest.approx(2**0.5)

    @weighting("gap_loud")
    def loud_frames(frames: Tensor, mask: Tensor, _speech: Tensor) -> Tensor:
        return mask * frames.norm(dim=-1)  # would be NaN if it saw what is masked

    assert pool(frames, mask, mask, ["gap_loud_mean"])["gap_loud_mean"].item() == 5
    with pytest.raises(PoolingError, match="registered already"):
        weighting("gap_late")(late_frames)


# --- What is refused

F, B = torch.zeros(2, 3, DIM), torch.ones(2, 3, dtype=torch.bool)
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no batch axis": (lambda: gap(F[0]), r"\(batch, frames, dim\).*\(3, 4\)"),
    "integers": (lambda: gap(F.long()), "floating.*int64"),
    "numpy": (lambda: gap(F.numpy()), "ndarray"),  # type: ignore[arg-type]
    "mask of numbers": (lambda: gap(F, B.float()), "mask must be a bool.*float32"),
    "mask of another length": (lambda: gap(F, B[:, :2]), r"mask.*\(2, 3\).*\(2, 2\)"),
    "speech of another batch": (lambda: sap(F, B[:1]), r"speech.*\(2, 3\).*\(1, 3\)"),
    "row without a valid frame": (lambda: sap(F, B, mask=B & torch.tensor([[True], [False]])), r"row \[1\]"),
    "no frames at all": (lambda: gap(torch.zeros(1, 0, DIM)), r"no valid frame in row \[0\]"),
    "unknown form": (lambda: sap(F, B, "segmnt"), "did you mean 'segment'"),  # type: ignore[arg-type]
    "attention unasked": (lambda: sap(F, B, attention=SegmentAttention(DIM)), "form='attention'"),
    "attention of another dim": (lambda: sap(F, B, "attention", attention=SegmentAttention(8)), "dim = 8"),
    "heads that do not divide": (lambda: SegmentAttention(10, heads=4), "heads = 4.*dim = 10"),
    "attentive statistics, bad row": (lambda: AttentiveStatistics(DIM)(F, ~B), r"row \[0, 1\]"),
    "unknown statistic": (lambda: pool(F, B, B, ["gap_meen"]), "did you mean 'gap_mean'"),
    "unknown pooling": (lambda: statistics_of("gap+spa"), "'spa'.*did you mean 'sap'"),
    "empty pooling": (lambda: statistics_of(""), "known:"),
    "pooling twice": (lambda: statistics_of("gap+gap"), "twice"),
    "stored attention": (lambda: statistics_of("sap", "attention"), "needs frames"),
    "unknown stored form": (lambda: statistics_of("sap", "frames"), "did you mean 'frame'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_way_out(mistake: str) -> None:
    act, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert isinstance(caught.value, SubtoneError)
