"""Filter banks: Kaldi's numbers, names, options, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone import upstreams
from subtone.upstreams import FilterBank, FilterBankOptions
from tests.reference import kaldi_deltas, kaldi_filter_bank
from tests.tiny_upstreams import noise, relative_error


@pytest.mark.parametrize("num_mel", [23, 40, 80])
def test_filter_banks_are_kaldis(num_mel: int) -> None:
    wave = noise(1_300)
    got = upstreams.load(f"fbank:{num_mel}").extract([wave])[0]
    np.testing.assert_allclose(got[0], kaldi_filter_bank(wave, num_mel), rtol=1e-5, atol=1e-5)


def test_silence_and_a_constant_sit_on_the_floor() -> None:
    for level in (0.0, 0.5):
        frames = FilterBank().extract([np.full(720, level, np.float32)])[0]
        np.testing.assert_allclose(frames, np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_a_tone_lights_its_own_band() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    frames = FilterBank().extract([tone])[0][0]
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8_000 / 700), 82)
    nearest = np.abs(edges[1:-1] - 1127 * np.log1p(1_000 / 700)).argmin()
    assert (frames.argmax(axis=1) == nearest).all()


@pytest.mark.parametrize(("name", "order"), [("fbank:10", 0), ("fbank:10+delta", 1), ("fbank:10+deltas", 2)])
@pytest.mark.parametrize("num_samples", [400, 560, 2_000])
def test_deltas_are_kaldis(name: str, order: int, num_samples: int) -> None:
    wave = noise(num_samples)
    static = upstreams.load("fbank:10").extract([wave])[0][0]
    got = upstreams.load(name).extract([wave])[0][0]
    np.testing.assert_allclose(got, kaldi_deltas(static, order), rtol=1e-4, atol=1e-5)


def test_utterance_normalisation_takes_mean_and_variance_out_of_each_band() -> None:
    frames = upstreams.load("fbank+deltas+cmvn").extract([noise(16_000)])[0][0]
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["fbank", "fbank+deltas", "fbank:23+delta+cmvn"])
def test_frames_do_not_depend_on_the_batch(name: str) -> None:
    upstream = upstreams.load(name)
    waves = [noise(n) for n in (400, 80_000, 0, 5_555)]
    batch = upstream.encode(waves)
    assert batch.too_short == (False, False, True, False)
    for row, alone in enumerate(upstream.extract(waves)):
        valid = int(batch.mask[row].sum())
        assert relative_error(batch.frames[row, :, :valid], alone) < 1e-4
        assert not batch.frames[row, :, valid:].any()


@settings(max_examples=30, deadline=None)
@given(num_samples=st.integers(0, 4_000))
def test_the_grid_counts_frames_exactly(num_samples: int) -> None:
    upstream = FilterBank()
    assert upstream.extract([np.zeros(num_samples)])[0].shape == (
        1,
        upstream.grid.num_frames(num_samples),
        80,
    )


def test_cells_are_centred_on_the_windows() -> None:
    np.testing.assert_array_equal(FilterBank().grid.cells(3, 660), [[120, 280], [280, 440], [440, 600]])


def test_gradients_reach_the_wave() -> None:
    wave = torch.tensor(noise(800), requires_grad=True)
    upstreams.load("fbank+deltas").encode([wave]).frames.sum().backward()
    assert wave.grad is not None
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.abs().min() >= 0
    assert wave.grad.abs().max() > 0


def test_long_clips_are_computed_in_blocks_that_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(16_000)
    whole = FilterBank().extract([wave])[0]
    monkeypatch.setattr("subtone.upstreams.kaldi._BLOCK", 7)
    np.testing.assert_allclose(FilterBank().extract([wave])[0], whole, rtol=1e-6)


@pytest.mark.parametrize("name", ["fbank", "fbank:40", "fbank:40+delta", "fbank+deltas+cmvn"])
def test_a_name_a_folder_and_a_configuration_give_the_same_upstream(name: str, tmp_path: Path) -> None:
    upstream = upstreams.load(name)
    upstream.save(tmp_path / "saved")
    others = [
        upstreams.load(upstream.name),
        upstreams.load(tmp_path / "saved"),
        upstreams.load_from_config(upstream.config()),
        upstreams.load_from_config({**upstream.config(), "fingerprint": upstream.fingerprint()}),
    ]
    assert {other.fingerprint() for other in others} == {upstream.fingerprint()}
    assert upstream.fingerprint() != upstreams.load("fbank:41").fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_mel": 0}, "num_mel must be a whole number from 1 to 128, got 0"),
        ({"num_mel": 40.5}, "num_mel"),
        ({"num_mel": True}, "num_mel"),
        ({"deltas": 3}, "deltas must be 0, 1 or 2, got 3"),
        ({"cmvn": "speaker"}, "cmvn must be one of none, level, utterance, got 'speaker'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(upstreams.UpstreamError, match=message):
        FilterBankOptions(**options)
    with pytest.raises(upstreams.UpstreamError, match=message):
        upstreams.load_from_config({"kind": "fbank", **options})


@pytest.mark.parametrize("name", ["fbank:", "fbank:x", "fbank:40+mfcc", "fbank+delta+deltas", "fbank:999"])
def test_a_name_that_goes_wrong_says_how_it_goes(name: str) -> None:
    with pytest.raises(upstreams.UpstreamError, match=r"fbank\[:BANDS\]|num_mel"):
        upstreams.load(name)


def test_an_unknown_option_names_its_neighbour() -> None:
    with pytest.raises(upstreams.UpstreamError, match="unknown option 'num_mels'; did you mean 'num_mel'"):
        upstreams.load_from_config({"kind": "fbank", "num_mels": 40})


def test_level_normalised_banks_do_not_depend_on_the_gain() -> None:
    upstream, wave = upstreams.load("fbank+deltas+level"), noise(16_000)
    loud, quiet = upstream.extract([wave])[0], upstream.extract([wave * 0.05])[0]
    np.testing.assert_allclose(quiet, loud, atol=2e-3)
    plain = upstreams.load("fbank")
    assert np.abs(plain.extract([wave])[0] - plain.extract([wave * 0.05])[0]).min() > 1


def test_level_normalised_banks_do_not_depend_on_silence_around() -> None:
    upstream, wave = upstreams.load("fbank+level"), noise(16_000)
    alone = upstream.extract([wave])[0][0]
    padded = upstream.extract([np.concatenate([np.zeros(16_000, np.float32), wave])])[0][0]
    np.testing.assert_allclose(padded[100 : 100 + len(alone)], alone, atol=1e-3)
