"""Masking hides the frames it says, of valid frames only, the same whatever the batch, and nothing in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from subtone import upstreams
from subtone.errors import RecipeError, UsageError
from subtone.training.end_to_end.spec_masking import SpecMasker, SpecMasking
from subtone.training.end_to_end.tuning import Tuning, freeze_unused, prepare, train_mode
from subtone.upstreams import Upstream
from tests import network_cases
from tests.tiny_upstreams import noise, write

LENGTHS = [16_000, 7_000, 500]
WAVES = [noise(n) for n in LENGTHS]
TIME = SpecMasking(time_share=0.5, time_span=4)
BOTH = SpecMasking(time_share=0.3, time_span=4, feature_share=0.4, feature_span=3)
FAMILIES = ["wav2vec2-group", "xls-r", "wavlm-layer", "w2v-bert-relative", "whisper-80", "mockingjay", "npc"]

Open = Callable[[str], Upstream]


@pytest.fixture
def fresh(tmp_path: Path) -> Open:
    """A way to an upstream of a family by itself."""

    def open_one(family: str) -> Upstream:
        if family in ("mockingjay", "npc"):
            return network_cases.upstream(family)
        if family.startswith("subtone") or family == "fbank":
            return upstreams.load(family)
        return upstreams.load(write(tmp_path / family, family, hidden_dropout=0.0, dropout=0.0))

    return open_one


def trained(upstream: Upstream, tuning: Tuning | None = None) -> Upstream:
    prepare(upstream, tuning or Tuning())
    train_mode(upstream, tuning or Tuning())
    return upstream


def num_frames(upstream: Upstream, lengths: list[int] = LENGTHS) -> list[int]:
    return [upstream.grid.num_frames(n) for n in lengths]


def seen(upstream: Upstream, waves: list[Any]) -> Tensor:
    """Return what enters the blocks, ``(batch, frames, channels)``."""
    assert upstream.entry is not None
    found: list[Tensor] = []
    handle = upstream.entry.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    torch.manual_seed(0)
    upstream.encode(waves)
    handle.remove()
    return found[0].detach()


def hidden(upstream: Upstream, options: SpecMasking, seeds: list[int], chosen: list[int]) -> Tensor:
    """Return which numbers a masker changes, ``(batch, frames, channels)`` bool, for the chosen waves."""
    waves = [WAVES[i] for i in chosen]
    before = seen(upstream, waves)
    masker = SpecMasker(upstream, options)
    masker.plan(num_frames(upstream, [LENGTHS[i] for i in chosen]), seeds)
    after = seen(upstream, waves)
    masker.close()
    return after != before


@pytest.mark.parametrize("family", [*FAMILIES, "subtone-mini:speech", "subtone-mini"])
def test_whole_frames_of_the_clip_are_hidden_and_never_its_padding(family: str, fresh: Open) -> None:
    upstream = trained(fresh(family))
    changed = hidden(upstream, TIME, [1, 2, 3], [0, 1, 2])
    counts = num_frames(upstream)
    frames = changed.any(-1)
    for row, count in enumerate(counts):
        assert not frames[row, count:].any()
    assert frames[:2].any(1).all()
    assert not frames[2].any()  # of fewer frames than a span
    # A span is whole: runs of hidden frames are at least four long.
    for row in frames[:2].int().tolist():
        runs = [len(run) for run in "".join(map(str, row)).split("0") if run]
        assert min(runs) >= 4


def test_hidden_frames_are_the_learned_vector_where_there_is_one_and_zero_elsewhere(fresh: Open) -> None:
    for family, learned in (("xls-r", True), ("whisper-80", False), ("mockingjay", False)):
        upstream = trained(fresh(family))
        masker = SpecMasker(upstream, TIME)
        before = seen(upstream, WAVES)
        masker.plan(num_frames(upstream), [1, 2, 3])
        after = seen(upstream, WAVES)
        network: Any = upstream.module
        wanted = network.masked_spec_embed if learned else torch.zeros(after.shape[-1])
        changed = (before != after).any(-1)
        assert changed.any()
        assert (after[changed] == wanted).all()


def test_the_learned_vector_is_trained_even_in_a_batch_that_hides_nothing(fresh: Open) -> None:
    upstream = trained(fresh("wav2vec2-group"))
    network: Any = upstream.module
    masker = SpecMasker(upstream, TIME)
    for chosen, moved in (([0, 1], True), ([2], False)):
        network.zero_grad()
        masker.plan(num_frames(upstream, [LENGTHS[i] for i in chosen]), chosen)
        upstream.encode([WAVES[i] for i in chosen]).frames.square().mean().backward()
        assert network.masked_spec_embed.grad is not None
        assert bool(network.masked_spec_embed.grad.any()) == moved
    assert "masked_spec_embed" not in freeze_unused(network, lambda: upstream.encode([WAVES[2]]).frames.sum())
    masker.close()
    assert "masked_spec_embed" in freeze_unused(network, lambda: upstream.encode([WAVES[2]]).frames.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_hidden_of_a_clip_depends_on_its_seed_alone(family: str, fresh: Open) -> None:
    upstream = trained(fresh(family))
    together = hidden(upstream, BOTH, [5, 6, 7], [0, 1, 2])
    counts = num_frames(upstream)
    for row in (0, 1):
        alone = hidden(upstream, BOTH, [5 + row], [row])
        assert torch.equal(alone[0], together[row, : counts[row]])
    assert not torch.equal(hidden(upstream, BOTH, [8], [0])[0], together[0])
    # Hiding channels does not change which frames are hidden.
    times = hidden(upstream, SpecMasking(time_share=0.3, time_span=4), [5], [0])[0]
    assert (together[0, : counts[0]] >= times).all()


def test_hidden_channels_are_zero_over_all_of_the_clip(fresh: Open) -> None:
    upstream = trained(fresh("w2v-bert-relative"))
    masker = SpecMasker(upstream, SpecMasking(feature_share=0.5, feature_span=4))
    masker.plan(num_frames(upstream), [1, 2, 3])
    after = seen(upstream, WAVES)
    for row, count in enumerate(num_frames(upstream)):
        gone = (after[row, :count] == 0).all(0)
        assert 4 <= int(gone.sum()) <= 8
        assert (after[row, :count, ~gone] != 0).all()


@pytest.mark.parametrize(
    ("share", "span", "count"), [(0.2, 10, 60), (0.05, 10, 60), (0.3, 4, 9), (0.9, 3, 3)]
)
def test_the_share_is_right_on_average_for_clips_of_any_length(share: float, span: int, count: int) -> None:
    masker = SpecMasker(network_cases.upstream("npc"), SpecMasking(time_share=share, time_span=span))
    masker.plan([count] * 4_000, range(4_000))
    times, _ = masker._draw(240)
    covered = times.mean(axis=0)  # (frames,)
    # Without overlaps, so many; overlaps only take off. Spans start at any of count - span + 1 places, each at once.
    places, mean = count - span + 1, share * count / span
    low, up = int(mean), mean - int(mean)
    frame = np.arange(count)
    covering = np.minimum(
        np.minimum(frame + 1, count - frame), np.minimum(span, places)
    )  # spans over a frame

    def missed(number: int) -> Any:
        """Return the chance that none of so many different places covers a frame, ``(frames,)``."""
        chance = np.ones(count)
        for drawn in range(min(number, places)):
            chance *= np.clip((places - covering - drawn) / (places - drawn), 0, 1)
        return chance

    wanted = 1 - (1 - up) * missed(low) - up * missed(low + 1)
    np.testing.assert_allclose(covered, wanted, atol=0.035)
    assert abs(covered.mean() - wanted.mean()) < 0.015


def test_nothing_is_hidden_in_evaluation_without_a_plan_or_once_closed(fresh: Open) -> None:
    upstream = trained(fresh("xls-r"), Tuning("top-layers", top_layers=1))
    counts = num_frames(upstream)
    plain = seen(upstream, WAVES)
    before = upstream.extract(WAVES)
    masker = SpecMasker(upstream, BOTH)
    assert torch.equal(seen(upstream, WAVES), plain)
    masker.plan(counts, [1, 2, 3])
    assert not torch.equal(seen(upstream, WAVES), plain)  # though where frames enter is frozen
    for got, wanted in zip(upstream.extract(WAVES), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    network: Any = upstream.module
    network.eval()
    assert torch.equal(seen(upstream, WAVES), plain)
    train_mode(upstream, Tuning("top-layers", top_layers=1))
    masker.clear()
    assert torch.equal(seen(upstream, WAVES), plain)
    masker.plan(counts, [1, 2, 3])
    masker.close()
    assert torch.equal(seen(upstream, WAVES), plain)
    assert not network.get_submodule("encoder")._forward_pre_hooks


@pytest.mark.parametrize("family", ["wav2vec2-group", "w2v-bert-relative", "whisper-80"])
def test_a_recomputed_layer_hides_the_same(family: str, fresh: Open) -> None:
    found: list[Tensor] = []
    for checkpointing in (False, True):
        upstream = trained(fresh(family), Tuning(gradient_checkpointing=checkpointing))
        masker = SpecMasker(upstream, BOTH)
        masker.plan(num_frames(upstream), [1, 2, 3])
        torch.manual_seed(0)
        upstream.encode(WAVES).frames.square().mean().backward()
        network: nn.Module | None = upstream.module
        assert network is not None
        found.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1])


def test_an_upstream_without_a_network_hides_nothing(fresh: Open) -> None:
    masker = SpecMasker(fresh("fbank"), BOTH)
    masker.plan([10], [1])
    masker.close()


def test_a_plan_that_does_not_fit_is_refused(fresh: Open) -> None:
    upstream = trained(fresh("whisper-80"))
    masker = SpecMasker(upstream, TIME)
    with pytest.raises(UsageError, match="2 clips and 1 seeds"):
        masker.plan([3, 4], [1])
    with pytest.raises(UsageError, match=r"clip 1 has 301 frames, .* sees 300 at once; cut"):
        masker.plan([300, 301], [1, 2])
    masker.plan([7], [1])
    with pytest.raises(UsageError, match="planned for 1 clips of up to 7 frames, got 3 of 50"):
        upstream.encode(WAVES)
    masker.close()
    wide = SpecMasker(upstream, SpecMasking(feature_share=0.1))
    wide.plan(num_frames(upstream), [1, 2, 3])
    with pytest.raises(UsageError, match="feature_span = 64 is more than the 16 channels"):
        upstream.encode(WAVES)
    wide.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_share": 1.0}, r"finetuning: time_share = 1.0 must lie in \[0, 1\)"),
        ({"feature_share": float("nan")}, "feature_share = nan must lie"),
        ({"time_span": 0}, "time_span = 0 must be at least 1"),
        ({"feature_span": 0}, "feature_span = 0 must be at least 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SpecMasking(**settings)
