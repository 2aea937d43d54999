"""Pooling: the invariants that make it trustworthy, its gradients and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subtone.heads import LayerMix
from subtone.pooling import (
    STATISTICS,
    AttentiveStatistics,
    SapForm,
    SegmentAttention,
    gap,
    gap_sap,
    pool,
    sap,
)
from tests.pooling_cases import (
    DIM,
    FORMS,
    POOLINGS,
    Clip,
    calm,
    clips,
    close,
    every_pooling,
    ragged,
)

# --- Invariants


@calm
@given(clips(), st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter_to_gap_and_frame_sap(clip: Clip, random: Any) -> None:
    frames, mask, speech = clip
    order = list(range(frames.shape[1]))
    random.shuffle(order)
    moved = frames[:, order], mask[:, order], speech[:, order]
    for name in ("gap_mean", "gap_std", "sap_mean", "sap_std"):
        close(STATISTICS[name](*moved), STATISTICS[name](*clip))
    close(POOLINGS["attentive_statistics"](*moved), POOLINGS["attentive_statistics"](*clip))


@every_pooling
@settings(calm, max_examples=25)
@given(data=st.data(), clip=clips())
def test_padding_changes_nothing_wherever_it_is_and_whatever_it_holds(
    name: str, data: st.DataObject, clip: Clip
) -> None:
    frames, mask, speech = clip
    at = data.draw(st.integers(0, frames.shape[1]), "where")
    count = data.draw(st.integers(1, 3), "how many")
    junk = data.draw(st.sampled_from([0.0, 1e30, torch.nan, torch.inf, -torch.inf]), "with what")
    spoken = data.draw(st.booleans(), "marked as speech")
    batch = len(frames)

    def padded(x: Tensor, fill: Tensor) -> Tensor:
        return torch.cat([x[:, :at], fill, x[:, at:]], dim=1)

    longer = (
        padded(frames, torch.full((batch, count, DIM), junk, dtype=frames.dtype)),
        padded(mask, torch.zeros(batch, count, dtype=torch.bool)),
        padded(speech, torch.full((batch, count), spoken)),
    )
    close(POOLINGS[name](*longer), POOLINGS[name](*clip))


@every_pooling
def test_a_clip_is_pooled_alike_alone_and_in_a_batch(name: str) -> None:
    frames, mask, speech = ragged()
    together = POOLINGS[name](frames, mask, speech)
    assert together.isfinite().all()
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = POOLINGS[name](*(x[row : row + 1, :length] for x in (frames, mask, speech)))
        close(together[row], alone[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spoken", [True, False], ids=["all speech", "no speech"])
@settings(calm, max_examples=30)
@given(clip=clips())
def test_sap_is_gap_to_the_bit(form: SapForm, spoken: bool, clip: Clip) -> None:
    frames, mask, _ = clip
    speech = torch.full_like(mask, spoken)
    attention = SegmentAttention(DIM).double() if form == "attention" else None
    for module in {None, attention}:
        got = sap(frames, speech, form, mask=mask, std=True, attention=module)
        assert torch.equal(got, gap(frames, mask, std=True))


@calm
@given(clips())
def test_one_run_makes_all_forms_the_mean_of_that_run(clip: Clip) -> None:
    frames, _, _ = clip
    speech = torch.zeros(frames.shape[:2], dtype=torch.bool)
    speech[:, : (frames.shape[1] + 1) // 2] = True
    wanted = sap(frames, speech, "frame", std=True)
    assert torch.equal(sap(frames, speech, "segment", std=True), wanted)
    assert torch.equal(sap(frames, speech, "attention", std=True), wanted)
    learned = SegmentAttention(DIM).double()
    assert torch.equal(sap(frames, speech, "attention", std=True, attention=learned), wanted)


@calm
@given(st.integers(2, 6))
def test_a_run_weighs_as_much_however_long_it_is(times: int) -> None:
    frames, mask, speech = (x[:1] for x in ragged())  # runs of 2, 1 and 3 frames
    first = torch.ones(9, dtype=torch.long)
    first[:2] = times  # each frame of the first run comes several times
    longer = [x.repeat_interleave(first, dim=1) for x in (frames, mask, speech)]
    for name in ("gap_sap_segment", "gap_sap_attention", "gap_sap_attention_learned"):
        close(POOLINGS[name](*longer)[:, 2 * DIM :], POOLINGS[name](frames, mask, speech)[:, 2 * DIM :])
    with pytest.raises(AssertionError):  # the frame form does count frames
        close(sap(longer[0], longer[2]), sap(frames, speech))


@calm
@given(clips(), st.integers(1, 4))
def test_the_mean_commutes_with_the_layer_mix(clip: Clip, layers: int) -> None:
    frames, mask, speech = clip
    torch.manual_seed(layers)
    mix = LayerMix(layers).double()
    torch.nn.init.normal_(mix.logits)
    stacked = torch.randn(len(frames), layers, frames.shape[1], DIM, dtype=torch.float64)
    flat = stacked.transpose(1, 2).flatten(2)  # (batch, frames, layers * dim), as the store pools it
    for name in ("gap_mean", "sap_mean", "sap_segment_mean"):
        pooled_first = pool(flat, mask, speech, [name])[name].unflatten(-1, (layers, DIM))
        close(mix(pooled_first), STATISTICS[name](mix(stacked), mask, speech))


def test_the_standard_deviation_does_not_commute_with_the_layer_mix() -> None:
    # Two layers that mirror each other mix to a constant: no spread at all, though each layer has spread 1.
    layers = torch.tensor([[[[1.0], [-1.0]], [[-1.0], [1.0]]]])  # (batch, layers, frames, dim)
    mix = LayerMix(2)
    per_layer = pool(
        layers.transpose(1, 2).flatten(2), *[torch.ones(1, 2, dtype=torch.bool)] * 2, ["gap_std"]
    )
    assert mix(per_layer["gap_std"].unflatten(-1, (2, 1))).item() == pytest.approx(1)
    assert gap(mix(layers), std=True)[0, 1].item() == 0


# --- Gradients


@every_pooling
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    _, mask, speech = (x[:3] for x in ragged())  # many runs, one run, no speech
    frames = torch.randn(3, 9, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: POOLINGS[name](x, mask, speech), frames.requires_grad_())


@pytest.mark.parametrize("make", [lambda: SegmentAttention(DIM, 2), lambda: AttentiveStatistics(DIM, 3)])
def test_gradients_of_weights_are_those_of_finite_differences(make: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    module = make().double()
    frames, mask, speech = ragged()
    names, values = zip(*module.named_parameters(), strict=True)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self) -> Tensor:
            if isinstance(module, SegmentAttention):
                return sap(frames, speech, "attention", mask=mask, std=True, attention=module)[:4]
            return module(frames, mask)[:4]  # type: ignore[no-any-return]

    def of_weights(*weights: Tensor) -> Tensor:
        named = {f"inner.{name}": weight for name, weight in zip(names, weights, strict=True)}
        pooled: Tensor = torch.func.functional_call(Pooled(), named, ())
        return pooled

    assert torch.autograd.gradcheck(of_weights, tuple(v.detach().requires_grad_() for v in values))


@every_pooling
@pytest.mark.parametrize("constant", [False, True])
def test_gradients_are_finite_at_no_spread_and_beside_nan_padding(name: str, constant: bool) -> None:
    frames, mask, speech = ragged()
    if constant:
        frames = torch.full_like(frames, 0.1).masked_fill(~mask[..., None], torch.nan)
    frames.requires_grad_()
    POOLINGS[name](frames, mask, speech).sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()
    assert (frames.grad[~mask] == 0).all()


def test_every_weight_of_the_attention_learns() -> None:
    frames, mask, speech = ragged()
    for module in (SegmentAttention(DIM, 2).double(), AttentiveStatistics(DIM, 3).double()):
        if isinstance(module, SegmentAttention):
            pooled = sap(frames, speech, "attention", mask=mask, attention=module)
        else:
            pooled = module(frames, mask)
        pooled.square().sum().backward()
        for name, weight in module.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
            assert weight.grad.abs().sum() > 0, name


# --- Numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    frames = torch.full((1, 5000, 1), 200.0, dtype=dtype)  # the sum, 1e6, is beyond float16; so is a square
    frames[:, ::2] = 600
    speech = torch.ones(1, 5000, dtype=torch.bool)
    for got in (gap(frames, std=True), *(sap(frames, speech, form, std=True) for form in FORMS)):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, torch.tensor([[400.0, 200.0]]))


@every_pooling
def test_float64_stays_float64(name: str) -> None:
    assert POOLINGS[name](*ragged()).dtype == torch.float64


def test_the_standard_deviation_survives_a_large_mean() -> None:
    frames = (1e4 + torch.tensor([-0.5, 0.5] * 500)).view(
        1, -1, 1
    )  # E[x²] - E[x]² in float32 would give noise
    assert gap(frames, std=True)[0, 1].item() == pytest.approx(0.5, rel=1e-3)


def test_the_standard_deviation_of_one_frame_is_zero() -> None:
    frames = torch.randn(2, 1, DIM)
    assert torch.equal(gap(frames, std=True)[:, DIM:], torch.zeros(2, DIM))


def test_a_nan_in_a_valid_frame_is_not_hidden() -> None:
    frames = torch.ones(1, 2, 1)
    frames[0, 0] = torch.nan
    assert gap(frames, std=True).isnan().all()


def test_attention_survives_run_means_far_apart() -> None:
    frames = torch.tensor([[[1e4], [0.0], [-1e4]]])
    speech = torch.tensor([[True, False, True]])
    assert sap(frames, speech, "attention", std=True).isfinite().all()


def test_an_empty_batch_gives_an_empty_answer() -> None:
    frames, flags = torch.zeros(0, 3, DIM), torch.zeros(0, 3, dtype=torch.bool)
    for form in FORMS:
        assert gap_sap(frames, flags, form, mask=flags, std=True).shape == (0, 4 * DIM)


def test_segment_attention_alone_is_safe_with_no_run_and_one_run() -> None:
    attention = SegmentAttention(DIM, 2)
    runs = torch.randn(3, 2, DIM)
    run_mask = torch.tensor([[False, False], [True, False], [True, True]])
    runs = runs.masked_fill(~run_mask[..., None], torch.nan).requires_grad_()
    attended = attention(runs, run_mask)
    assert torch.equal(attended[0], torch.zeros(2, DIM))
    assert torch.equal(attended[1, 0], runs[1, 0])
    assert not torch.equal(attended[2], runs[2])
    attended.sum().backward()
    assert runs.grad is not None
    assert runs.grad.isfinite().all()
