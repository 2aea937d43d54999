"""Long clips: chunks that together are the clip, frames that do not tell where it was cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subtone import upstreams
from subtone.extraction.chunks import ONE_PASS_S, OVERLAP_S, Chunk, cut_chunks, plan
from subtone.extraction.pooled import ClipPooling, pool_wave
from subtone.pooling import STATISTICS, PoolingError, pool
from subtone.speech import SpeechSegments, get_detector
from subtone.upstreams import Upstream
from tests import synthetic, tiny_upstreams
from tests.pooling_cases import calm
from tests.tiny_upstreams import FAMILIES, WHISPER_FAMILIES, noise, relative_error

ENERGY = get_detector("energy")
FBANK = upstreams.load("fbank:20+deltas")
NAMES = tuple(STATISTICS)
GRIDS = ("wav2vec2-group", "w2v-bert-rotary", "whisper-80", "fbank")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upstreams")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> dict[str, Upstream]:
    made = {f: upstreams.load(tiny_upstreams.write(folder / f, f)) for f in GRIDS if f != "fbank"}
    return {**made, "fbank": FBANK}


def stitched(
    upstream: Upstream, wave: npt.NDArray[np.float32], chunks: list[Chunk]
) -> npt.NDArray[np.float32]:
    survey = upstream.survey([wave])
    pieces = [upstream.extract([wave[c.start : c.end]], [survey])[0][:, c.core] for c in chunks]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("family", GRIDS)
@calm
@given(
    num_samples=st.integers(0, 400_000),
    one_pass_s=st.floats(0.5, 10),
    overlap_s=st.floats(0, 3),
)
def test_cores_are_the_frames_of_the_clip_each_once(
    family: str, tiny: dict[str, Upstream], num_samples: int, one_pass_s: float, overlap_s: float
) -> None:
    upstream = tiny[family]
    chunks = plan(num_samples, upstream, one_pass_s=one_pass_s, overlap_s=overlap_s)
    total = upstream.grid.num_frames(num_samples)
    assert np.concatenate([np.arange(total)[c.frames] for c in chunks]).tolist() == list(range(total))
    if len(chunks) == 1:
        assert (chunks[0].start, chunks[0].end, chunks[0].skip) == (0, num_samples, 0)
        return
    rate, hop = upstream.grid.sample_rate_hz, upstream.grid.hop
    sizes = [upstream.grid.num_frames(c.end - c.start) for c in chunks]
    assert len(set(sizes)) == 1, "all passes are of one shape"
    assert sizes[0] * hop <= one_pass_s * rate
    assert all(c.end - c.start <= (upstream.one_pass_samples or num_samples) for c in chunks)
    for chunk, size in zip(chunks, sizes, strict=True):
        assert chunk.start % hop == 0
        assert 0 <= chunk.start < chunk.end <= num_samples
        assert chunk.first_frame == chunk.start // hop + chunk.skip
        least = min(int(max(overlap_s, upstream.context_s) * rate / hop), size // 4)
        assert chunk is chunks[0] or chunk.skip >= least
        assert chunk is chunks[-1] or size - chunk.core.stop >= least


def test_a_clip_of_one_pass_is_one_chunk_and_a_longer_one_is_cut_equally(tiny: dict[str, Upstream]) -> None:
    upstream = tiny["wav2vec2-group"]
    rate = upstream.grid.sample_rate_hz
    assert len(plan(int(ONE_PASS_S * rate), upstream)) == 1
    assert len(plan(int((ONE_PASS_S + 1) * rate), upstream)) == 2
    chunks = plan(3600 * rate, upstream)
    assert len(chunks) == -(-(3600 - 2 * OVERLAP_S) // (ONE_PASS_S - 2 * OVERLAP_S))
    lengths = [c.end - c.start for c in chunks]
    assert max(lengths) - min(lengths) < upstream.grid.hop


@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_is_not_attention_is_the_same_in_chunks_as_in_one_pass(family: str, tmp_path: Path) -> None:
    network = tiny_upstreams.network(family)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            # What attention hands on; and positions, which Whisper counts anew in each chunk.
            if any(part in name for part in (".out_proj.", ".linear_out.", "embed_positions")):
                parameter.zero_()
    network.save_pretrained(tmp_path)
    upstream = upstreams.load(tmp_path)
    seconds, one_pass_s = (5.9, 2.9) if family in WHISPER_FAMILIES else (14.0, 6.0)
    wave = noise(int(seconds * 16_000))
    chunks = plan(len(wave), upstream, one_pass_s=one_pass_s)
    assert len(chunks) > 2
    (whole,) = upstream.extract([wave])
    assert relative_error(stitched(upstream, wave, chunks), whole) < 1e-4


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in WHISPER_FAMILIES])
def test_attention_within_a_chunk_hardly_moves_what_is_pooled(family: str, tmp_path: Path) -> None:
    upstream = upstreams.load(tiny_upstreams.write(tmp_path, family))
    wave = noise(20 * 16_000)
    found = stitched(upstream, wave, plan(len(wave), upstream, one_pass_s=10)).mean(1)
    wanted = upstream.extract([wave])[0].mean(1)  # (layers, dim)
    cosine = (found * wanted).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosine.min() > 0.99


@pytest.mark.parametrize("name", ["fbank:20", "fbank:20+deltas", "fbank:20+cmvn", "fbank:20+deltas+level"])
def test_filter_banks_of_a_long_clip_are_those_of_one_pass(name: str) -> None:
    upstream = upstreams.load(name)
    wave = synthetic.utterance(2 * ONE_PASS_S + 3, seed=1)
    chunks = plan(len(wave), upstream)
    assert len(chunks) == 3
    (whole,) = upstream.extract([wave])
    np.testing.assert_allclose(stitched(upstream, wave, chunks), whole, rtol=1e-3, atol=1e-3)
    speech = ENERGY.detect(wave)
    found = pool_wave(upstream, wave, speech, NAMES)
    spoken = torch.from_numpy(speech.project(upstream.grid, whole.shape[1]))[None]
    assert 0 < spoken.sum() < spoken.numel()
    wanted = pool(torch.from_numpy(whole), torch.ones_like(spoken), spoken, NAMES)
    for statistic, values in wanted.items():
        np.testing.assert_allclose(found.statistics[statistic][0], values, rtol=1e-3, atol=1e-3)
    assert found.num_frames.tolist() == [whole.shape[1]]
    assert found.num_samples.tolist() == [len(wave)]
    assert found.speech_frames.tolist() == [int(spoken.sum())]


def test_a_clip_longer_than_whispers_positions_gets_its_frames(tiny: dict[str, Upstream]) -> None:
    upstream = tiny["whisper-80"]  # 6 s of positions
    wave = synthetic.utterance(15.0)
    found = pool_wave(upstream, wave, SpeechSegments.whole(len(wave)), ("gap_mean", "sap_mean"))
    assert found.num_frames.tolist() == [750]
    assert np.array_equal(found.statistics["gap_mean"], found.statistics["sap_mean"])


@pytest.mark.parametrize("family", GRIDS)
def test_a_short_clip_pools_to_what_pooling_gives(family: str, tiny: dict[str, Upstream]) -> None:
    upstream = tiny[family]
    wave = synthetic.utterance(3.0, seed=2)
    speech = ENERGY.detect(wave)
    (frames,) = upstream.extract([wave])
    spoken = torch.from_numpy(speech.project(upstream.grid, frames.shape[1]))[None]
    found = pool_wave(upstream, wave, speech, NAMES)
    for layer in range(upstream.num_layers):
        wanted = pool(torch.from_numpy(frames[layer])[None], torch.ones_like(spoken), spoken, NAMES)
        for name in NAMES:
            np.testing.assert_allclose(
                found.statistics[name][0, layer], wanted[name][0], rtol=1e-5, atol=1e-5
            )


def test_parts_in_any_order_give_the_same_bytes(tiny: dict[str, Upstream]) -> None:
    upstream = tiny["whisper-80"]
    wave = synthetic.utterance(20.0, seed=3)
    work = ClipPooling.plan(upstream, len(wave), ENERGY.detect(wave), NAMES)
    survey = upstream.survey([wave])
    blocks = np.split(wave, [1_000, 100_000, 100_001])
    parts = [
        work.part(chunk, torch.from_numpy(upstream.extract([piece], [survey])[0]))
        for chunk, piece in zip(work.chunks, cut_chunks(blocks, work.chunks), strict=True)
    ]
    assert len(parts) > 3
    one, other = work.finish(parts), work.finish(parts[::-1])
    memory = pool_wave(upstream, wave, ENERGY.detect(wave), NAMES)
    for name in NAMES:
        assert np.array_equal(one.statistics[name], other.statistics[name])
        assert np.array_equal(one.statistics[name], memory.statistics[name])
    with pytest.raises(PoolingError, match="are missing"):
        work.finish(parts[:-1])


def test_a_statistic_that_needs_all_frames_works_for_clips_of_one_pass_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(STATISTICS, "highest", lambda frames, _mask, _speech: frames.amax(1))
    wave = synthetic.utterance(1.0)
    found = pool_wave(FBANK, wave, ENERGY.detect(wave), ("highest", "gap_mean"))
    (frames,) = FBANK.extract([wave])
    assert np.array_equal(found.statistics["highest"][0], frames.max(1))
    assert found.statistics["gap_mean"].shape == (1, 1, 60)
    long = np.tile(wave, 90)
    with pytest.raises(PoolingError, match="'highest' needs all frames of a clip at once"):
        pool_wave(FBANK, long, ENERGY.detect(long), ("highest",))
