"""Noise, rooms, levels and speed: exact lengths and levels, and what is asked for is what is heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.acoustics.levels import clip, gain, rms
from subtone.acoustics.noise import coloured_noise, with_noise
from subtone.acoustics.rooms import convolved, reverberate
from subtone.acoustics.speed import at_speed
from subtone.errors import UsageError
from subtone.speech import Wave
from tests import synthetic

calm = settings(deadline=None)  # a busy machine is no failure


def noise_of(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def level_db(wave: Wave) -> float:
    return float(10 * np.log10(np.square(wave, dtype=np.float64).mean()))


@pytest.mark.parametrize("slope_db", [-6.0, -3.0, 0.0, 3.0])
def test_the_colour_of_noise_is_its_slope(slope_db: float) -> None:
    noise = coloured_noise(160_000, slope_db, np.random.default_rng(0))
    hz, power = scipy.signal.welch(noise, 16_000, nperseg=4_096)
    band = (hz > 100) & (hz < 7_000)
    slope = np.polyfit(np.log2(hz[band]), 10 * np.log10(power[band]), 1)[0]
    assert slope == pytest.approx(slope_db, abs=0.2)


@calm
@given(st.integers(2, 5_000), st.floats(-20.0, 60.0), st.integers(0, 9))
def test_noise_has_the_level_that_was_asked_for(samples: int, snr_db: float, seed: int) -> None:
    wave, noise = np.zeros(samples, np.float32), noise_of(samples, seed)
    wave[0] = 0.5
    added = with_noise(wave, noise, snr_db) - wave
    assert level_db(wave) - level_db(added) == pytest.approx(snr_db, abs=0.1)
    added = with_noise(np.zeros(samples, np.float32), noise, snr_db, level=0.25)
    assert 20 * np.log10(0.25) - level_db(added) == pytest.approx(snr_db, abs=0.01)


@calm
@given(st.integers(1, 4_000), st.floats(0.0, 0.99), st.integers(0, 9))
def test_as_many_samples_saturate_as_asked_for_and_the_others_stay(
    samples: int, share: float, seed: int
) -> None:
    wave = noise_of(samples, seed)
    clipped = clip(wave, share)
    ceiling = np.abs(clipped).max()
    changed = clipped != wave
    assert np.count_nonzero(np.abs(wave) >= ceiling) == max(1, np.ceil(share * samples))
    assert (np.abs(clipped[changed]) == ceiling).all()
    assert (np.sign(clipped) == np.sign(wave)).all()


def test_gain_is_exact_and_clips_nothing() -> None:
    wave = noise_of(1_000)
    assert level_db(gain(wave, 20.0)) - level_db(wave) == pytest.approx(20.0, abs=1e-4)
    assert np.abs(gain(wave, 20.0)).max() > 1.0
    assert np.array_equal(gain(wave, 0.0), wave)
    assert np.allclose(gain(gain(wave, -40.0), 40.0), wave, rtol=1e-6)


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.0])
def test_a_room_decays_by_60_db_in_its_time_behind_a_direct_sound_in_place(rt60_s: float) -> None:
    click = np.zeros(32_000, np.float32)
    click[1_000] = 1.0
    curves = []
    for seed in range(8):
        wet = reverberate(click, rt60_s, seed)
        assert len(wet) == len(click)
        assert np.abs(wet).argmax() == 1_000
        assert np.abs(wet[:1_000]).max() < 1e-6
        assert level_db(wet) == pytest.approx(level_db(click), abs=0.01)
        tail = np.square(wet[1_001:], dtype=np.float64)
        assert 10 * np.log10(np.square(wet[1_000]) / tail.sum()) == pytest.approx(0.0, abs=0.01)
        curves.append(10 * np.log10(np.cumsum(tail[::-1])[::-1][: round(rt60_s * 8_000)]))
    slope = np.polyfit(np.arange(len(curves[0])) / 16_000, np.mean(curves, axis=0), 1)[0]  # Schroeder 1965
    assert -60 / slope == pytest.approx(rt60_s, rel=0.05)


@calm
@given(st.integers(1, 300), st.integers(1, 400), st.integers(0, 9))
def test_convolution_equals_a_slow_one_shifted_to_the_peak(samples: int, taps: int, seed: int) -> None:
    wave, response = noise_of(samples, seed), noise_of(taps, seed + 1)
    peak = int(np.abs(response).argmax())
    whole = np.convolve(wave.astype(float), response.astype(float) / abs(response[peak]))
    assert np.allclose(convolved(wave, response), whole[peak : peak + samples], atol=1e-4)


@calm
@given(st.integers(0, 3_000), st.floats(0.25, 4.0))
def test_speed_gives_the_length_that_was_asked_for(samples: int, factor: float) -> None:
    changed = at_speed(noise_of(samples), factor)
    assert len(changed) == max(round(samples / factor), min(samples, 1))
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_moves_the_pitch_alike(factor: float) -> None:
    tone = (0.3 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)).astype(np.float32)
    changed = at_speed(tone, factor)
    peak = np.abs(np.fft.rfft(changed * np.hanning(len(changed)), 1 << 18)).argmax()
    assert peak * 16_000 / (1 << 18) == pytest.approx(500 * factor, rel=1e-3)
    assert rms(changed[800:-800]) == pytest.approx(rms(tone), rel=0.01)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda wave: gain(wave, float("nan")), "gain: nan dB must be a finite number"),
        (lambda wave: clip(wave, 1.0), r"clip: share = 1.0 of the samples must lie in \[0, 1\)"),
        (lambda wave: at_speed(wave, 5), r"at_speed: factor = 5 must lie within \[0.25, 4\]"),
        (lambda wave: reverberate(wave, 0.0, 0), r"rt60_s = 0.0 must lie within \[0.05, 10\]"),
        (lambda wave: reverberate(wave, 0.5, -1), "must be a whole number of 0 or more"),
    ],
)
def test_what_is_out_of_range_is_told(call: Callable[[Wave], Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        call(synthetic.utterance())


def test_silent_waves_and_those_without_samples_pass() -> None:
    for wave in (np.zeros(0, np.float32), np.zeros(100, np.float32)):
        for changed in (
            gain(wave, 6.0), clip(wave, 0.1), at_speed(wave, 1.0), reverberate(wave, 0.5, 0),
            with_noise(wave, wave, 3.0),
        ):  # fmt: skip
            assert np.array_equal(changed, wave)
