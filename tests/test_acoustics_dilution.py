"""Clips inside longer recordings: exact shares, levels and places, by seed alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.acoustics import FILLERS, Filler, dilute, load_sounds, trim
from subtone.errors import AudioError, UsageError
from subtone.speech import SpeechSegments, Wave
from tests import synthetic

RNG = np.random.default_rng(0)
SOUNDS = [RNG.normal(0, level, length).astype(np.float32) for level, length in ((0.1, 9_000), (0.01, 5_000))]

calm = settings(deadline=None)  # a busy machine is no failure


def clip_of(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def level_db(wave: Wave) -> float:
    return float(10 * np.log10(np.square(wave, dtype=np.float64).mean()))


def snr(filler: Filler) -> float | None:
    return 7.0 if filler in ("noise", "sounds") else None


fillers = st.sampled_from(FILLERS)
shares = st.one_of(st.floats(0.02, 1.0), st.sampled_from([0.05, 0.25, 0.5, 1.0]))


@calm
@given(fillers, shares, st.integers(1, 20_000), st.integers(0, 2**40))
def test_share_place_and_bits_follow_from_the_seed(
    filler: Filler, share: float, samples: int, seed: int
) -> None:
    clip = clip_of(samples)
    made = dilute(clip, filler, share, snr(filler), seed, SOUNDS)
    total = round(samples / share)
    assert made.wave.shape == (total,)
    assert made.wave.dtype == np.float32
    assert np.isfinite(made.wave).all()
    (start,), (end,) = made.speech.starts, made.speech.ends
    assert end - start == samples
    assert made.speech.num_samples == total
    again = dilute(clip, filler, share, snr(filler), seed, SOUNDS)
    assert np.array_equal(made.wave, again.wave)
    assert again.speech == made.speech
    assert dilute(clip, "silence", share, None, seed).speech == made.speech


@calm
@given(shares, st.integers(1, 20_000), st.integers(0, 99))
def test_silence_is_zeros_around_the_same_samples(share: float, samples: int, seed: int) -> None:
    clip = clip_of(samples)
    made = dilute(clip, "silence", share, None, seed)
    start, end = made.speech.starts[0], made.speech.ends[0]
    assert np.array_equal(made.wave[start:end], clip)
    assert not made.wave[:start].any()
    assert not made.wave[end:].any()


@calm
@given(st.floats(0.02, 1.0), st.floats(-20.0, 40.0), st.integers(2_000, 20_000), st.integers(0, 99))
def test_noise_lies_under_everything_at_the_level_that_was_asked_for(
    share: float, snr_db: float, samples: int, seed: int
) -> None:
    clip = clip_of(samples)
    noise = dilute(clip, "noise", share, snr_db, seed).wave - dilute(clip, "silence", share, None, seed).wave
    assert level_db(clip) - level_db(noise) == pytest.approx(snr_db, abs=0.1)
    assert np.count_nonzero(noise) > 0.9 * len(noise)


def test_a_room_is_one_continuous_tone_45_db_below_the_clip() -> None:
    clip = (0.2 * np.sin(np.arange(16_000))).astype(np.float32)
    for seed in range(5):
        made = dilute(clip, "room", 0.2, None, seed)
        tone = made.wave - dilute(clip, "silence", 0.2, None, seed).wave
        assert level_db(clip) - level_db(tone) == pytest.approx(45.0, abs=0.1)
        steps = np.abs(np.diff(tone))
        seams = [
            step
            for edge in (made.speech.starts[0], made.speech.ends[0])
            for step in steps[edge - 2 : edge + 2]
        ]
        assert max(seams, default=0.0) < 6 * np.sqrt(np.square(steps).mean())  # as any other step
    assert level_db(clip) - level_db(dilute(clip, "room", 1.0, None, 0).wave - clip) == pytest.approx(
        45.0, abs=0.1
    )


@calm
@given(st.floats(0.02, 0.99), st.integers(500, 20_000), st.integers(0, 99))
def test_sounds_never_touch_the_clip_and_have_pauses(share: float, samples: int, seed: int) -> None:
    clip = clip_of(samples)
    made = dilute(clip, "sounds", share, -10.0, seed, SOUNDS)
    placed = np.abs(made.wave - dilute(clip, "room", share, None, seed).wave) > 1e-6
    if len(made.wave) == samples:
        assert np.array_equal(made.wave, clip)
        return
    start, end = made.speech.starts[0], made.speech.ends[0]
    assert not placed[max(0, start - 1_600) : end + 1_600].any()
    for gap in (placed[: max(0, start - 1_600)], placed[end + 1_600 :]):
        assert gap[:100].any() == (
            len(gap) >= 3_200
        )  # one begins where the gap does, if it can be 0.2 s long
        quiet = [len(list(run)) for on, run in itertools.groupby(gap.tolist()) if not on]
        assert all(1_500 < length < 6_600 for length in quiet[:-1] if length > 20)
    # Ever louder sounds do not move the room or the clip.
    loud = dilute(clip, "sounds", share, -30.0, seed, SOUNDS)
    assert np.array_equal(loud.wave[start:end], made.wave[start:end])


def test_each_sound_has_the_level_that_was_asked_for_and_comes_once_before_one_comes_again() -> None:
    clip = clip_of(8_000)
    sounds = [np.tile(np.float32([level, -level]), 4_000) for level in (0.9, 0.01, 0.2)]
    sounds = [
        np.concatenate([sound, np.zeros(length, np.float32)]) for sound, length in zip(sounds, (0, 320, 640))
    ]
    made = dilute(clip, "sounds", 0.1, 12.0, 3, sounds)
    placed = made.wave - dilute(clip, "room", 0.1, None, 3).wave
    active = np.abs(placed) > 1e-4
    edges = np.flatnonzero(np.diff(active.astype(int), prepend=0, append=0))
    runs = [(start, end) for start, end in edges.reshape(-1, 2) if end - start > 7_000]
    assert len(runs) > 4
    for start, end in runs:
        assert level_db(clip) - level_db(placed[start + 160 : end - 160]) == pytest.approx(12.0, abs=0.1)
        assert (
            np.abs(placed[start : start + 8]).max() < 0.1 * np.abs(placed[start + 160 : end - 160]).max()
        )  # a fade


def test_other_seeds_draw_other_places_noises_and_orders() -> None:
    clip = clip_of(4_000)
    for filler in FILLERS:
        made = [dilute(clip, filler, 0.1, snr(filler), seed, SOUNDS) for seed in range(12)]
        assert len({int(one.speech.starts[0]) for one in made}) == 12
        assert len({one.wave.tobytes() for one in made}) == 12
    starts = [dilute(clip, "silence", 0.1, None, (5, seed)).speech.starts[0] / 36_000 for seed in range(400)]
    assert np.histogram(starts, bins=4, range=(0, 1))[0] == pytest.approx(100, abs=40)  # anywhere alike


def test_the_relative_place_is_the_same_for_all_shares() -> None:
    clip = clip_of(8_000)
    for seed in range(5):
        places = []
        for share in (0.5, 0.25, 0.1, 0.05):
            speech = dilute(clip, "silence", share, None, seed).speech
            places.append(speech.starts[0] / (speech.num_samples - 8_000))
        assert places == pytest.approx([places[0]] * 4, abs=1e-3)


def test_the_given_waves_are_not_changed() -> None:
    clip, sounds = clip_of(4_000), [sound.copy() for sound in SOUNDS]
    for wave in (clip, *sounds):
        wave.setflags(write=False)
    for filler in FILLERS:
        assert dilute(clip, filler, 1.0, snr(filler), 0, sounds).wave is not clip
        dilute(clip, filler, 0.1, snr(filler), 0, sounds)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("silense", 0.5, None, 0), "no filler 'silense'; did you mean 'silence'"),
        (("silence", 0.0, None, 0), r"share = 0.0 must lie in \(0, 1\]"),
        (("silence", float("nan"), None, 0), "share = nan"),
        (("silence", 0.5, 3.0, 0), "snr_db = 3.0 has no meaning for 'silence'; leave it None"),
        (("noise", 0.5, None, 0), "filler 'noise' needs snr_db"),
        (("sounds", 0.5, 3.0, 0), "filler 'sounds' needs recordings"),
        (("silence", 0.5, None, -1), "must be a whole number of 0 or more"),
    ],
)
def test_what_cannot_be_done_is_told(given: Sequence[Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        dilute(clip_of(10), *given)


def test_a_silent_clip_has_no_level() -> None:
    silent = np.zeros(100, np.float32)
    with pytest.raises(UsageError, match="the clip is silent"):
        dilute(silent, "noise", 0.5, 3.0, 0)
    assert len(dilute(silent, "silence", 0.5, None, 0).wave) == 200
    with pytest.raises(AudioError, match="the wave is silent"):
        trim(silent)
    with pytest.raises(UsageError, match="at least one"):
        dilute(np.zeros(0, np.float32), "silence", 0.5, None, 0)


@calm
@given(st.integers(0, 40), st.integers(0, 9_000), st.integers(1, 30), st.floats(1e-3, 1.0))
def test_trimming_takes_off_what_lies_around_a_tone(
    before: int, behind: int, frames: int, level: float
) -> None:
    tone = (level * np.sin(np.arange(320 * (frames + 5)))).astype(np.float32)
    hiss = np.random.default_rng(0).normal(0, level * 1e-3, 320 * before + behind).astype(np.float32)
    wave = np.concatenate([hiss[: 320 * before], tone, hiss[320 * before :]])
    clip, loud = trim(wave)
    assert np.array_equal(clip, tone)
    assert loud == SpeechSegments.whole(len(tone))


def test_a_pause_is_kept_and_not_clearly_loud_and_a_click_moves_nothing() -> None:
    wave = np.zeros(32_000, np.float32)
    wave[6_400:12_800] = 0.2
    wave[16_000:19_200] = 0.2
    wave[12_800:14_400] = 0.01  # 26 dB below
    clip, loud = trim(wave)
    assert len(clip) == 12_800
    assert loud == SpeechSegments([0, 9_600], [6_400, 12_800], 12_800)
    wave[13_500:13_520] = 1.0  # in the pause: alone clearly loud
    clicked, loud = trim(wave)
    assert len(clicked) == 12_800
    assert loud.starts.tolist() == [0, 7_040, 9_600]


@calm
@given(st.integers(1, 2_000), st.integers(0, 3_000))
def test_waves_of_any_length_are_trimmed_to_a_part_of_them(samples: int, zeros: int) -> None:
    wave = np.concatenate([clip_of(samples, 1), np.zeros(zeros, np.float32)])
    clip, loud = trim(wave)
    assert 0 < loud.speech_samples <= loud.num_samples == len(clip) <= len(wave)
    assert len(clip) < samples + 320


def test_sounds_come_from_all_kinds_and_those_left_out_are_told(tmp_path: Path) -> None:
    for kind, count in (("coughing", 5), ("laughing", 2), ("sighing", 5)):
        for take in range(count):
            synthetic.write(
                tmp_path / kind / f"{take}.wav", synthetic.utterance(1.0, 300.0 + take, seed=take)
            )
    synthetic.write(tmp_path / "laughing" / "long.wav", clip_of(100_000))
    synthetic.write(tmp_path / "laughing" / "mute.wav", np.zeros(8_000, np.float32))
    synthetic.write(tmp_path / "laughing" / "short.wav", clip_of(4_000))
    (tmp_path / "laughing" / "broken.wav").write_bytes(b"RIFF")
    some = load_sounds(tmp_path, 6, 0)
    assert sorted(some.kinds) == ["coughing"] * 2 + ["laughing"] * 2 + ["sighing"] * 2
    everything = load_sounds(tmp_path, 100, 0)
    assert len(everything.waves) == 13
    assert all(0.3 * 16_000 <= len(wave) <= 4 * 16_000 for wave in everything.waves)
    assert max(map(len, everything.waves)) == 64_000
    assert sorted(Path(file).name for file in everything.left_out) == ["broken.wav", "mute.wav", "short.wav"]
    assert set(load_sounds(tmp_path, 100, 0, without=["laughing"]).kinds) == {"coughing", "sighing"}
    first, again, other = (load_sounds(tmp_path, 5, seed).waves for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


def test_a_folder_without_usable_sounds_is_told(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file or folder"):
        load_sounds(tmp_path / "nowhere", 5, 0)
    with pytest.raises(AudioError, match="no recordings"):
        load_sounds(tmp_path, 5, 0)
    synthetic.write(tmp_path / "laughing" / "mute.wav", np.zeros(8_000, np.float32))
    with pytest.raises(
        AudioError, match=r"none of its 1 recordings can be used; the first: .*mute\.wav: is silent"
    ):
        load_sounds(tmp_path, 5, 0)
    with pytest.raises(UsageError, match="no kind 'laughin' to leave out; did you mean 'laughing'"):
        load_sounds(tmp_path, 5, 0, without=["laughin"])
    with pytest.raises(AudioError, match="all kinds are left out"):
        load_sounds(tmp_path, 5, 0, without=["laughing"])
