"""What enters a network and the network alone: together what encode gives, for engines of any kind and threads."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subtone import upstreams
from subtone.upstreams import Upstream
from tests.tiny_upstreams import CNN_FAMILIES, FAMILIES, noise, relative_error, write

LENGTHS = [16_123, 400, 100, 5_039, 40_000]
GROUP_NORMED = [family for family in CNN_FAMILIES if "group" in family]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Upstream]:
    return {family: upstreams.load(write(tmp_path_factory.mktemp(family), family)) for family in FAMILIES}


def network_of(upstream: Upstream) -> torch.nn.Module:
    module = upstream.module
    assert module is not None
    return module


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_core_after_front_gives_what_the_published_network_gives(
    family: str, loaded: dict[str, Upstream]
) -> None:
    upstream = loaded[family]
    core = upstream.core()
    assert core is not None
    for num_samples in LENGTHS:
        wave = noise(num_samples)
        got = core(upstream.front(wave)[None])
        published = upstream.encode([wave])  # through the published forward, with masks
        assert got.shape == (upstream.num_layers, upstream.grid.num_frames(num_samples), upstream.dim)
        assert relative_error(got, published.frames[0]) < 1e-5
        np.testing.assert_array_equal(got, upstream.extract([wave])[0])


def test_without_a_network_front_gives_the_frames() -> None:
    upstream = upstreams.load("fbank:20+deltas")
    assert upstream.core() is None
    np.testing.assert_array_equal(upstream.front(noise(4_000)).T, upstream.extract([noise(4_000)])[0][0])


@pytest.mark.parametrize("family", CNN_FAMILIES)
def test_clips_of_equally_many_frames_enter_the_network_in_one_shape(
    family: str, loaded: dict[str, Upstream]
) -> None:
    upstream = loaded[family]
    shapes = [upstream.front(noise(n)).shape for n in (8_080, 8_081, 8_085, 8_399, 8_400)]
    assert len(set(shapes[:4])) == 1
    assert shapes[4] != shapes[0]


@pytest.mark.parametrize(
    "family",
    [
        "wav2vec2-group",
        "xls-r",
        "wavlm-group",
        "data2vec",
        "conformer-relative",
        "w2v-bert-rotary",
        "w2v-bert-relative_key",
        "whisper-80",
    ],
)
@torch.no_grad()
def test_an_exported_core_takes_clips_of_any_length(family: str, loaded: dict[str, Upstream]) -> None:
    upstream = loaded[family]
    core, inputs = upstream.core(), upstream.front(noise(16_123))[None]
    assert core is not None
    exported = torch.export.export(
        core, (inputs,), dynamic_shapes=({2: torch.export.Dim.DYNAMIC},), strict=False
    ).module()
    for num_samples in (30_000, 4_000):
        wave = noise(num_samples)
        assert relative_error(exported(upstream.front(wave)[None]), upstream.extract([wave])[0]) < 1e-5


@pytest.mark.parametrize("family", ["wavlm-group", "whisper-80"])
@torch.no_grad()
def test_openvino_runs_a_core_on_clips_of_any_length(family: str, loaded: dict[str, Upstream]) -> None:
    openvino = pytest.importorskip("openvino")
    upstream = loaded[family]
    inputs = upstream.front(noise(16_123))[None]
    model = openvino.convert_model(upstream.core(), example_input=inputs)
    model.reshape({model.input(0): openvino.PartialShape([1, inputs.shape[1], -1])})
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for num_samples in (16_123, 400, 30_000):
        wave = noise(num_samples)
        got = compiled(upstream.front(wave)[None].numpy())[0]
        assert relative_error(got, upstream.extract([wave])[0]) < 1e-4


@pytest.mark.parametrize("family", GROUP_NORMED)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_first_layer_by_one_product_is_the_published_first_layer(
    family: str, offset: float, loaded: dict[str, Upstream]
) -> None:
    # Double precision tells which of the two is the more exact where a recording has an offset.
    upstream, wave = loaded[family], noise(16_123) + np.float32(offset)
    published: Any = copy.deepcopy(
        network_of(upstream).get_submodule("feature_extractor.conv_layers.0")
    ).double()
    samples = torch.tensor(wave).double()[None, None]
    wanted = published(samples)[0].float()  # (channels, frames)
    got = upstream.front(wave)
    torch.testing.assert_close(got, wanted[:, : got.shape[1]], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_with_clips_of_all_lengths_get_their_own_frames(
    family: str, loaded: dict[str, Upstream]
) -> None:
    upstream = copy.deepcopy(loaded[family])
    waves = [noise(n, seed) for seed, n in enumerate([400, 9_000, 16_000, 3_000, 12_345, 700] * 3)]
    wanted = [loaded[family].extract([wave])[0] for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        for got, frames in zip(pool.map(lambda w: upstream.extract([w])[0], waves), wanted, strict=True):
            assert relative_error(got, frames) < 1e-5


def test_threads_that_extract_while_a_network_trains_leave_its_mode_when_the_last_is_done(
    tmp_path: Path,
) -> None:
    upstream = upstreams.load(write(tmp_path, "wav2vec2-group"))
    waves = [noise(n) for n in range(2_000, 12_000, 500)]
    wanted, network = upstream.extract(waves), network_of(upstream)
    network.train()
    network.get_submodule("encoder.layers.1").eval()
    before = [part.training for part in network.modules()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda wave: upstream.extract([wave])[0], waves))
    assert [part.training for part in network.modules()] == before
    for got, frames in zip(found, wanted, strict=True):  # dropout never came back in between
        assert relative_error(got, frames) < 1e-5


def test_a_core_follows_the_weights(tmp_path: Path) -> None:
    upstream = upstreams.load(write(tmp_path, "hubert-group"))
    core, wave = upstream.core(), noise(4_000)
    with torch.no_grad():
        for weight in network_of(upstream).parameters():
            weight.mul_(1.1)
        assert core is not None
        got, wanted = core(upstream.front(wave)[None]), upstream.encode([wave]).frames[0]
    assert relative_error(got, wanted) < 1e-5


def test_a_clip_beyond_the_positions_is_too_long_for_one_pass(loaded: dict[str, Upstream]) -> None:
    whisper = loaded["whisper-80"]
    longest = whisper.one_pass_samples
    assert longest is not None
    assert whisper.grid.num_frames(longest) == 300
    assert whisper.grid.num_frames(longest + 1) == 301
    assert whisper.front(noise(longest)).shape[1] == longest // 160
    with pytest.raises(upstreams.UpstreamError, match=f"at most {longest} samples"):
        whisper.front(noise(longest + 1))
    assert loaded["xls-r"].one_pass_samples is None
