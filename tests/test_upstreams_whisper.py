"""The Whisper encoder without padding: published numbers at 30 s, real weights, long clips."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file

from subtone import upstreams
from subtone.upstreams import Upstream
from tests.tiny_upstreams import WHISPER_FAMILIES, network, noise, relative_error, write


@pytest.fixture(scope="module")
def tiny(shared: Path) -> Upstream:
    return upstreams.load(shared / "data" / "weights" / "whisper-tiny.en-encoder")


@pytest.mark.parametrize("family", WHISPER_FAMILIES)
def test_a_clip_that_fills_the_positions_gives_the_published_hidden_states(
    family: str, tmp_path: Path
) -> None:
    module = network(family).get_encoder()
    wave = noise(300 * 320)
    extractor = transformers.WhisperFeatureExtractor(feature_size=WHISPER_FAMILIES[family]["num_mel_bins"])
    mel = extractor(wave, sampling_rate=16_000, padding=False, return_tensors="pt").input_features
    with torch.no_grad():
        published = module(mel, output_hidden_states=True).hidden_states
    got = upstreams.load(write(tmp_path, family)).extract([wave])[0]
    assert relative_error(got, torch.cat(published)) < 1e-4


def test_thirty_seconds_through_real_weights_give_the_published_hidden_states(
    tiny: Upstream, shared: Path
) -> None:
    folder = shared / "data" / "weights" / "whisper-tiny.en-encoder"
    encoder = transformers.WhisperModel.from_pretrained(folder, dtype=torch.float32).get_encoder()
    wave = noise(480_000)
    mel = transformers.WhisperFeatureExtractor()(
        wave, sampling_rate=16_000, return_tensors="pt"
    ).input_features
    with torch.no_grad():
        published = encoder(mel, output_hidden_states=True).hidden_states
        exact = encoder.double()(mel.double(), output_hidden_states=True).hidden_states
    # How much rounding makes of one frame of noise differs by processor; no more of it than the published one has.
    rounding = relative_error(torch.cat(published), torch.cat(exact))
    assert relative_error(tiny.extract([wave])[0], torch.cat(exact)) < max(1e-4, 2 * rounding)
    assert rounding < 1e-3


def test_real_weights_on_real_speech_do_not_depend_on_the_batch(tiny: Upstream, shared: Path) -> None:
    files = [path for path in sorted((shared / "data").rglob("*")) if path.suffix == ".opus"]
    read = (soundfile.read(path, dtype="float32", always_2d=True) for path in files[::2_500])
    waves = [samples[:, 0] for samples, _ in read] + [noise(400)]
    assert len(waves) > 2
    with torch.no_grad():
        batch = tiny.encode(waves)
    for row, alone in enumerate(tiny.extract(waves)):
        assert relative_error(batch.frames[row, :, batch.mask[row]], alone) < 1e-4


def test_log_mel_is_the_published_one_of_the_bare_clip() -> None:
    from subtone.upstreams.whisper import log_mel

    wave = noise(7_777)
    extractor = transformers.WhisperFeatureExtractor()
    published = extractor(wave, sampling_rate=16_000, padding=False, return_tensors="np").input_features[0]
    np.testing.assert_allclose(log_mel(torch.tensor(wave), 80).T, published, atol=1e-5)


@pytest.mark.parametrize("num_samples", [300 * 320 + 159, 300 * 320 + 160, 96_321, 250_000])
def test_a_clip_longer_than_the_positions_is_cut_and_joined_without_loss(
    num_samples: int, tmp_path: Path
) -> None:
    upstream = upstreams.load(write(tmp_path, "whisper-80"))
    wave = noise(num_samples)
    frames = upstream.extract([wave])[0]
    assert frames.shape[1] == upstream.grid.num_frames(num_samples) == (num_samples // 160 + 1) // 2
    cells = upstream.grid.cells(frames.shape[1], num_samples)
    assert num_samples - 320 < cells[-1, 1] <= num_samples
    # The pieces are clips of their own, equal to within a frame.
    total = frames.shape[1]
    pieces = -(-total // 300)
    cuts = [320 * (total * i // pieces) for i in range(pieces)] + [num_samples]
    alone = upstream.extract([wave[a:b] for a, b in pairwise(cuts)])
    assert relative_error(frames, np.concatenate(alone, axis=1)) < 1e-4
    with torch.no_grad():
        batch = upstream.encode([noise(400), wave, noise(120_000)])
    assert relative_error(batch.frames[1, :, batch.mask[1]], frames) < 1e-4


def test_frames_are_centred_every_twenty_milliseconds(tiny: Upstream) -> None:
    np.testing.assert_array_equal(tiny.grid.cells(2, 16_000), [[0, 160], [160, 480]])
    # A click half-way moves the embedding most at the frame that is centred on it.
    silence, click = np.zeros(32_000, np.float32), np.zeros(32_000, np.float32)
    click[320 * 40] = 1.0
    before, after = tiny.extract([silence + 1e-3 * noise(32_000), click + 1e-3 * noise(32_000)])
    change = np.linalg.norm(after[0] - before[0], axis=-1)
    assert abs(int(change.argmax()) - 40) <= 1


def test_the_decoder_is_neither_loaded_nor_saved(tmp_path: Path) -> None:
    upstream = upstreams.load(write(tmp_path / "whole", "whisper-80"))
    assert upstream.module is not None
    assert not any("decoder" in name for name, _ in upstream.module.named_parameters())
    upstream.save(tmp_path / "saved")
    assert all(name.startswith("encoder.") for name in load_file(tmp_path / "saved" / "model.safetensors"))
    assert upstreams.load(tmp_path / "saved").fingerprint() == upstream.fingerprint()


def test_a_transcriber_gives_its_encoder(tmp_path: Path) -> None:
    network("whisper-80", "ForConditionalGeneration").save_pretrained(tmp_path / "asr")
    network("whisper-80").save_pretrained(tmp_path / "bare")
    assert upstreams.load(tmp_path / "asr").extract([noise(3_000)])[0].shape == (3, 9, 16)


def test_another_mel_count_than_the_configuration_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "whisper-80")
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128}')
    with pytest.raises(upstreams.UpstreamError, match="feature_size=128"):
        upstreams.load(folder)
