"""Augmentation of waves: by seed alone, as strong as told, and speech stays where it is said to be."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from subtone.audio import load_audio
from subtone.errors import AudioError, RecipeError, UsageError
from subtone.speech import SpeechSegments
from subtone.training.end_to_end import augmentation
from subtone.training.end_to_end.augmentation import EFFECTS, AugmentationOptions, Augmented, Augmenter
from tests import synthetic

ALL: dict[str, Any] = dict.fromkeys(EFFECTS, 1.0)


def augmenter(**options: Any) -> Augmenter:
    if importlib.util.find_spec("audiomentations") is None:
        pytest.skip('audiomentations is not installed: pip install "subtone[augment]"')
    return Augmenter(AugmentationOptions(**options))


def tone(hz: float, seconds: float = 1.0) -> npt.NDArray[np.float32]:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16_000)) / 16_000)).astype(np.float32)


def level_db(wave: npt.NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.square(wave, dtype=np.float64).mean()))


def digest(wave: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(wave.tobytes()).hexdigest()


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """A folder of noises, one shorter and one longer than a clip, and one of impulse responses with a delay."""
    rng = np.random.default_rng(0)
    for name, seconds in (("short", 0.2), ("long", 2.0)):
        synthetic.write(tmp_path / "noise" / f"{name}.wav", synthetic.utterance(seconds, 900.0))
    for name, delay in (("near", 0), ("far", 400)):
        response = np.zeros(3_000, np.float32)
        response[delay] = 0.8
        decay = np.exp(-np.arange(2_999 - delay) / 400)
        response[delay + 1 :] = 0.05 * decay * rng.standard_normal(len(decay))
        synthetic.write(tmp_path / "rooms" / f"{name}.wav", response)
    return {"noise_folder": str(tmp_path / "noise"), "reverb_folder": str(tmp_path / "rooms")}


@pytest.mark.parametrize("recorded", [False, True])
def test_a_seed_gives_the_same_samples_in_any_order_and_thread_and_after_pickling(
    recorded: bool, folders: dict[str, str]
) -> None:
    augment = augmenter(**ALL, **(folders if recorded else {}))
    wave = synthetic.utterance(0.5)
    seeds = [(7, epoch, clip) for epoch in range(2) for clip in range(12)]
    first = [digest(augment(wave, seed).wave) for seed in seeds]
    assert len(set(first)) == len(seeds)
    assert [digest(augment(wave, seed).wave) for seed in reversed(seeds)] == first[::-1]
    moved = pickle.loads(pickle.dumps(augment))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: digest(moved(wave, seed).wave), seeds)) == first


def test_another_process_gives_the_same_samples_and_audiomentations_is_imported_only_when_used() -> None:
    wave = synthetic.utterance(0.5)
    program = """
import hashlib, importlib.util, sys
import numpy as np
# By its file: the packages above it import torch, which takes longer than all these tests.
spec = importlib.util.spec_from_file_location("augmentation", sys.argv[1])
module = sys.modules["augmentation"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "audiomentations" not in sys.modules and "librosa" not in sys.modules
wave = np.frombuffer(sys.stdin.buffer.read(), np.float32)
augment = module.Augmenter(module.AugmentationOptions(**dict.fromkeys(module.EFFECTS, 1.0)))
print(hashlib.sha256(augment(wave, [3, 1]).wave.tobytes()).hexdigest())
"""
    told = subprocess.run(
        [sys.executable, "-c", program, str(augmentation.__file__)],
        input=wave.tobytes(),
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode().strip() == digest(augmenter(**ALL)(wave, [3, 1]).wave)


def test_global_random_state_is_neither_read_nor_changed(folders: dict[str, str]) -> None:
    wave = synthetic.utterance()
    for options in (ALL, {**ALL, **folders}):
        augment = augmenter(**options)
        random.seed(1)
        np.random.seed(1)
        first = augment(wave, 5).wave
        random.seed(2)
        np.random.seed(2)
        before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]  # type: ignore[index,union-attr]
        assert np.array_equal(augment(wave, 5).wave, first)
        assert (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]) == before  # type: ignore[index,union-attr]


def test_the_given_wave_is_not_changed_and_comes_back_itself_without_an_effect() -> None:
    wave = synthetic.utterance()
    before = wave.copy()
    for seed in range(5):
        augmenter(**ALL)(wave, seed)
    assert np.array_equal(wave, before)
    assert augmenter()(wave, 0).wave is wave


def test_an_effect_draws_the_same_whatever_else_is_on() -> None:
    wave = synthetic.utterance()
    alone, among = augmenter(speed=1.0), augmenter(**ALL)
    assert [alone(wave, seed).speed for seed in range(9)] == [among(wave, seed).speed for seed in range(9)]


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 30.0])
@pytest.mark.parametrize("recorded", [False, True])
def test_noise_has_the_level_that_was_asked_for(
    snr_db: float, recorded: bool, folders: dict[str, str]
) -> None:
    folder = folders["noise_folder"] if recorded else None
    augment = augmenter(noise=1.0, noise_snr_db=(snr_db, snr_db), noise_folder=folder)
    wave = synthetic.utterance(1.0)
    for seed in range(8):
        noise = augment(wave, seed).wave - wave
        assert level_db(wave) - level_db(noise) == pytest.approx(snr_db, abs=0.1)


def test_noise_spans_its_range_and_its_colours() -> None:
    augment = augmenter(noise=1.0, noise_snr_db=(0.0, 20.0))
    wave = tone(440.0)
    noises = [augment(wave, seed).wave - wave for seed in range(60)]
    ratios = [level_db(wave) - level_db(noise) for noise in noises]
    assert 0.0 <= min(ratios) < 3.0
    assert 17.0 < max(ratios) <= 20.01
    low = [np.square(np.abs(np.fft.rfft(noise)))[:2_000].sum() / np.square(noise).sum() for noise in noises]
    assert all(abs(noise.mean()) < 1e-3 * noise.std() for noise in noises)  # no offset
    assert max(low) > 10 * min(low)  # the share below 2 kHz: brown against blue


def test_noise_comes_from_the_recordings_of_the_folder(folders: dict[str, str]) -> None:
    augment = augmenter(noise=1.0, noise_snr_db=(0.0, 0.0), noise_folder=folders["noise_folder"])
    wave = tone(3_000.0, 0.25)
    recording = load_audio(Path(folders["noise_folder"]) / "long.wav")
    norms = np.sqrt(np.convolve(np.square(recording), np.ones(len(wave), np.float32), "valid"))
    best = []
    for seed in range(8):
        noise = augment(wave, seed).wave - wave
        likeness = scipy.signal.correlate(recording, noise, "valid") / (norms * np.linalg.norm(noise))
        best.append(likeness.max() > 0.999)
    assert any(best)  # a stretch of the long one
    assert not all(best)  # the short one, repeated


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.37, 2.0])
def test_speed_changes_length_and_pitch_alike(factor: float) -> None:
    changed = augmenter(speed=1.0, speed_range=(factor, factor))(tone(500.0), 1)
    assert changed.speed == factor
    assert len(changed.wave) == round(16_000 / factor)
    peak = np.abs(np.fft.rfft(changed.wave * np.hanning(len(changed.wave)), 1 << 18)).argmax()
    assert peak * 16_000 / (1 << 18) == pytest.approx(500.0 * factor, rel=1e-3)
    assert level_db(changed.wave[800:-800]) == pytest.approx(level_db(tone(500.0)), abs=0.1)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.5])
def test_speech_is_where_the_mapped_segments_say(factor: float) -> None:
    wave = np.zeros(16_000, np.float32)
    wave[4_000:7_000] = tone(400.0)[:3_000]
    wave[12_000:13_000] = tone(400.0)[:1_000]
    changed = augmenter(speed=1.0, speed_range=(factor, factor))(wave, 0)
    found = changed.segments(SpeechSegments([4_000, 12_000], [7_000, 13_000], 16_000))
    inside = np.zeros(len(changed.wave), bool)
    for start, end in zip(found.starts, found.ends, strict=True):
        inside[start:end] = True
    energy = np.square(changed.wave)
    assert len(found) == 2
    assert energy[inside].sum() > 0.995 * energy.sum()
    assert energy[inside].mean() == pytest.approx(0.045, rel=0.05)


@given(
    st.lists(st.integers(0, 60), min_size=0, max_size=12, unique=True),
    st.integers(60, 90),
    st.floats(0.25, 4.0),
)
def test_mapped_segments_are_valid_for_any_speed(edges: list[int], samples: int, speed: float) -> None:
    edges = sorted(edges)[: len(edges) // 2 * 2]
    speech = SpeechSegments(edges[::2], edges[1::2], samples)  # type: ignore[arg-type]
    now = round(samples / speed)
    moved = Augmented(np.zeros(now, np.float32), speed).segments(
        speech
    )  # raises if they overlap or reach out
    assert moved.num_samples == now
    assert abs(moved.speech_samples - speech.speech_samples / speed) <= max(1, len(speech))
    whole = Augmented(np.zeros(now, np.float32), speed).segments(SpeechSegments.whole(samples))
    assert whole == SpeechSegments.whole(now)


def test_segments_of_another_wave_are_refused() -> None:
    with pytest.raises(UsageError, match="a wave of 90 samples does not become one of 50 at speed 2"):
        Augmented(np.zeros(50, np.float32), 2.0).segments(SpeechSegments.whole(90))
    assert Augmented(np.zeros(0, np.float32)).segments(SpeechSegments.none(0)) == SpeechSegments.none(0)


@pytest.mark.parametrize("recorded", [False, True])
def test_reverb_keeps_length_level_and_onset(recorded: bool, folders: dict[str, str]) -> None:
    augment = augmenter(reverb=1.0, reverb_folder=folders["reverb_folder"] if recorded else None)
    click = np.zeros(8_000, np.float32)
    click[3_000] = 0.5
    for seed in range(12):
        wet = augment(click, seed).wave
        assert len(wet) == len(click)
        assert np.abs(wet).argmax() == 3_000
        assert np.square(wet[:3_000]).sum() < 1e-3 * np.square(wet).sum()
        assert np.square(wet[3_001:]).sum() > 1e-2 * np.square(wet).sum()
        assert level_db(wet) == pytest.approx(level_db(click), abs=0.01)


def test_synthetic_reverb_decays_by_60_db_in_its_time() -> None:
    augment = augmenter(reverb=1.0, reverb_rt60_s=(0.5, 0.5))
    click = np.zeros(16_000, np.float32)
    click[0] = 1.0
    falls = []
    for seed in range(10):
        tail = augment(click, seed).wave[1:]
        falls.append(level_db(tail[:800]) - level_db(tail[4_000:4_800]))
    assert np.mean(falls) == pytest.approx(30.0, abs=1.0)  # a quarter of a second later


def test_gain_lies_in_its_range() -> None:
    augment = augmenter(gain=1.0, gain_db=(-12.0, 20.0))
    wave = tone(300.0)
    gains = [level_db(augment(wave, seed).wave) - level_db(wave) for seed in range(80)]
    assert -12.001 <= min(gains) < -9.0
    assert 17.0 < max(gains) <= 20.001  # beyond full scale, and not clipped


def test_a_clip_gets_an_effect_as_often_as_told() -> None:
    augment = augmenter(gain=0.3, speed=0.7)
    wave = tone(300.0, 0.02)
    changed = [augment(wave, (seed, 0)) for seed in range(1_000)]
    sped = [one.speed != 1.0 for one in changed]
    louder = [abs(float(np.abs(one.wave).max()) / 0.3 - 1) > 1e-3 for one in changed]
    still = [one.wave is wave for one in changed]
    assert np.mean(sped) == pytest.approx(0.7, abs=0.05)
    assert np.mean([loud for loud, fast in zip(louder, sped, strict=True) if not fast]) == pytest.approx(
        0.3, abs=0.09
    )
    assert np.mean(still) == pytest.approx(0.21, abs=0.04)  # they are drawn apart


@pytest.mark.parametrize("length", [0, 1, 2, 3, 17])
@pytest.mark.parametrize("level", [0.0, 1e-30, 0.5])
@pytest.mark.parametrize("recorded", [False, True])
def test_silent_and_tiny_waves_pass(
    length: int, level: float, recorded: bool, folders: dict[str, str]
) -> None:
    augment = augmenter(**ALL, speed_range=(0.5, 4.0), **(folders if recorded else {}))
    wave = np.full(length, level, np.float32)
    for seed in range(6):
        changed = augment(wave, seed)
        assert changed.wave.dtype == np.float32
        assert np.isfinite(changed.wave).all()
        assert len(changed.wave) == max(round(length / changed.speed), min(length, 1))
        assert changed.segments(SpeechSegments.whole(length)) == SpeechSegments.whole(len(changed.wave))
        if level == 0:
            assert not changed.wave.any()


def test_waves_that_are_not_contiguous_or_frozen_pass() -> None:
    wave = synthetic.utterance()
    augment = augmenter(**ALL)
    expected = augment(wave[::2].copy(), 3).wave
    wave.setflags(write=False)
    assert np.array_equal(augment(wave[::2], 3).wave, expected)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"noise": 1.5}, r"augmentation: noise = 1.5 must lie in \[0, 1\]"),
        ({"gain": -0.1}, r"augmentation: gain = -0.1 must lie in \[0, 1\]"),
        ({"reverb": float("nan")}, r"augmentation: reverb = nan must lie in \[0, 1\]"),
        ({"noise_snr_db": (30, 5)}, r"noise_snr_db = \(30, 5\) must be two numbers .* the lower one first"),
        ({"speed_range": (0.0, 1.1)}, r"speed_range = \(0.0, 1.1\) must be two numbers within \[0.25, 4\]"),
        ({"speed_range": (0.9,)}, "speed_range = .* must be two numbers"),
        ({"reverb_rt60_s": (0.0, 0.8)}, "reverb_rt60_s = .* must be two numbers"),
        ({"gain_db": "12"}, "gain_db = '12' must be two numbers"),
    ],
)
def test_options_out_of_bounds_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        AugmentationOptions(**options)


def test_options_tell_whether_anything_can_change_and_compare_by_value() -> None:
    options = AugmentationOptions(speed_range=[1, 2])  # type: ignore[arg-type]
    assert not options.active
    assert options == AugmentationOptions(speed_range=(1.0, 2.0))
    assert all(replace(options, **{effect: 0.1}).active for effect in EFFECTS)


def test_a_missing_extra_is_told_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(UsageError, match=r"pip install 'subtone\[augment\]'"):
        Augmenter(AugmentationOptions(reverb=0.5))
    wave = synthetic.utterance()
    assert Augmenter(AugmentationOptions())(wave, 0).wave is wave


@pytest.mark.parametrize(("effect", "name"), [("noise", "noise_folder"), ("reverb", "reverb_folder")])
def test_a_folder_without_recordings_is_told_at_once(effect: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{name} = .*nowhere': no such folder"):
        augmenter(**{effect: 0.5, name: str(tmp_path / "nowhere")})
    with pytest.raises(UsageError, match=f"{name} = .*: no recordings in this folder"):
        augmenter(**{effect: 0.5, name: str(tmp_path)})
    augmenter(**{name: str(tmp_path / "nowhere")})  # it is not used


def test_broken_and_silent_recordings_are_named_when_first_used(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    augment = augmenter(noise=1.0, noise_folder=str(tmp_path))
    with pytest.raises(AudioError, match=r"broken\.wav"):
        augment(synthetic.utterance(), 0)
    (tmp_path / "broken.wav").unlink()
    synthetic.write(tmp_path / "mute.wav", np.zeros(800, np.float32))
    augment = augmenter(noise=1.0, noise_folder=str(tmp_path))
    with pytest.raises(AudioError, match=r"mute\.wav: is silent; take it out of noise_folder"):
        augment(synthetic.utterance(), 0)


def test_the_cache_of_recordings_is_bounded_and_changes_nothing(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = synthetic.utterance()
    full = augmenter(**ALL, **folders)
    expected = [digest(full(wave, seed).wave) for seed in range(10)]
    monkeypatch.setattr(augmentation, "_CACHE_SAMPLES", 10)
    small = augmenter(**ALL, **folders)
    assert [digest(small(wave, seed).wave) for seed in range(10)] == expected
    assert small._noises is not None
    assert len(small._noises._kept) == 1


@pytest.mark.parametrize("seed", [-1, None, 0.5, "x", (1, -2)])
def test_what_is_no_seed_is_told(seed: Any) -> None:
    with pytest.raises(UsageError, match="must be a whole number of 0 or more"):
        augmenter(gain=1.0)(synthetic.utterance(), seed)


def test_a_wave_of_two_channels_is_told() -> None:
    with pytest.raises(UsageError, match="wave must be one-dimensional"):
        augmenter(gain=1.0)(np.zeros((2, 100), np.float32), 0)
