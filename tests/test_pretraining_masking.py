"""Masking: against slow loops, by its promises for every strategy, in its shares, and what it refuses."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subtone.errors import SubtoneError
from subtone.pretraining.masking import (
    STRATEGIES,
    Hidden,
    Masking,
    MaskingError,
    Room,
    corruption,
    draw_keys,
    highest,
    strategy,
)
from subtone.pretraining.masking.noise import uniform

HIDING = [name for name in STRATEGIES if name != "none"]
SPACED = ["ems-nms", "ems-sample"]
INTENSE = [name for name in STRATEGIES if name.startswith("ems")]
calm = settings(max_examples=40, deadline=None)


def valid_of(lengths: list[int], longest: int | None = None) -> Tensor:
    return torch.arange(longest or max(lengths)) < torch.tensor(lengths)[:, None]


def keys_of(num: int, seed: int = 0) -> Tensor:
    return draw_keys(num, torch.Generator().manual_seed(seed))


def smooth_curves(num: int, num_frames: int) -> Tensor:
    """Noise under a window of 0.4 s, each curve from 0 to 1: what a model of intensity gives, roughly."""
    noise = torch.randn(num, 1, num_frames + 39, generator=torch.Generator().manual_seed(0))
    curves = torch.nn.functional.conv1d(noise, torch.hann_window(40)[None, None]).squeeze(1)
    low, high = curves.aminmax(dim=1, keepdim=True)
    return (curves - low) / (high - low)


def owed(num_frames: int, share: float, span: int) -> int:
    legal = len(range(max(num_frames - span - 1, 0) + 1)) if num_frames else 0
    return min(round(num_frames * share / span), legal)


def begin(hidden: Hidden, row: int = 0) -> list[int]:
    return hidden.starts[row].nonzero().flatten().tolist()


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """Valid frames, intensity with many ties, keys, share and span."""
    lengths = draw(st.lists(st.integers(0, 90), min_size=1, max_size=4).filter(any))
    seed = draw(st.integers(0, 2**32))
    generator = torch.Generator().manual_seed(seed)
    steps = draw(st.sampled_from([1, 3, 1000]))
    intensity = torch.randint(steps + 1, (len(lengths), max(lengths)), generator=generator) / steps
    share = draw(st.sampled_from([0.15, 0.4, 0.8, 1.0]))
    return valid_of(lengths), intensity, keys_of(len(lengths), seed), share, draw(st.integers(1, 12))


# --- Promises of every strategy


@pytest.mark.parametrize("name", STRATEGIES)
@given(batch=batches())
@calm
def test_spans_are_legal_as_many_as_owed_and_hide_what_they_cover(
    name: str, batch: tuple[Tensor, Tensor, Tensor, float, int]
) -> None:
    valid, intensity, keys, share, span = batch
    hidden = Masking(name, share, span).hide(valid, intensity, keys=keys)
    for row, num_frames in enumerate(valid.sum(1).tolist()):
        starts = begin(hidden, row)
        assert all(0 <= start <= max(num_frames - span - 1, 0) for start in starts)
        assert len(starts) == (0 if name == "none" else owed(num_frames, share, span))
        covered = {frame for start in starts for frame in range(start, min(start + span, num_frames))}
        assert hidden.frames[row].nonzero().flatten().tolist() == sorted(covered)


@pytest.mark.parametrize("name", STRATEGIES)
@given(batch=batches(), extra=st.integers(0, 20))
@calm
def test_an_utterance_is_masked_alike_in_any_batch_and_however_padded(
    name: str, batch: tuple[Tensor, Tensor, Tensor, float, int], extra: int
) -> None:
    valid, intensity, keys, share, span = batch
    masking = Masking(name, share, span)
    together = masking.hide(valid, intensity, keys=keys)
    together_seen = corruption(together, keys=keys).apply(intensity)
    for row, num_frames in enumerate(valid.sum(1).tolist()):
        wide = torch.nn.functional.pad(intensity[row : row + 1, :num_frames], (0, extra + 1), value=torch.nan)
        key = keys[row : row + 1]
        alone = masking.hide(valid_of([num_frames], num_frames + extra + 1), wide, keys=key)
        assert torch.equal(alone.frames[0, :num_frames], together.frames[row, :num_frames])
        assert not alone.frames[0, num_frames:].any()
        seen = corruption(alone, keys=key).apply(wide)
        assert torch.equal(seen[0, :num_frames], together_seen[row, :num_frames])


@pytest.mark.parametrize("name", ["random", "ems-sample"])
def test_the_same_seed_hides_the_same_frames_and_another_others(name: str) -> None:
    valid, intensity = valid_of([300, 200]), torch.rand(2, 300, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        Masking(name).hide(valid, intensity, keys=keys_of(2, seed)).frames for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_keys_drawn_in_two_goes_are_those_of_one() -> None:
    generator = torch.Generator().manual_seed(5)
    parts = [draw_keys(3, generator), draw_keys(5, generator)]
    assert torch.equal(torch.cat(parts), keys_of(8, seed=5))


def test_noise_is_uniform_and_unlike_from_key_to_key_and_stream_to_stream() -> None:
    neighbours = torch.arange(2000)  # keys as alike as can be
    noise = torch.stack([uniform(neighbours, 50, stream) for stream in range(3)])  # (streams, keys, frames)
    assert noise.min() >= 0
    assert noise.max() < 1
    shares = torch.histc(noise.flatten().float(), 20, 0, 1) / noise.numel()
    assert shares == pytest.approx(torch.full((20,), 0.05), abs=0.002)
    flat = (noise - 0.5).reshape(3, -1)
    assert torch.corrcoef(flat).triu(1).abs().max() < 0.01
    rows = noise[0] - 0.5
    for a, b in ((rows[1:], rows[:-1]), (rows[:, 1:], rows[:, :-1]), (rows[1:, :-1], rows[:-1, 1:])):
        assert abs((a * b).mean().item() * 12) < 0.02


# --- Each strategy


def ems_slowly(intensity: list[float], share: float, span: int) -> list[int] | None:
    """The released code in words: None where it falls back to random starts."""
    num_frames = len(intensity)
    num_spans = owed(num_frames, share, span)
    top = sorted(range(num_frames), key=lambda frame: -intensity[frame])[: 2 * num_spans]
    chosen: list[int] = []
    for frame in top:
        if frame <= max(num_frames - span - 1, 0) and len(chosen) < num_spans:
            chosen.append(frame)
    return sorted(chosen) if len(chosen) == num_spans else None


@given(batch=batches())
@settings(max_examples=150, deadline=None)
def test_ems_is_the_released_code(batch: tuple[Tensor, Tensor, Tensor, float, int]) -> None:
    valid, intensity, keys, share, span = batch
    hidden = Masking("ems", share, span).hide(valid, intensity, keys=keys)
    at_random = Masking("random", share, span).hide(valid, keys=keys)
    for row, num_frames in enumerate(valid.sum(1).tolist()):
        expected = ems_slowly(intensity[row, :num_frames].tolist(), share, span)
        assert begin(hidden, row) == (begin(at_random, row) if expected is None else expected)


def test_ems_by_hand() -> None:
    # 100 frames owe round(15 / 7) = 2 spans; of the 4 highest, 99 and 93 start too late, 92 and 40 do not.
    intensity = torch.full((1, 100), 0.1)
    for frame, value in ((99, 0.9), (40, 0.6), (93, 0.8), (92, 0.7), (10, 0.5)):
        intensity[0, frame] = value
    hidden = Masking("ems").hide(valid_of([100]), intensity, keys=keys_of(1))
    assert begin(hidden) == [40, 92]
    assert hidden.frames.nonzero()[:, 1].tolist() == [*range(40, 47), *range(92, 99)]
    intensity[0, 98] = 0.65  # now only 92 of the 4 highest is legal: it is dropped, too
    fallen_back = Masking("ems").hide(valid_of([100]), intensity, keys=keys_of(1))
    assert begin(fallen_back) == begin(Masking("random").hide(valid_of([100]), keys=keys_of(1)))


def spaced_slowly(intensity: list[float], share: float, span: int) -> list[int]:
    num_frames = len(intensity)
    starts: list[int] = []
    by_intensity = sorted(range(max(num_frames - span - 1, 0) + 1), key=lambda frame: -intensity[frame])
    for apart in (True, False):
        for frame in by_intensity:
            if len(starts) == owed(num_frames, share, span):
                return sorted(starts)
            if frame not in starts and (not apart or all(abs(frame - start) >= span for start in starts)):
                starts.append(frame)
    return sorted(starts)


@given(st.integers(1, 90), st.integers(0, 2**32), st.sampled_from([0.15, 0.6, 1.0]), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_ems_nms_takes_the_highest_frames_a_span_apart(
    num_frames: int, seed: int, share: float, span: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    intensity = torch.randperm(num_frames, generator=generator)[None] / num_frames
    hidden = Masking("ems-nms", share, span).hide(valid_of([num_frames]), intensity, keys=keys_of(1))
    assert begin(hidden) == spaced_slowly(intensity[0].tolist(), share, span)


@pytest.mark.parametrize("name", SPACED)
@given(st.lists(st.integers(24, 400), min_size=1, max_size=4), st.integers(0, 2**32))
@calm
def test_spaced_spans_do_not_overlap_at_the_usual_share(name: str, lengths: list[int], seed: int) -> None:
    intensity = torch.rand(len(lengths), max(lengths), generator=torch.Generator().manual_seed(seed)) ** 4
    hidden = Masking(name).hide(valid_of(lengths), intensity, keys=keys_of(len(lengths), seed))
    assert torch.equal(hidden.frames.sum(1), 7 * hidden.starts.sum(1))


def chances(weights: list[float], num: int, span: int) -> dict[tuple[int, ...], float]:
    """Of each set of starts, when they are drawn one after another in proportion to their weights."""
    found: Counter[tuple[int, ...]] = Counter()

    def draw(starts: tuple[int, ...], chance: float) -> None:
        if len(starts) == num:
            found[tuple(sorted(starts))] += chance  # type: ignore[assignment]
            return
        left = [f for f in range(len(weights)) if all(abs(f - start) >= span for start in starts)]
        total = sum(weights[frame] for frame in left)
        for frame in left:
            draw((*starts, frame), chance * weights[frame] / total)

    draw((), 1.0)
    return dict(found)


@pytest.mark.parametrize("span", [1, 2])
def test_ems_sample_draws_in_proportion_to_intensity(span: int) -> None:
    intensity = torch.tensor([0.9, 0.1, 0.3, 0.0, 0.6, 1.0, 0.5, 0.2])
    legal, num, repeats = 8 - span, 2, 40_000
    hidden = Masking("ems-sample", share=num * span / 8, span=span).hide(
        torch.ones(repeats, 8, dtype=torch.bool), intensity.expand(repeats, 8), keys=keys_of(repeats)
    )
    seen = Counter(tuple(starts.nonzero().flatten().tolist()) for starts in hidden.starts)
    expected = {k: v for k, v in chances(intensity[:legal].tolist(), num, span).items() if v > 0}
    assert seen.keys() == expected.keys()
    for starts, chance in expected.items():
        assert seen[starts] / repeats == pytest.approx(chance, abs=4 * (chance / repeats) ** 0.5)


def test_random_starts_are_uniform_over_legal_frames() -> None:
    hidden = Masking("random").hide(torch.ones(34_000, 24, dtype=torch.bool), keys=keys_of(34_000))
    counts = hidden.starts.sum(0)  # one span each, at 17 legal frames
    assert counts[17:].sum() == 0
    assert counts[:17].tolist() == pytest.approx([2000] * 17, abs=200)


def test_exact_ems_clusters_and_covers_a_fraction_of_its_share_others_do_not() -> None:
    valid, curves = valid_of([450] * 500), smooth_curves(500, 450)
    coverage = {
        name: Masking(name).hide(valid, curves, keys=keys_of(500)).frames.float().mean().item()
        for name in HIDING
    }
    # 10 spans of 7 in 450 frames are 15.6 %: kept whole by spacing, 14.7 % left by chance overlaps.
    expected = {"random": 0.147, "ems": 0.041, "ems-nms": 0.1556, "ems-sample": 0.1556}
    assert coverage == pytest.approx(expected, abs=0.003)


# --- Edges


@pytest.mark.parametrize("name", HIDING)
def test_an_utterance_too_short_for_a_span_hides_nothing_at_the_usual_share(name: str) -> None:
    hidden = Masking(name).hide(valid_of([24, 23, 5, 1, 0]), torch.ones(5, 24), keys=keys_of(5))
    assert hidden.starts.sum(1).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", HIDING)
def test_a_span_ends_with_an_utterance_shorter_than_it(name: str) -> None:
    hidden = Masking(name, share=1.0).hide(valid_of([5, 4, 8]), torch.ones(3, 8), keys=keys_of(3))
    assert hidden.frames.sum(1).tolist() == [5, 4, 7]


def test_constant_intensity_starts_ems_at_the_first_frames_and_the_others_anywhere() -> None:
    valid, level = valid_of([400]), torch.full((1, 400), 0.5)
    assert begin(Masking("ems").hide(valid, level, keys=keys_of(1))) == list(range(9))
    for name in SPACED:
        first, other = (begin(Masking(name).hide(valid, level, keys=keys_of(1, seed))) for seed in (0, 1))
        assert max(first) > 200
        assert first != other
    silent = Masking("ems-sample").hide(valid, torch.zeros(1, 400), keys=keys_of(1))
    assert len(begin(silent)) == 9


@pytest.mark.parametrize("name", INTENSE)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -0.1, 1.1])
def test_intensity_that_is_no_score_is_refused_where_it_stands(name: str, value: float) -> None:
    intensity = torch.full((2, 50), 0.5)
    intensity[1, 30] = value
    with pytest.raises(MaskingError, match="utterance 1 of the batch, frame 30"):
        Masking(name).hide(valid_of([50, 31]), intensity, keys=keys_of(2))
    Masking(name).hide(valid_of([50, 30]), intensity, keys=keys_of(2))  # in padding it may be anything
    Masking("random").hide(valid_of([50, 50]), intensity, keys=keys_of(2))


def test_what_no_mask_can_be_made_of_is_refused_with_a_way_out() -> None:
    valid = valid_of([50])
    for name in INTENSE:
        with pytest.raises(MaskingError, match="intensity of each frame is needed"):
            Masking(name).hide(valid, keys=keys_of(1))
    with pytest.raises(MaskingError, match="intensity must be"):
        Masking("ems").hide(valid, torch.ones(1, 49), keys=keys_of(1))
    with pytest.raises(MaskingError, match="before padding"):
        Masking("random").hide(valid.flip(1).logical_xor(valid_of([9], 50)), keys=keys_of(1))
    with pytest.raises(MaskingError, match="no frames"):
        Masking("random").hide(torch.ones(2, 0, dtype=torch.bool), keys=keys_of(2))
    with pytest.raises(SubtoneError, match="did you mean 'ems-nms'"):
        Masking("ems_nms")
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(MaskingError, match="share"):
            Masking("random", share=share)
    for span in (0, 7.0, True):
        with pytest.raises(MaskingError, match="span"):
            Masking("random", span=span)  # type: ignore[arg-type]


def test_a_new_strategy_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "late", STRATEGIES["random"])  # taken away after the test
    del STRATEGIES["late"]

    @strategy("late")
    def latest(room: Room, _intensity: Tensor, _noise: Tensor) -> Tensor:
        return highest(room, room.legal.cumsum(1).double())

    hidden = Masking("late").hide(valid_of([100, 60]), keys=keys_of(2))
    assert [begin(hidden, row) for row in (0, 1)] == [[91, 92], [52]]
    with pytest.raises(MaskingError, match="registered already"):
        strategy("late")(latest)


# --- Corruption


def test_eight_of_ten_utterances_are_zeroed_one_replaced_one_left() -> None:
    valid, num = valid_of([60] * 20_000), 20_000
    hidden = Masking("random").hide(valid, keys=keys_of(num))
    corrupted = corruption(hidden, keys=keys_of(num))
    zeroed, replaced = corrupted.zeroed.any(1), corrupted.replaced.any(1)
    assert torch.equal(corrupted.zeroed, hidden.frames & zeroed[:, None])  # an utterance's spans fare alike
    assert torch.equal(corrupted.replaced, hidden.frames & replaced[:, None])
    assert not (zeroed & replaced).any()
    shares = [zeroed.float().mean().item(), replaced.float().mean().item()]
    assert shares == pytest.approx([0.8, 0.1], abs=0.01)


@given(batch=batches(), name=st.sampled_from(HIDING))
@settings(max_examples=100, deadline=None)
def test_hidden_frames_become_zeros_others_or_stay_and_the_rest_is_untouched(
    batch: tuple[Tensor, Tensor, Tensor, float, int], name: str
) -> None:
    valid, intensity, keys, share, span = batch
    rows = torch.arange(1.0, valid.numel() + 1).view(valid.shape)  # each frame tells where it is from
    hidden = Masking(name, share, span).hide(valid, intensity, keys=keys)
    corrupted = corruption(hidden, keys=keys)
    seen = corrupted.apply(rows)
    for row, num_frames in enumerate(valid.sum(1).tolist()):
        sources = []
        starts = begin(hidden, row)
        for start, following in zip(starts, [*starts, num_frames][1:], strict=True):
            frames = slice(start, min(start + span, following, num_frames))
            if corrupted.zeroed[row].any():
                assert not seen[row, frames].any()
            elif corrupted.replaced[row].any():
                source = int(corrupted.sources[row, start])
                sources.append(source)
                stretch = slice(source, source + frames.stop - frames.start)
                assert torch.equal(seen[row, frames], rows[row, stretch])
                assert stretch.stop <= num_frames
            else:
                assert torch.equal(seen[row, frames], rows[row, frames])
        assert len(set(sources)) == len(sources)
        assert all(source <= max(num_frames - span - 1, 0) for source in sources)
    assert torch.equal(seen[~hidden.frames], rows[~hidden.frames])


def test_intensity_is_corrupted_like_the_features_beside_it() -> None:
    valid, keys = valid_of([100, 80, 60] * 30), keys_of(90)
    intensity = torch.rand(90, 100)
    corrupted = corruption(Masking("ems").hide(valid, intensity, keys=keys), keys=keys)
    assert corrupted.zeroed.any()
    assert corrupted.replaced.any()
    beside = corrupted.apply(intensity[..., None].expand(-1, -1, 5))
    assert torch.equal(beside, corrupted.apply(intensity)[..., None].expand(-1, -1, 5))
