"""The intensity model: its frames lie on the filter banks' grid and depend on nothing but the clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.errors import BundleError, UpstreamError, UsageError
from subtone.pretraining.intensity import (
    IntensityModel,
    IntensityNetwork,
    IntensityOptions,
    align,
    read_scores,
)
from subtone.pretraining.intensity.network import STRIDE, level_free
from subtone.speech import SpeechSegments
from subtone.upstreams import FilterBank, kaldi


@pytest.fixture(scope="module")
def shipped() -> IntensityModel:
    return IntensityModel.load()


def speechlike(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes."""
    time = np.arange(samples) / 16_000
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * noise * (0.1 + np.abs(np.sin(3 * time)))).astype(np.float32)


def untrained(seed: int = 0) -> IntensityModel:
    torch.manual_seed(seed)
    options = IntensityOptions(hidden=8, dilations=(1, 2), dropout=0.5)
    return IntensityModel(IntensityNetwork(options), ("nobody",), "# A card\n")


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 20_000))
def test_every_frame_of_the_filter_banks_gets_a_score_in_range(samples: int) -> None:
    scores = IntensityModel.load().frames(speechlike(samples))
    assert scores.shape == (FilterBank().grid.num_frames(samples),)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


def test_filter_banks_that_are_there_already_give_the_same_scores(shipped: IntensityModel) -> None:
    wave = speechlike(40_000)
    banks = kaldi.filter_bank(torch.from_numpy(wave))
    whole = shipped.frames(wave)
    np.testing.assert_array_equal(shipped.from_banks(banks), whole)
    np.testing.assert_array_equal(shipped.from_banks(banks.numpy()), whole)
    np.testing.assert_allclose(shipped.from_banks(banks.half()), whole, atol=0.01)


@pytest.mark.parametrize("gain", [0.05, 0.5, 4.0])
def test_the_gain_of_a_recording_does_not_matter(shipped: IntensityModel, gain: float) -> None:
    wave = speechlike(32_000)
    np.testing.assert_allclose(shipped.frames(gain * wave), shipped.frames(wave), atol=1e-3)


def test_digital_silence_and_a_click_are_calm(shipped: IntensityModel) -> None:
    silence = np.zeros(16_000, np.float32)
    assert shipped.clip(silence) < 0.2
    click = silence.copy()
    click[8_000] = 0.5
    assert np.isfinite(shipped.frames(click)).all()


def test_a_recording_in_pieces_equals_one_in_one_pass(shipped: IntensityModel) -> None:
    frames = level_free(torch.randn(30_001, 80, generator=torch.Generator().manual_seed(0)))
    logits = shipped.network(frames[None], torch.tensor([len(frames)]))[0]
    middles = STRIDE * np.arange(len(logits)) + (STRIDE - 1) / 2
    expected = 1 / (1 + np.exp(-np.interp(np.arange(len(frames)), middles, logits.numpy())))
    np.testing.assert_allclose(shipped.network.curve(frames).numpy(), expected, atol=1e-5)


def test_a_clip_scores_the_same_alone_and_in_a_batch() -> None:
    network = untrained().network.eval()
    clips = [torch.randn(n, 80, generator=torch.Generator().manual_seed(n)) for n in (3, 50, 61)]
    padded = torch.full((3, 61, 80), 7.0)
    for row, clip in enumerate(clips):
        padded[row, : len(clip)] = clip
    together = network(padded, torch.tensor([3, 50, 61]))
    for row, clip in enumerate(clips):
        alone = network(clip[None], torch.tensor([len(clip)]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-5, rtol=0)


def test_a_step_sees_its_reach_and_nothing_beyond() -> None:
    network = untrained().network.eval()
    frames = torch.randn(1, 100 * STRIDE, 80).requires_grad_()
    network(frames, torch.tensor([frames.shape[1]]))[0, 50].backward()
    seen = frames.grad[0].abs().sum(1).view(-1, STRIDE).sum(1).nonzero().flatten()  # steps
    assert (int(seen.min()), int(seen.max())) == (50 - network.reach, 50 + network.reach)


def test_scoring_leaves_a_model_in_training_as_it_was() -> None:
    model = untrained()
    model.network.train()
    banks = torch.randn(40, 80)
    np.testing.assert_array_equal(model.from_banks(banks), model.from_banks(banks))  # no dropout
    assert model.network.training


def test_a_clip_is_the_mean_over_its_speech(shipped: IntensityModel) -> None:
    wave = speechlike(32_000)
    speech = SpeechSegments([8_000], [16_000], len(wave))
    curve = shipped.frames(wave)
    spoken = curve[speech.project(FilterBank().grid, len(curve))]
    assert shipped.clip(wave, speech) == pytest.approx(float(spoken.mean()), abs=1e-6)
    assert shipped.score(wave, speech).speech_s == 0.5
    assert shipped.score(wave, speech).peak == pytest.approx(float(np.quantile(spoken, 0.95)), abs=1e-6)


def test_without_marked_speech_silence_around_a_clip_does_not_count(shipped: IntensityModel) -> None:
    wave = speechlike(32_000)
    silence = np.zeros(16_000, np.float32)
    around = np.concatenate([silence, wave, silence])
    assert shipped.clip(around) == pytest.approx(shipped.clip(wave), abs=0.05)
    nothing = SpeechSegments.none(len(wave))
    assert shipped.clip(wave, nothing) == shipped.clip(wave)


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    model = untrained()
    model.save(tmp_path / "model")
    again = IntensityModel.load(tmp_path / "model")
    assert (again.fingerprint(), again.trained_on, again.card) == (
        model.fingerprint(),
        ("nobody",),
        "# A card\n",
    )
    wave = speechlike(9_000)
    np.testing.assert_array_equal(again.frames(wave), model.frames(wave))
    assert untrained(seed=1).fingerprint() != model.fingerprint()


def test_the_shipped_model_is_small_and_says_what_it_is(shipped: IntensityModel) -> None:
    import subtone

    folder = Path(subtone.__file__).parent / "models" / "intensity" / "default"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    assert "intensity" in shipped.card.lower()
    assert not shipped.network.training


def edited(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edited(f, schema_version=2), "newer Subtone"),
        (lambda f: edited(f, model_type="other"), "no intensity model"),
        (lambda f: edited(f, network={"num_mel": 80, "hidden": 10**9, "dilations": []}), "out of range"),
        (lambda f: edited(f, network={}), "damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "damaged"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    untrained().save(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(BundleError, match=message):
        IntensityModel.load(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = untrained()
    with torch.no_grad():
        model.network.head.bias.fill_(torch.nan)
    model.save(tmp_path)
    with pytest.raises(BundleError, match="finite"):
        IntensityModel.load(tmp_path)


def test_what_is_no_speech_clip_is_refused_with_a_reason(shipped: IntensityModel) -> None:
    with pytest.raises(BundleError, match="neither 'default'"):
        IntensityModel.load("no-such-folder")
    with pytest.raises(UpstreamError, match="NaN"):
        shipped.frames(np.array([0.0, np.nan], np.float32))
    with pytest.raises(UsageError, match="80"):
        shipped.from_banks(np.zeros((10, 40), np.float32))
    with pytest.raises(UsageError, match="frame or more"):
        shipped.from_banks(np.zeros((0, 80), np.float32))


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    num_frames=st.integers(1, 50),
)
def test_aligned_scores_keep_their_range_and_their_ends(scores: list[float], num_frames: int) -> None:
    aligned = align(scores, num_frames)
    assert aligned.shape == (num_frames,)
    assert aligned.min() >= min(scores) - 1e-6
    assert aligned.max() <= max(scores) + 1e-6
    if num_frames > 1:
        np.testing.assert_allclose(aligned[[0, -1]], [scores[0], scores[-1]], rtol=1e-6)
    np.testing.assert_allclose(align(scores, len(scores)), scores, rtol=1e-6)


@pytest.mark.parametrize(("scores", "frames"), [([], 3), ([np.nan], 3), ([[0.1]], 3), ([0.1], 0)])
def test_scores_that_cannot_be_aligned_are_refused(scores: list[float], frames: int) -> None:
    with pytest.raises(UsageError):
        align(scores, frames)


def test_ready_scores_are_read_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("wavs/a.wav,0.5,0.25,,\n\nb,1\n")
    found = read_scores(table)
    assert {name: values.tolist() for name, values in found.items()} == {"a": [0.5, 0.25], "b": [1.0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,x", "row 1.*'x'"), ("a", "no score"), ("a,1\nc/a.wav,2", "second time"), ("a,nan", "nan")],
)
def test_a_table_of_scores_that_breaks_the_rules_names_its_row(
    tmp_path: Path, text: str, message: str
) -> None:
    table = tmp_path / "scores.csv"
    table.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_scores(table)
    with pytest.raises(UsageError, match="cannot be read"):
        read_scores(tmp_path / "none.csv")
