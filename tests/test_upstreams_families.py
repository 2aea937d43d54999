"""The promises of every family of encoders, held on small random networks."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subtone import upstreams
from subtone.upstreams import Upstream
from tests.tiny_upstreams import (
    CNN_FAMILIES,
    FAMILIES,
    W2V_BERT_FAMILIES,
    network,
    noise,
    relative_error,
    write,
)

# 400 samples beside five seconds, a frame more and a frame less, nothing at all, an odd number of 10 ms hops.
LENGTHS = [400, 80_000, 719, 720, 16_123, 0, 399, 6_400, 5_000]
TOLERANCE = 1e-4
NO_DROPOUT = {
    f"{place}_dropout": 0.0
    for place in ("hidden", "attention", "activation", "feat_proj", "final", "conformer_conv")
} | {"dropout": 0.0}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Upstream]:
    return {family: upstreams.load(write(tmp_path_factory.mktemp(family), family)) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_do_not_depend_on_the_batch(family: str, loaded: dict[str, Upstream]) -> None:
    upstream = loaded[family]
    waves = [noise(n) for n in LENGTHS]
    alone = upstream.extract(waves)
    for order in (range(len(waves)), [3, 0, 7], [1, 1, 4]):
        with torch.no_grad():
            batch = upstream.encode([waves[i] for i in order])
        assert batch.frames.shape[:2] == (len(order), upstream.num_layers)
        for row, i in enumerate(order):
            valid = int(batch.mask[row].sum())
            assert batch.mask[row, :valid].all()
            assert relative_error(batch.frames[row, :, :valid], alone[i]) < TOLERANCE
            assert not batch.frames[row, :, valid:].any()


@pytest.mark.parametrize("family", ["wav2vec2-group", "hubert-group", "data2vec"])
def test_the_published_forward_does_depend_on_the_batch(family: str) -> None:
    # The fault that this package repairs: without it, the test above could not fail.
    module = network(family)
    long, short = torch.tensor(noise(80_000)), torch.tensor(noise(6_400))
    mask = torch.zeros(2, 80_000, dtype=torch.long)
    mask[0], mask[1, :6_400] = 1, 1
    padded = torch.stack([long, torch.nn.functional.pad(short, (0, 80_000 - 6_400))])
    with torch.no_grad():
        batch = module(padded, attention_mask=mask).last_hidden_state[1]
        alone = module(short[None]).last_hidden_state[0]
    assert relative_error(batch[: len(alone)], alone) > 1e-2


@pytest.mark.parametrize("family", CNN_FAMILIES)
def test_a_clip_alone_gives_the_published_hidden_states(family: str, loaded: dict[str, Upstream]) -> None:
    wave = noise(16_123)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=loaded[family].normalize)  # type: ignore[attr-defined]
    values = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        published = network(family)(values, output_hidden_states=True).hidden_states
    assert relative_error(loaded[family].extract([wave])[0], torch.cat(published)) < TOLERANCE


@pytest.mark.parametrize("family", W2V_BERT_FAMILIES)
@pytest.mark.parametrize("num_samples", [16_123, 16_240])  # an odd and an even number of filter-bank frames
def test_w2v_bert_alone_gives_the_published_hidden_states(
    family: str, num_samples: int, loaded: dict[str, Upstream]
) -> None:
    wave = noise(num_samples)
    extractor = transformers.SeamlessM4TFeatureExtractor()
    inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        published = network(family)(**inputs, output_hidden_states=True).hidden_states
    got = loaded[family].extract([wave])[0]
    assert relative_error(got, torch.cat(published)[:, : got.shape[1]]) < TOLERANCE
    assert got.shape[1] == int(inputs.attention_mask.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_clips_shorter_than_the_receptive_field_are_padded_and_flagged(
    family: str, loaded: dict[str, Upstream]
) -> None:
    upstream = loaded[family]
    waves = [noise(n) for n in (0, 1, upstream.min_samples - 1, upstream.min_samples)]
    encoded = upstream.encode(waves)
    assert encoded.too_short == (True, True, True, False)
    assert encoded.mask.sum(dim=1).tolist() == [1, 1, 1, 1]
    assert torch.isfinite(encoded.frames).all()


@pytest.mark.parametrize(
    "family", ["xls-r", "wav2vec2-group", "data2vec", "w2v-bert-relative_key", "whisper-80"]
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_grid_counts_frames_as_the_network_does(
    family: str, data: st.DataObject, loaded: dict[str, Upstream]
) -> None:
    upstream = loaded[family]
    edges = [upstream.min_samples - 1 + 320 * i for i in range(9)]
    num_samples = data.draw(st.integers(0, 5_000) | st.sampled_from(edges))
    frames = upstream.extract([np.zeros(num_samples, np.float32)])[0]
    assert frames.shape == (upstream.num_layers, upstream.grid.num_frames(num_samples), upstream.dim)


def test_frame_counts_follow_the_published_formula(loaded: dict[str, Upstream]) -> None:
    published = network("xls-r")._get_feat_extract_output_lengths
    for num_samples in [*range(400, 1_100), 16_000, 79_999, 480_000]:
        assert loaded["xls-r"].grid.num_frames(num_samples) == int(published(torch.tensor(num_samples)))


def _receptive_field(upstream: Upstream, num_samples: int, frame: int) -> tuple[int, int]:
    """Return first and last sample that change a frame of the convolutions, by gradient."""
    module: Any = upstream.module
    wave = torch.randn(1, num_samples, requires_grad=True)
    features = module.feature_extractor(wave)  # (batch, channels, frames)
    features[0, :, frame].sum().backward()
    assert wave.grad is not None
    touched = wave.grad[0].nonzero().flatten()
    return int(touched[0]), int(touched[-1])


def test_cells_are_centred_on_the_receptive_field(loaded: dict[str, Upstream]) -> None:
    upstream = loaded["xls-r"]  # a layer-norm stack: a group norm would see the whole clip
    first, last = _receptive_field(upstream, 4_000, 5)
    assert (first, last) == (5 * 320, 5 * 320 + 399)
    start, end = upstream.grid.cells(11, 4_000)[5]
    assert start + end == first + last + 1
    assert end - start == 320


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_flow_in_training_and_the_padding_gives_none(family: str, tmp_path: Path) -> None:
    upstream = upstreams.load(write(tmp_path, family, **NO_DROPOUT))
    module = upstream.module
    assert module is not None
    module.train()
    waves = [torch.tensor(noise(n), requires_grad=True) for n in (3_000, 9_000)]

    def gradient(index: int, batch: list[torch.Tensor]) -> torch.Tensor:
        module.zero_grad()
        encoded = upstream.encode(batch)
        assert (
            encoded.frames.shape[1] == upstream.num_layers
        )  # none dropped, though layerdrop is on in the file
        encoded.frames[index, :, encoded.mask[index]].square().mean().backward()
        used = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        assert len(used) > 10
        return torch.cat(used)

    alone, batched = gradient(0, waves[:1]), gradient(0, waves)
    assert torch.isfinite(alone).all()
    assert alone.abs().max() > 0
    assert float((alone - batched).norm() / alone.norm()) < 1e-3
    assert waves[0].grad is not None
    assert waves[0].grad.abs().max() > 0
    assert waves[1].grad is None or not waves[1].grad.any()


def test_gradient_checkpointing_does_not_bring_the_padding_back(tmp_path: Path) -> None:
    upstream = upstreams.load(write(tmp_path, "wav2vec2-group", **NO_DROPOUT))
    module: Any = upstream.module
    module.train()
    gradients = []
    for _ in range(2):
        module.zero_grad()
        encoded = upstream.encode([noise(3_000), noise(9_000)])
        encoded.frames.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
        module.gradient_checkpointing_enable()
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_family_whose_layers_cannot_be_recomputed_says_so(loaded: dict[str, Upstream]) -> None:
    module: Any = loaded["conformer-relative"].module
    with pytest.raises(ValueError, match=r"does not support .* checkpointing"):
        module.gradient_checkpointing_enable()


@pytest.mark.parametrize("family", ["wav2vec2-group", "data2vec", "w2v-bert-relative", "whisper-80"])
def test_threads_do_not_see_each_others_batches(family: str, loaded: dict[str, Upstream]) -> None:
    upstream = copy.deepcopy(loaded[family])
    batches = [[noise(n, seed) for n in (400 + 800 * seed, 9_000 - 900 * seed)] for seed in range(8)]
    wanted = [loaded[family].extract(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for encoded, alone in zip(pool.map(upstream.encode, batches * 3), wanted * 3, strict=True):
            for row, frames in enumerate(alone):
                got = encoded.frames[row, :, encoded.mask[row]].detach()
                assert relative_error(got, frames) < TOLERANCE


def test_extract_leaves_the_mode_of_the_network_as_it_was(loaded: dict[str, Upstream]) -> None:
    module = loaded["hubert-group"].module
    assert module is not None
    module.train()
    module.get_submodule("encoder.layers.0").eval()
    before = [part.training for part in module.modules()]
    first = loaded["hubert-group"].extract([noise(2_000)])
    assert [part.training for part in module.modules()] == before
    module.eval()
    np.testing.assert_array_equal(first[0], loaded["hubert-group"].extract([noise(2_000)])[0])


@pytest.mark.parametrize("family", ["wav2vec2-group", "w2v-bert-relative_key", "whisper-80"])
def test_half_precision_weights_give_float32_features(family: str, tmp_path: Path) -> None:
    folder = write(tmp_path, family)
    half = upstreams.load(folder, dtype="bfloat16").extract([noise(4_000)])[0]
    full = upstreams.load(folder).extract([noise(4_000)])[0]
    assert half.dtype == full.dtype == np.float32
    assert 1e-5 < np.linalg.norm(half - full) / np.linalg.norm(full) < 0.1


@pytest.mark.parametrize(
    ("waves", "message"),
    [
        ([], "at least one wave"),
        (np.zeros(800, np.float32), "list of clips"),
        ([np.zeros((2, 800), np.float32)], r"one-dimensional.*\(2, 800\)"),
        ([np.zeros(800, np.int16)], "floats.*int16"),
        ([torch.zeros(800, dtype=torch.int16)], "floats.*int16"),
        ([np.zeros(800), np.full(800, np.nan)], "wave 1 holds NaN"),
        ([np.full(800, np.inf, np.float32)], "wave 0 holds NaN or inf"),
    ],
)
def test_a_wave_that_is_none_is_refused(waves: Any, message: str, loaded: dict[str, Upstream]) -> None:
    with pytest.raises(upstreams.UpstreamError, match=message):
        loaded["wav2vec2-group"].encode(waves)


def test_extract_names_the_bad_wave_by_its_place(loaded: dict[str, Upstream]) -> None:
    with pytest.raises(upstreams.UpstreamError, match="wave 2 holds NaN"):
        loaded["wav2vec2-group"].extract([np.zeros(800), np.zeros(800), np.full(800, np.nan)])
    assert loaded["wav2vec2-group"].extract([]) == []


def test_waves_of_any_float_kind_and_layout_are_read_alike(loaded: dict[str, Upstream]) -> None:
    wave = noise(2_000)
    frozen = wave.copy()
    frozen.setflags(write=False)
    kinds = [
        frozen,
        wave.astype(np.float64),
        torch.tensor(wave),
        torch.tensor(wave).double(),
        wave[::-1].copy()[::-1],
    ]
    first, *others = loaded["wavlm-layer"].extract(kinds)
    for other in others:
        np.testing.assert_array_equal(first, other)
