"""Pooling: the oracles, the invariants that make it trustworthy, its gradients, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subtone.errors import SubtoneError
from subtone.heads import LayerMix
from subtone.pooling import (
    STATISTICS,
    AttentiveStatistics,
    PoolingError,
    SapForm,
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
from tests.reference import pooled_slowly

FORMS: tuple[SapForm, ...] = get_args(SapForm)
NAMES = ("gap_mean", "gap_std", "sap_mean", "sap_std", "sap_segment_mean", "sap_segment_std")
DIM = 4

calm = settings(deadline=None)  # a busy machine is no failure

Clip = tuple[Tensor, Tensor, Tensor]
Pooling = Callable[[Tensor, Tensor, Tensor], Tensor]


def _attentive() -> Pooling:
    torch.manual_seed(0)
    module = AttentiveStatistics(DIM, hidden=5).double()
    return lambda frames, mask, _speech: module(frames, mask)


def _learned() -> Pooling:
    torch.manual_seed(0)
    module = SegmentAttention(DIM, heads=2).double()
    return lambda f, m, s: gap_sap(f, s, "attention", mask=m, std=True, attention=module)


def _of_form(form: SapForm) -> Pooling:
    return lambda f, m, s: gap_sap(f, s, form, mask=m, std=True)


# Every way to pool that there is; each gives (batch, something).
POOLINGS: dict[str, Pooling] = {
    **{f"gap_sap_{form}": _of_form(form) for form in FORMS},
    "gap_sap_attention_learned": _learned(),
    "attentive_statistics": _attentive(),
    **STATISTICS,
}
every_pooling = pytest.mark.parametrize("name", POOLINGS)


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    """A batch in float64, mask and speech of any pattern; each row has a valid frame, but not each has speech."""
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    flags = st.lists(st.booleans(), min_size=batch * length, max_size=batch * length)
    mask = torch.tensor(draw(flags)).view(batch, length)
    speech = torch.tensor(draw(flags)).view(batch, length)
    sure = draw(st.lists(st.integers(0, length - 1), min_size=batch, max_size=batch))
    mask[torch.arange(batch), torch.tensor(sure)] = True
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    frames = torch.randn(batch, length, DIM, dtype=torch.float64, generator=generator)
    return frames, mask, speech


def ragged() -> Clip:
    """One row each with many runs, one run, no speech, all speech and one frame; the padding is NaN."""
    mask = torch.arange(9) < torch.tensor([[9], [7], [6], [5], [1]])
    speech = torch.tensor(
        [
            [1, 1, 0, 1, 0, 0, 1, 1, 1],
            [0, 1, 1, 1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
    ).bool()
    frames = torch.randn(5, 9, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return frames.masked_fill(~mask[..., None], torch.nan), mask, speech


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


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
    "row without a valid frame": (lambda: sap(F, B, mask=B & torch.tensor([[True], [False]])), "row 1 "),
    "no frames at all": (lambda: gap(torch.zeros(1, 0, DIM)), "no valid frame in row 0"),
    "unknown form": (lambda: sap(F, B, "segmnt"), "did you mean 'segment'"),  # type: ignore[arg-type]
    "attention unasked": (lambda: sap(F, B, attention=SegmentAttention(DIM)), "form='attention'"),
    "attention of another dim": (lambda: sap(F, B, "attention", attention=SegmentAttention(8)), "dim = 8"),
    "heads that do not divide": (lambda: SegmentAttention(10, heads=4), "heads = 4.*dim = 10"),
    "attentive statistics, bad row": (lambda: AttentiveStatistics(DIM)(F, ~B), "row 0, 1 "),
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
