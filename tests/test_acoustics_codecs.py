"""Real codecs: aligned, as long as before, as lossy as they are; and the suite of conditions built on them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.acoustics import CODECS, CONDITIONS, Codec, available, codecs, condition, transcode
from subtone.acoustics.bands import at_8_khz, telephone_band
from subtone.acoustics.conditions import Group
from subtone.errors import UsageError
from subtone.speech import Wave

HERE = [codec for codec, reason in codecs.available().items() if reason is None]
NARROW = {"g711-alaw", "g711-mulaw", "gsm", "amr-nb-12.2k"}
FREE = {"speed"}  # groups that change the length


def speech(seconds: float = 1.5, seed: int = 0, pitch_hz: float = 140.0) -> Wave:
    """Return what is like speech to a codec: a gliding voice with three formants, in syllables, with hiss."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * 16_000)) / 16_000
    pitch = pitch_hz * (1 + 0.15 * np.sin(2 * np.pi * 0.9 * times + seed))
    phase = np.cumsum(pitch) / 16_000
    pulses = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.standard_normal(len(times))
    voice = sum(
        scipy.signal.lfilter(*scipy.signal.iirpeak(hz, 6.0, fs=16_000), pulses) * weight
        for hz, weight in ((550.0, 1.0), (1_500.0, 0.6), (2_600.0, 0.4))
    )
    wave = voice * np.clip(np.sin(2 * np.pi * 2.5 * times), 0, 1)
    return (0.3 * wave / np.abs(wave).max() + 1e-4 * rng.standard_normal(len(times))).astype(np.float32)


def lag(changed: Wave, wave: Wave) -> int:
    product = scipy.signal.correlate(changed, wave, "full")
    return int(product.argmax()) - (len(wave) - 1)


def test_all_but_the_encoders_of_amr_are_there_and_those_that_are_missing_say_why() -> None:
    assert set(codecs.available()) == set(CODECS)
    assert {codec for codec in CODECS if codec not in HERE} <= {"amr-nb-12.2k", "amr-wb-23.85k"}
    for codec, reason in codecs.available().items():
        if reason is not None:
            assert "has no encoder" in reason
            with pytest.raises(
                UsageError, match=f"transcode: {codec}: this build of FFmpeg .*; leave it out"
            ):
                transcode(speech(0.1), codec)
            assert available()[codec] == reason


@pytest.mark.parametrize("codec", HERE)
@pytest.mark.parametrize(("seed", "pitch_hz"), [(0, 110.0), (1, 210.0)])
def test_what_comes_out_lies_over_what_went_in(codec: Codec, seed: int, pitch_hz: float) -> None:
    wave = speech(1.5, seed, pitch_hz)
    coded = transcode(wave, codec)
    assert coded.shape == wave.shape
    assert coded.dtype == np.float32
    assert abs(lag(coded, wave)) <= 2
    alike = np.corrcoef(coded, wave)[0, 1]
    assert 0.8 < alike < 0.999_99  # it is the clip, and it did go through a codec
    assert np.square(coded).sum() == pytest.approx(np.square(wave).sum(), rel=0.35)
    for half in (slice(None, 12_000), slice(12_000, None)):  # nor does it drift
        assert abs(lag(coded[half], wave[half])) <= 2


@pytest.mark.parametrize("codec", HERE)
def test_an_onset_and_the_end_of_a_clip_are_in_place(codec: Codec) -> None:
    wave = np.concatenate(
        [np.zeros(8_000, np.float32), speech(0.3)[400:2_600]]
    )  # ends in the middle of a syllable
    coded = transcode(wave, codec)
    assert np.square(coded[:7_600]).mean() < 1e-3 * np.square(wave[8_000:]).mean()
    last = np.square(coded[-400:]).mean() / np.square(wave[-400:]).mean()
    assert 0.2 < last < 3.0  # not cut off by what the encoder holds back


@pytest.mark.parametrize("codec", HERE)
def test_narrow_codecs_leave_nothing_above_4_khz_and_wide_ones_do(codec: Codec) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    hz, power = scipy.signal.welch(transcode(wave, codec), 16_000)
    share = power[(hz > 4_200) & (hz < 6_500)].mean() / power[(hz > 500) & (hz < 3_000)].mean()
    assert (share < 1e-3) == (codec in NARROW)


@pytest.mark.parametrize("codec", HERE)
def test_the_same_wave_gives_the_same_samples(codec: Codec) -> None:
    first, _, again = (
        transcode(speech(0.4), codec),
        transcode(speech(0.4, 1), codec),
        transcode(speech(0.4), codec),
    )
    assert np.array_equal(first, again)


@pytest.mark.parametrize("codec", HERE)
def test_what_is_beyond_full_scale_is_clipped_and_does_not_wrap(codec: Codec) -> None:
    wave = speech(0.5)
    loud, clipped = transcode(20 * wave, codec), transcode(np.clip(20 * wave, -1, 1), codec)
    assert np.array_equal(loud, clipped)
    assert np.corrcoef(loud, np.clip(20 * wave, -1, 1))[0, 1] > 0.6


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(HERE), st.integers(0, 3_000), st.sampled_from([0.0, 1e-6, 0.5, 2.0]))
def test_waves_of_any_length_and_level_pass(codec: Codec, samples: int, level: float) -> None:
    wave = (level * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    before = wave.copy()
    coded = transcode(wave, codec)
    assert coded.shape == wave.shape
    assert np.isfinite(coded).all()
    assert np.array_equal(wave, before)


def test_the_telephone_band_keeps_what_is_in_it_in_place() -> None:
    wave = np.random.default_rng(0).standard_normal(64_000).astype(np.float32)
    line = telephone_band(wave)
    hz, gain = scipy.signal.welch(line, 16_000, nperseg=2_048)
    _, before = scipy.signal.welch(wave, 16_000, nperseg=2_048)
    gain_db = 10 * np.log10(gain / before)
    assert np.abs(gain_db[(hz > 420) & (hz < 3_280)]).max() < 0.2
    assert gain_db[(hz < 190) & (hz > 20)].max() < -40
    assert gain_db[hz > 3_520].max() < -50
    assert lag(line, wave) == 0
    narrow = at_8_khz(wave)
    assert lag(narrow, wave) == 0
    hz, gain = scipy.signal.welch(narrow, 16_000)
    assert gain[hz > 4_200].max() < 1e-6 * gain[hz < 3_500].mean()
    for samples in (0, 1, 2, 510, 511, 512):
        assert len(telephone_band(wave[:samples])) == len(at_8_khz(wave[:samples])) == samples
    start = wave[:300]  # shorter than the filter: as the start of a longer one that ends in silence
    assert np.allclose(telephone_band(start), telephone_band(np.pad(start, (0, 4_000)))[:300], atol=1e-5)


@pytest.mark.parametrize("name", [name for name, reason in available().items() if reason is None])
def test_each_condition_gives_a_wave_by_its_seed_and_leaves_the_given_one(name: str) -> None:
    wave = speech(0.5)
    before, one = wave.copy(), condition(name)
    first, again, other = (one.apply(wave, seed) for seed in (3, 3, (4, 1)))
    assert np.array_equal(wave, before)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (one.group not in ("reverb", "noise"))
    assert np.array_equal(first, wave) == (name == "clean")
    assert one.group in FREE or len(first) == len(wave)
    for short in (wave[:0], wave[:1], np.zeros(50, np.float32)):
        changed = one.apply(short, 0)
        assert one.group in FREE or len(changed) == len(short)
        assert np.isfinite(changed).all()


def test_the_suite_is_complete_and_its_names_are_told() -> None:
    assert next(iter(CONDITIONS)) == "clean"
    assert {one.group for one in CONDITIONS.values()} == set(get_args(Group))
    assert set(CODECS) < set(CONDITIONS)
    assert all(name == one.name for name, one in CONDITIONS.items())
    assert len({one.title for one in CONDITIONS.values()}) == len(CONDITIONS)
    with pytest.raises(UsageError, match=r"no condition 'reverb-0\.5s'; did you mean 'reverb-"):
        condition("reverb-0.5s")
    with pytest.raises(UsageError, match="no codec 'opus'; did you mean 'opus-16k'"):
        transcode(speech(0.1), "opus")  # type: ignore[arg-type]


def test_noises_of_one_clip_differ_in_level_alone_and_have_it() -> None:
    wave = speech(0.5)
    for colour in ("white", "pink"):
        loud, soft = (condition(f"{colour}-{snr}db").apply(wave, 5) - wave for snr in (0, 20))
        assert np.allclose(loud, 10 * soft, atol=1e-5)
        ratio = np.square(wave, dtype=np.float64).mean() / np.square(loud, dtype=np.float64).mean()
        assert 10 * np.log10(ratio) == pytest.approx(0.0, abs=0.1)


def test_a_louder_clip_is_not_clipped() -> None:
    wave = speech(0.5)
    assert np.abs(condition("gain+20db").apply(wave, 0)).max() == pytest.approx(
        10 * np.abs(wave).max(), rel=1e-5
    )
