"""Networks on segments: what is cut, read, scored and joined, and a training that is the same after any kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from subtone import corpora, upstreams
from subtone.errors import RecipeError, TrainingError
from subtone.extraction import (
    Clip,
    ExtractionOptions,
    FeatureMaps,
    FeatureStore,
    PooledFeatures,
    clips_of,
    extract,
)
from subtone.protocols import build
from subtone.speech import SpeechSegments, get_detector
from subtone.training.end_to_end import fit as fitting
from subtone.training.end_to_end.launching import alone
from subtone.training.end_to_end.logs import FitProgress
from subtone.training.end_to_end.network import Batch
from subtone.training.end_to_end.options import FitOptions
from subtone.training.segments.decision import Decision, SegmentScores, joined
from subtone.training.segments.image_cnn import load_image_cnn
from subtone.training.segments.network import ImageOptions, SegmentNetwork
from subtone.training.segments.saving import SavedAs, load_network, save_network
from subtone.training.segments.source import EachAlone, Source, WithinClips, parts_of
from subtone.training.segments.stack import ConvBlock, ConvStack, GlobalPool, StackOptions
from subtone.training.segments.system import SegmentSystem
from subtone.training.segments.train import (
    HEAD,
    WHOLE,
    SegmentRun,
    score_clips,
    train_segments,
)
from subtone.training.segments.windows import SegmentOptions, Windows, cut
from tests import synthetic
from tests.store_parts import key

HOP_S = 0.01
LAYERS, DIM, CLASSES = 2, 6, 3
SEGMENTS = SegmentOptions(length_s=0.1, overlap=0.5, min_speech=None)
TINY = StackOptions((ConvBlock(8, max_pool=2, dropout=0.1),), global_pool="mean+max", dense=(), dropout=0.1)
FIT = FitOptions(epochs=3, average=2, batch_s=2.0, learning_rate=0.01)
Frames = npt.NDArray[np.float32]


# --- windows


@st.composite
def spoken_clips(draw: st.DrawFn) -> list[npt.NDArray[np.bool_]]:
    """Return where each of a few clips of 1 to 90 frames is speech."""
    found = []
    for length in draw(st.lists(st.integers(1, 90), min_size=1, max_size=6)):
        edges = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
        found.append(np.searchsorted(np.array(edges, np.int64), np.arange(length), side="right") % 2 == 1)
    return found


ways = st.builds(
    SegmentOptions,
    length_s=st.floats(0.05, 0.7),
    overlap=st.floats(0, 0.99),
    min_speech=st.none() | st.floats(0, 1),
)


def lengths_of(speech: list[npt.NDArray[np.bool_]]) -> list[int]:
    return [len(one) for one in speech]


@given(spoken_clips(), ways)
def test_segments_lie_inside_their_clips_and_every_clip_has_one(
    speech: list[npt.NDArray[np.bool_]], options: SegmentOptions
) -> None:
    found = cut(lengths_of(speech), speech, HOP_S, options)
    assert found.frames == max(1, round(options.length_s / HOP_S))
    assert (found.counts >= 1).all()
    assert found.counts.sum() == len(found) == len(found.starts) == found.firsts[-1]
    assert np.bincount(found.clips, minlength=len(speech)).tolist() == found.counts.tolist()
    assert (np.diff(found.clips) >= 0).all()
    length = np.array(lengths_of(speech))[found.clips]
    assert (found.starts >= 0).all()
    assert (found.starts + found.frames <= np.maximum(length, found.frames)).all()
    for clip in range(len(speech)):
        starts = found.starts[found.clips == clip]
        assert (np.diff(starts) > 0).all()
        assert found.of(np.array([clip])).tolist() == np.flatnonzero(found.clips == clip).tolist()


@given(spoken_clips(), ways)
def test_every_frame_is_in_a_segment_where_speech_is_not_asked_for(
    speech: list[npt.NDArray[np.bool_]], options: SegmentOptions
) -> None:
    every = replace(options, min_speech=None)
    found = cut(lengths_of(speech), speech, HOP_S, every)
    for clip, length in enumerate(lengths_of(speech)):
        starts = found.starts[found.clips == clip]
        heard = {frame for start in starts for frame in range(start, min(length, start + found.frames))}
        assert heard == set(range(length))
        assert (np.diff(starts)[:-1] == found.step).all(), "all but the last are a step apart"
    assert cut(lengths_of(speech), speech, HOP_S, replace(options, min_speech=0.0)).starts.tolist() == (
        found.starts.tolist()
    )


@given(spoken_clips(), ways, st.integers(0, 100).map(lambda percent: percent / 100))
def test_segments_hold_speech_enough_or_are_the_one_that_holds_most(
    speech: list[npt.NDArray[np.bool_]], options: SegmentOptions, least: float
) -> None:
    every = cut(lengths_of(speech), speech, HOP_S, replace(options, min_speech=None))
    found = cut(lengths_of(speech), speech, HOP_S, replace(options, min_speech=least))
    for clip, spoken in enumerate(speech):
        shares = {
            int(start): float(spoken[start : start + every.frames].mean())
            for start in every.starts[every.clips == clip]
        }
        enough = [start for start, share in shares.items() if share >= least - 1e-9]
        starts = found.starts[found.clips == clip].tolist()
        if enough or not spoken.any():  # one without any speech keeps all
            assert starts == (enough or list(shares))
        else:
            assert starts == [max(shares, key=lambda start: shares[start])]


@given(spoken_clips(), ways)
def test_the_segments_of_a_clip_do_not_depend_on_others(
    speech: list[npt.NDArray[np.bool_]], options: SegmentOptions
) -> None:
    together = cut(lengths_of(speech), speech, HOP_S, options)
    for clip, spoken in enumerate(speech):
        by_itself = cut([len(spoken)], [spoken], HOP_S, options)
        assert by_itself.starts.tolist() == together.starts[together.clips == clip].tolist()


@pytest.mark.parametrize("folds", ["group-k-fold", "random-k-fold"])
def test_segments_of_a_clip_never_cross_a_fold(tmp_path: Path, folds: str) -> None:
    table = corpora.read("manifest", synthetic.manifest(tmp_path, speakers=5))
    dev = "speakers" if folds == "group-k-fold" else "random"
    split = build(table, folds, k=3, dev=dev, dev_share=0.3)
    chance = np.random.default_rng(0)
    speech = [chance.random(n) > 0.3 for n in chance.integers(5, 80, len(split.table))]
    windows = cut(lengths_of(speech), speech, HOP_S, replace(SEGMENTS, overlap=0.75, min_speech=0.5))
    tested: list[int] = []
    for fold in split.folds:
        sides = [windows.of(rows) for rows in (fold.train, fold.dev, fold.test)]
        assert all(len(side) for side in sides)
        assert len(np.unique(np.concatenate(sides))) == sum(map(len, sides)) == len(windows)
        for rows, side in zip((fold.train, fold.dev, fold.test), sides, strict=True):
            assert set(windows.clips[side]) == set(rows)
        tested += sides[2].tolist()
    assert sorted(tested) == list(range(len(windows)))
    assert windows.of(np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"length_s": 0.04}, r"length_s = 0.04 must lie between 0.05 and 60"),
        ({"length_s": math.nan}, "length_s"),
        ({"overlap": 1.0}, r"overlap = 1.0 must lie in \[0, 1\)"),
        ({"overlap": -0.1}, "overlap"),
        ({"min_speech": 1.1}, "min_speech = 1.1 must lie in .*or be null"),
        ({"context": "clips"}, "did you mean 'clip'"),
    ],
)
def test_segments_out_of_range_are_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        SegmentOptions(**wrong)


# --- stack

FLAT, SQUARE = ConvBlock(4), ConvBlock(4, kind="conv2d")
STACKS = {
    "flat": (FLAT, replace(FLAT, kernel=1), replace(FLAT, kernel=7, max_pool=2)),
    "strides": (replace(FLAT, stride=3), replace(FLAT, kernel=1, stride=2, max_pool=3)),
    "square": (replace(SQUARE, max_pool=2), replace(SQUARE, stride=2, kernel=5)),
    "mixed": (replace(SQUARE, max_pool=3), replace(SQUARE, stride=3), replace(FLAT, max_pool=4)),
    "plain": (replace(FLAT, batch_norm=False, dropout=0.5),),
}


@pytest.mark.parametrize("pool", get_args(GlobalPool))
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_encodes_maps_of_any_length(name: str, pool: GlobalPool) -> None:
    torch.manual_seed(0)
    stack = ConvStack(StackOptions(STACKS[name], global_pool=pool, dense=()), dim=7).eval()
    assert stack.dim == 4 * (2 if "+" in pool else 1)
    with torch.no_grad():
        for length in range(1, 201):
            found = stack(torch.randn(2, length, 7))
            assert found.shape == (2, stack.dim)
            assert found.isfinite().all()


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_learns_at_any_length_and_its_dense_layers_follow(name: str) -> None:
    stack = ConvStack(StackOptions(STACKS[name], global_pool="mean+std", dense=(5, 3)), dim=7)
    assert stack.dim == 3
    for length in (1, 2, 11):
        stack.zero_grad()
        stack(torch.randn(4, length, 7)).sum().backward()
        for parameter in stack.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()


def test_a_stack_pools_what_it_says() -> None:
    torch.manual_seed(0)
    maps, block = torch.randn(3, 9, 4), ConvBlock(5, kernel=3, batch_norm=False)
    made = {pool: ConvStack(StackOptions((block,), pool, (), 0.0), 4).eval() for pool in get_args(GlobalPool)}
    convolution = made["mean"].frames[0][0]
    for stack in made.values():
        stack.frames[0][0].load_state_dict(convolution.state_dict())
    with torch.no_grad():
        x = convolution(maps.transpose(1, 2)).relu()
        mean, most, deviation = x.mean(2), x.amax(2), (x.var(2, correction=0) + 1e-6).sqrt()
        torch.testing.assert_close(made["mean"](maps), mean)
        torch.testing.assert_close(made["max"](maps), most)
        torch.testing.assert_close(made["mean+max"](maps), torch.cat([mean, most], 1))
        torch.testing.assert_close(made["mean+std"](maps), torch.cat([mean, deviation], 1))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: ConvBlock(0), "channels = 0 must be at least 1"),
        (lambda: ConvBlock(4, kernel=2), "kernel = 2 must be odd"),
        (lambda: ConvBlock(4, stride=0), "stride = 0"),
        (lambda: ConvBlock(4, max_pool=0), "max_pool = 0"),
        (lambda: ConvBlock(4, dropout=1.0), r"dropout = 1.0 must lie in \[0, 1\)"),
        (lambda: ConvBlock(4, kind="conv3d"), "'conv3d' is not known"),
        (lambda: StackOptions(()), "blocks: at least one is needed"),
        (lambda: StackOptions((FLAT, SQUARE)), "a conv2d stands above a conv1d"),
        (lambda: StackOptions(global_pool="min"), "global_pool 'min' is not known"),
        (lambda: StackOptions(dense=(0,)), "sizes must be at least 1"),
        (lambda: ImageOptions(head_epochs=0), "head_epochs = 0"),
        (lambda: ImageOptions(learning_rate=0.0), "learning_rate = 0.0 must be above 0"),
        (lambda: SegmentSystem(network=TINY, images=ImageOptions()), "either network or images"),
        (lambda: SegmentSystem(decision="vote"), "decision 'vote' is not known"),
    ],
)
def test_networks_out_of_range_are_told(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        wrong()


# --- decision

DECISIONS: tuple[Decision, ...] = get_args(Decision)


def plainly_joined(
    logits: npt.NDArray[np.float64], decision: Decision, scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the posteriors of a clip, ``(classes,)``, one segment after the other."""
    said = [np.exp(row) / np.exp(row).sum() for row in logits]
    mean = sum(said) / len(said)
    if decision == "mean":
        return mean
    if decision == "majority":
        votes = np.zeros(logits.shape[1])
        for posteriors in said:
            votes[posteriors.argmax()] += 1
        return (votes + mean) / (len(said) + 1)
    weights = np.exp(scores) / np.exp(scores).sum()
    return sum(w * posteriors for w, posteriors in zip(weights, said, strict=True))


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    decision=st.sampled_from(DECISIONS),
    seed=st.integers(0, 1000),
)
def test_segments_are_joined_as_one_would_by_hand_whatever_their_order(
    counts: list[int], decision: Decision, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(counts)), counts)
    logits = chance.normal(0, 3, (len(owner), CLASSES))
    scores = chance.normal(0, 5, len(owner))

    def found(order: npt.NDArray[np.int64], clips: int, owner: npt.NDArray[np.int64]) -> torch.Tensor:
        said, weighed = torch.from_numpy(logits[order]), torch.from_numpy(scores[order])
        return joined(said, torch.from_numpy(owner), clips, decision, weighed).exp()

    together = found(np.arange(len(owner)), len(counts), owner)
    assert together.shape == (len(counts), CLASSES)
    torch.testing.assert_close(together.sum(1), torch.ones(len(counts), dtype=torch.float64))
    order = chance.permutation(len(owner))
    torch.testing.assert_close(found(order, len(counts), owner[order]), together)
    for clip in range(len(counts)):
        here = np.flatnonzero(owner == clip)
        expected = plainly_joined(logits[here], decision, scores[here])
        np.testing.assert_allclose(together[clip].numpy(), expected, rtol=1e-6)
        torch.testing.assert_close(found(here, 1, 0 * here), together[[clip]])


def test_of_equal_votes_the_surer_ones_win_and_more_votes_always_do() -> None:
    said = torch.tensor(
        [[0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [0.45, 0.55, 0.0]]
    )
    owner = torch.tensor([0, 0, 1, 1, 1])
    found = joined(said.log(), owner, 2, "majority").exp()
    assert found.argmax(1).tolist() == [0, 1]
    assert joined(said.log(), owner, 2, "mean").argmax(1).tolist() == [0, 0]
    assert (found > 0).all(), "a class without a vote stays possible"


def test_what_is_said_for_sure_stays_finite_and_teaches() -> None:
    logits = torch.tensor([[200.0, -200.0], [300.0, 0.0]], requires_grad=True)
    scores = torch.tensor([-500.0, 500.0], requires_grad=True)
    for decision in DECISIONS:
        found = joined(logits, torch.tensor([0, 0]), 1, decision, scores)
        assert found.isfinite().all()
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        assert gradient.isfinite().all()


def test_attention_of_one_clip_knows_nothing_of_that_of_others() -> None:
    logits, owner = torch.randn(4, CLASSES), torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([-500.0, -501.0, 500.0, 501.0])
    found = joined(logits, owner, 2, "attention", apart)
    torch.testing.assert_close(found[:1], joined(logits[:2], owner[:2], 1, "attention", apart[:2] + 500))
    torch.testing.assert_close(found[1:], joined(logits[2:], owner[:2], 1, "attention", apart[2:] - 500))


def test_attention_weighs_as_it_learns() -> None:
    torch.manual_seed(0)
    vectors, attention = torch.randn(4, 5), SegmentScores(5)
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 3.0], [0.0, 3.0]])
    optimiser = torch.optim.SGD(attention.parameters(), 1.0)
    before = None
    for _ in range(100):
        loss = -joined(logits, torch.zeros(4, dtype=torch.int64), 1, "attention", attention(vectors))[0, 0]
        before = loss.detach() if before is None else before
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.detach() < 0.3 < before


# --- sources


@dataclass(frozen=True)
class Data:
    """A store of made-up frames whose classes differ by the speed of a wave, and a fold of it."""

    store: FeatureStore
    clips: list[Frames]  # (layers, frames, dim)
    targets: npt.NDArray[np.int64]

    @property
    def train(self) -> npt.NDArray[np.int64]:
        return np.arange(12)

    @property
    def dev(self) -> npt.NDArray[np.int64]:
        return np.arange(12, 18)

    @property
    def test(self) -> npt.NDArray[np.int64]:
        return np.arange(18, 24)

    def source(self, options: SegmentOptions = SEGMENTS) -> WithinClips:
        maps = FeatureMaps(self.store, [key(n) for n in range(len(self.clips))])
        every = [np.ones(length, bool) for length in maps.lengths]
        return WithinClips(maps, cut(maps.lengths.tolist(), every, HOP_S, options))


def wave(number: int, length: int) -> Frames:
    """Return a clip, ``(layers, length, dim)``: noise in its first layer, in the second a wave of its class's speed."""
    chance = np.random.default_rng(number)
    turns = (1 + number % CLASSES) * np.arange(length) / 2 + chance.uniform(0, 6)
    clip = 0.2 * chance.normal(size=(LAYERS, length, DIM))
    clip[1] += np.sin(turns[:, None])
    return (clip * np.array([5.0, 0.2])[:, None, None] + np.arange(DIM)).astype(np.float32)


def make(folder: Path, *, other_from: int = 99) -> Data:
    """Make 24 clips of 4 to 60 frames; those from ``other_from`` on are others than usual."""
    store = FeatureStore(folder, {"statistics": ["gap_mean", "gap_std"], "frames": list(range(LAYERS))})
    numbers = range(24)
    clips = [wave(n + 100 * (n >= other_from), 4 + 13 * n % 57) for n in numbers]
    halves = [clip.astype(np.float16).astype(np.float32) for clip in clips]
    lengths = np.array([clip.shape[1] for clip in clips])
    pooled = PooledFeatures(
        {
            "gap_mean": np.stack([clip.mean(1) for clip in halves]),
            "gap_std": np.stack([clip.std(1) for clip in halves]),
        },
        160 * lengths,
        lengths,
        lengths,
        np.zeros(24, bool),
    )
    with store.shard() as shard:
        for n in numbers:
            shard.add_frames(key(n), 0, clips[n])
            shard.end_clip(key(n))
        speech = [SpeechSegments.whole(160 * n) for n in lengths.tolist()]
        shard.finish([key(n) for n in numbers], [f"{n}.wav" for n in numbers], pooled, speech)
    return Data(store, halves, np.array([n % CLASSES for n in numbers], np.int64))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return make(tmp_path_factory.mktemp("store"))


@given(st.data())
def test_what_is_read_is_cut_from_the_clips_shifted_no_more_than_half_a_step(
    data: Data, st_data: st.DataObject
) -> None:
    source = data.source()
    windows = source.windows
    rows = np.array(
        st_data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=9)), np.int64
    )
    shares = st.floats(-0.5, 0.5)
    shifts = st_data.draw(st.none() | st.lists(shares, min_size=len(rows), max_size=len(rows)))
    found = source.read(rows, shifts).numpy()
    assert found.shape == (len(rows), LAYERS, windows.frames, DIM)
    for place, row in enumerate(rows.tolist()):
        clip = data.clips[windows.clips[row]]
        length, start = clip.shape[1], int(windows.starts[row])
        if length < windows.frames:  # again and again
            expected = np.concatenate([clip] * 9, axis=1)[:, : windows.frames]
            assert np.array_equal(found[place], expected)
            continue
        at = [
            first
            for first in range(length - windows.frames + 1)
            if np.array_equal(found[place], clip[:, first : first + windows.frames])
        ]
        assert len(at) == 1
        wanted = start if shifts is None else start + round(shifts[place] * windows.step)
        assert at[0] == min(max(0, wanted), length - windows.frames)
        assert abs(at[0] - start) <= windows.step / 2 + 0.5


@pytest.mark.parametrize("layers", [None, [1]])
def test_moments_are_those_of_all_frames_of_the_clips_asked_for(data: Data, layers: list[int] | None) -> None:
    maps = FeatureMaps(data.store, [key(n) for n in range(24)], layers)
    source = WithinClips(maps, data.source().windows)
    rows = np.array([3, 0, 17])
    frames = np.concatenate([data.clips[row] for row in rows], axis=1)[maps.layers, :]
    mean, deviation = source.moments(rows)
    np.testing.assert_allclose(mean.numpy(), frames.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(deviation.numpy(), frames.std(1), rtol=1e-4)


def test_segments_that_were_encoded_alone_are_read_one_a_row_and_never_shifted(data: Data) -> None:
    lengths = [clip.shape[1] for clip in data.clips]
    # 24 segments of 9 clips; that of number n was encoded as the store's clip n, longer or shorter than it should be.
    owner = np.sort(np.arange(24) % 9)
    firsts = np.searchsorted(owner, np.arange(10))
    windows = Windows(owner, np.zeros(24, np.int64), firsts, 20, 10, HOP_S)
    source = EachAlone(FeatureMaps(data.store, [key(n) for n in range(24)]), windows)
    rows = np.arange(24)
    found = source.read(rows)
    assert torch.equal(found, source.read(rows, [0.5] * 24))
    for row in rows:
        assert np.array_equal(found[row], np.concatenate([data.clips[row]] * 6, axis=1)[:, :20])
    assert min(lengths) < 20 < max(lengths)
    here = np.concatenate([data.clips[row] for row in np.flatnonzero(np.isin(owner, [2, 5]))], axis=1)
    mean, deviation = source.moments(np.array([5, 2]))
    np.testing.assert_allclose(mean.numpy(), here.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(deviation.numpy(), here.std(1), rtol=1e-4)


def test_a_segment_to_be_encoded_alone_is_its_stretch_of_the_recording_and_gives_its_frames() -> None:
    clips = [Clip("a.wav"), Clip("b.wav", 2.0, 2.5), Clip("c.wav")]
    grid = upstreams.load("fbank:20").grid
    lengths_s = [0.265, 0.515, 0.08]
    lengths = [grid.num_frames(round(16_000 * one)) for one in lengths_s]
    options = SegmentOptions(length_s=0.2, overlap=0.5, min_speech=None)
    windows = cut(lengths, [np.ones(n, bool) for n in lengths], HOP_S, options)
    parts = parts_of(windows, clips, np.array(lengths_s), grid)
    found = [(one.file, round(one.start_s, 6), one.end_s and round(one.end_s, 6)) for one in parts]
    # 20 frames of 25 ms, one each 10 ms, take 215 ms.
    assert found == [
        ("a.wav", 0.0, 0.215),
        ("a.wav", 0.05, 0.265),
        ("b.wav", 2.0, 2.215),
        ("b.wav", 2.1, 2.315),
        ("b.wav", 2.2, 2.415),
        ("b.wav", 2.3, 2.515),
        ("c.wav", 0.0, None),  # shorter than a segment: it is encoded as it is
    ]
    assert all(grid.num_frames(round(16_000 * (end - start))) == 20 for _, start, end in found if end)


# --- network


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random ResNet as its makers save it, with batch norms off their first values."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], layer_type="basic"
    )
    model = transformers.ResNetModel(config)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.1, 1.0)
    model.save_pretrained(folder)
    return str(folder)


def batch_of(source: Source, clips: npt.NDArray[np.int64]) -> Batch:
    windows = source.windows
    owner = np.repeat(np.arange(len(clips)), windows.counts[clips])
    targets = torch.zeros(len(clips), dtype=torch.int64)
    return Batch([source.read(windows.of(clips)), torch.from_numpy(owner)], (), targets)


def test_a_network_standardises_mixes_and_joins_as_one_would_by_hand(data: Data) -> None:
    torch.manual_seed(0)
    source = data.source()
    network = SegmentNetwork((LAYERS, DIM), CLASSES, TINY, "mean").eval()
    mean, deviation = source.moments(data.train)
    deviation[0, 2] = 0.0  # one that never varies is only centred
    network.standardise(mean, deviation)
    with torch.no_grad():
        network.mix.copy_(torch.tensor([0.3, -0.4]))
        batch = batch_of(source, np.array([20, 3]))
        maps = batch.inputs[0]
        scale = deviation.clone()
        scale[0, 2] = 1.0
        standard = (maps - mean[None, :, None]) / scale[None, :, None]
        weights = network.mix.softmax(0)
        logits = network.linear(network.encoder((weights[None, :, None, None] * standard).sum(1)))
        counts = source.windows.counts[[20, 3]]
        expected = torch.stack([one.softmax(1).mean(0) for one in logits.split(counts.tolist())])
        torch.testing.assert_close(network(batch).exp(), expected)
        network.train()
        assert network(batch).shape == (counts.sum(), CLASSES), "in training each segment is scored by itself"


@pytest.mark.parametrize("decision", DECISIONS)
def test_posteriors_sum_to_one_in_half_the_bits_too(data: Data, decision: Decision) -> None:
    torch.manual_seed(0)
    network = SegmentNetwork((LAYERS, DIM), CLASSES, TINY, decision).eval()
    source = data.source(replace(SEGMENTS, overlap=0.9))
    with torch.no_grad():
        if network.scores is not None:
            network.scores.out.weight.mul_(20)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(batch_of(source, np.arange(24))).exp()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(24))


def test_one_small_segment_alone_in_a_batch_is_learned_from_too() -> None:
    network = SegmentNetwork((1, DIM), CLASSES, TINY, "mean").train()
    (norm,) = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    one = Batch([torch.randn(1, 1, 1, DIM), torch.tensor([0])], (), torch.tensor([0]))
    two = Batch([torch.randn(2, 1, 1, DIM), torch.tensor([0, 1])], (), torch.tensor([0, 0]))
    network(one).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert norm.num_batches_tracked == 0, "one number a channel has no deviation"
    network.train()
    network(two)
    assert norm.num_batches_tracked == 1


# --- training


def trained(
    data: Data, folder: Path, system: SegmentSystem | None = None, fit: FitOptions = FIT, **options: Any
) -> SegmentRun:
    """Train on a fold in a second."""
    given: dict[str, Any] = {"seed": 3, "targets": data.targets, "on_progress": None, **options}
    system = system or SegmentSystem(SEGMENTS, network=TINY)
    return train_segments(
        alone(fit.precision),
        data.source(system.segments),
        given["targets"],
        data.train,
        data.dev,
        data.test,
        CLASSES,
        folder,
        system,
        fit,
        seed=given["seed"],
        on_progress=given["on_progress"],
    )


def pictures(resnet: str, **options: Any) -> SegmentSystem:
    return SegmentSystem(SEGMENTS, images=ImageOptions(resnet, head_epochs=2), **options)


def same(one: SegmentRun, other: SegmentRun) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    return np.array_equal(one.logits, other.logits, equal_nan=True) and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_a_training_is_decided_by_its_seed(data: Data, tmp_path: Path) -> None:
    one, again, other = (trained(data, tmp_path / str(i), seed=seed) for i, seed in enumerate((3, 3, 4)))
    assert same(one, again)
    assert not same(one, other)
    assert np.isfinite(one.logits[data.test]).all()
    assert np.isnan(one.logits[:18]).all()
    assert one.logits.dtype == np.float32
    np.testing.assert_allclose(np.exp(one.logits[data.test]).sum(1), 1, rtol=1e-5)


class Killed(Exception):
    """The process ends here."""


def breaking_at(call: int) -> Callable[[FitProgress], None]:
    calls = 0

    def on_progress(_: FitProgress) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed

    return on_progress


@pytest.mark.parametrize("kind", ["mean", "attention", "pictures"])
def test_killed_at_any_time_and_called_again_it_ends_in_the_same_bits(
    kind: str, data: Data, resnet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fitting, "_REPORT_S", -1.0
    )  # so that each step is told, and not only the end of epochs
    system = pictures(resnet)
    if kind != "pictures":
        system = SegmentSystem(SEGMENTS, network=TINY, decision=kind)  # type: ignore[arg-type]
    # With attention many a clip is longer than a batch, and a part of its segments is drawn.
    fit = replace(FIT, epochs=2, batch_s=0.4 if kind == "attention" else 1.0)
    told: list[FitProgress] = []
    whole = trained(data, tmp_path / "whole", system, fit, on_progress=told.append)
    ends = {at + 1 for at, state in enumerate(told) if at and state.step == told[at - 1].step}
    epoch = len(told) // (4 if kind == "pictures" else 2)
    # In the middle of the first and the last epoch, and right behind a stage or an epoch.
    moments = {2, len(told) - 1, 2 * epoch if kind == "pictures" else epoch}
    assert moments & ends
    assert moments - ends
    for moment in sorted(moments):
        folder = tmp_path / str(moment)
        with pytest.raises(Killed):
            trained(data, folder, system, fit, on_progress=breaking_at(moment))
        assert same(whole, trained(data, folder, system, fit)), f"killed at call {moment} of {len(told)}"


@pytest.mark.parametrize("decision", ["mean", "attention"])
def test_nothing_of_the_test_clips_reaches_the_network(
    data: Data, tmp_path: Path, decision: Decision
) -> None:
    system = SegmentSystem(SEGMENTS, network=TINY, decision=decision)
    first = trained(data, tmp_path / "a", system)
    moved = data.targets.copy()
    moved[data.test] = np.roll(moved[data.test], 1)
    assert same(first, trained(data, tmp_path / "b", system, targets=moved))
    others = trained(make(tmp_path / "others", other_from=18), tmp_path / "c", system)
    state, expected = others.network.state_dict(), first.network.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert not np.allclose(others.logits[data.test], first.logits[data.test])


@pytest.mark.parametrize("kind", ["mean", "majority", "attention", "pictures"])
def test_a_clip_is_scored_alone_as_in_company(kind: str, data: Data, resnet: str, tmp_path: Path) -> None:
    system = pictures(resnet)
    if kind != "pictures":
        system = SegmentSystem(SEGMENTS, network=TINY, decision=kind)  # type: ignore[arg-type]
    run, source = trained(data, tmp_path, system, replace(FIT, epochs=1)), data.source()
    order = np.array([23, 18, 5, 21])
    together = score_clips(run.network, source, order)
    few = score_clips(run.network, source, order, batch_s=0.05)
    one_by_one = np.concatenate([score_clips(run.network, source, np.array([clip])) for clip in order])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    np.testing.assert_allclose(few, one_by_one, atol=1e-5)
    np.testing.assert_allclose(together[[1, 3]], run.logits[[18, 21]], atol=1e-5)
    assert score_clips(run.network, source, order[:0]).shape == (0, CLASSES)


def test_the_first_stage_leaves_the_pre_trained_network_as_it_is(
    data: Data, resnet: str, tmp_path: Path
) -> None:
    run = trained(data, tmp_path, pictures(resnet))
    before = {f"encoder.{name}": value for name, value in load_image_cnn(resnet).state_dict().items()}
    assert any("running_var" in name for name in before)
    heads = sorted((tmp_path / HEAD / "epochs").iterdir())
    assert heads
    for path in heads:
        state = load_file(path)
        assert before.keys() < state.keys()
        assert all(torch.equal(state[name], value) for name, value in before.items())
        assert state["linear.bias"].abs().sum() > 0
    after = run.network.state_dict()
    for name in before:
        if "num_batches_tracked" not in name:
            assert not torch.equal(after[name], before[name]), name
    assert [fitted.epochs for fitted in run.stages] == [2, 3]
    assert [len(fitted.best.kept) for fitted in run.stages] == [1, 2], (
        "a head that was tried out is not averaged"
    )
    assert (tmp_path / WHOLE / "curves.csv").exists()


@pytest.mark.parametrize("decision", ["mean", "attention"])
def test_shifts_change_what_is_learned_and_not_what_is_scored(
    data: Data, tmp_path: Path, decision: Decision
) -> None:
    shifted, still = (
        trained(
            data,
            tmp_path / str(shift),
            SegmentSystem(replace(SEGMENTS, shift=shift), network=TINY, decision=decision),
        )
        for shift in (True, False)
    )
    assert not same(shifted, still)
    again = score_clips(shifted.network, data.source(replace(SEGMENTS, shift=False)), data.test)
    np.testing.assert_allclose(again, shifted.logits[data.test], atol=1e-6)


def test_classes_that_differ_by_the_speed_of_a_movement_in_one_layer_are_learned(
    data: Data, tmp_path: Path
) -> None:
    network = replace(TINY, blocks=(ConvBlock(16, kernel=9, max_pool=2),))
    system = SegmentSystem(replace(SEGMENTS, length_s=0.2), network=network)
    run = trained(data, tmp_path, system, replace(FIT, epochs=30, learning_rate=0.02))
    right = run.logits[data.test].argmax(1) == data.targets[data.test]
    assert right.sum() >= 5
    assert run.network.mix.softmax(0)[1] > 0.5, "the layer that holds the classes counts for more"


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> tuple[WithinClips, pd.DataFrame]:
    """Segments of filter banks of tones, those with speech alone, and the table of their clips."""
    folder = tmp_path_factory.mktemp("tones")
    table = corpora.read("manifest", synthetic.manifest(folder / "tones"))
    upstream, detector = upstreams.load("fbank:20"), get_detector("energy")
    options = ExtractionOptions(frames="all")
    found = extract(clips_of(table), upstream, detector, store=folder / "store", options=options)
    maps = FeatureMaps(FeatureStore.open(folder / "store"), found.keys)
    speech = [
        one.project(upstream.grid, int(length)) for one, length in zip(maps.speech, maps.lengths, strict=True)
    ]
    segments = SegmentOptions(length_s=0.15, min_speech=0.3)
    return WithinClips(maps, cut(maps.lengths.tolist(), speech, HOP_S, segments)), table


@pytest.mark.parametrize("decision", DECISIONS)
def test_tones_are_learned_without_development_clips_too(
    tones: tuple[WithinClips, pd.DataFrame], tmp_path: Path, decision: Decision
) -> None:
    source, table = tones
    network = replace(TINY, blocks=(ConvBlock(16, batch_norm=False),), dropout=0.0)
    targets = np.unique(table["emotion"].astype(str), return_inverse=True)[1].astype(np.int64)
    rows, test = np.arange(24), np.flatnonzero(table["speaker"] == "s0")
    run = train_segments(
        alone("fp32"),
        source,
        targets,
        np.setdiff1d(rows, test),
        rows[:0],
        test,
        CLASSES,
        tmp_path,
        SegmentSystem(network=network, decision=decision),
        replace(FIT, epochs=30),
        seed=0,
    )
    assert (run.logits[test].argmax(1) == targets[test]).all()
    assert [one.epoch for one in run.stages[0].best.kept] == [29, 28], "without them the last epochs count"


def test_a_network_is_opened_again_as_it_was_or_told_to_be_damaged(
    data: Data, resnet: str, tmp_path: Path
) -> None:
    path = tmp_path / "network.safetensors"
    for system in (SegmentSystem(SEGMENTS, network=TINY, decision="attention"), pictures(resnet)):
        run = trained(data, tmp_path / str(system.decision), system, replace(FIT, epochs=1))
        layers, detector = tuple(range(LAYERS)), get_detector("energy").config()
        saved_as = SavedAs(system, ("a", "b", "c"), "made-up", "0123", layers, detector)
        save_network(run.network, saved_as, path)
        again, found = load_network(path)
        assert found == saved_as
        assert not again.training
        scored = score_clips(again, data.source(), data.test, FIT.batch_s)
        assert np.array_equal(scored, run.logits[data.test])
    path.write_bytes(path.read_bytes()[:-100])
    for wrong in (path, tmp_path / "nowhere"):
        with pytest.raises(TrainingError, match=r"is no network on segments, or is damaged: "):
            load_network(wrong)
    with pytest.raises(TrainingError, match=r"could not be written: .*make room"):
        save_network(run.network, saved_as, tmp_path / "nowhere" / "network.safetensors")
