"""Prosody as an upstream: pitch of known tones, measures by their formulas, one clip however it is given."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import scipy.signal
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone import upstreams
from subtone.upstreams import Upstream
from subtone.upstreams.prosody import DIMS, ProsodyUpstream, pitch, spectrum
from subtone.upstreams.prosody.measures import HOP, LOUD, UNVOICED, VOICED, WINDOW, Measures, measure
from subtone.upstreams.prosody.standardisation import Standardisation
from subtone.upstreams.prosody.summary import LEAST_SPREAD, weighted
from tests.tiny_upstreams import noise, relative_error

PROSODY = ProsodyUpstream()
Values = npt.NDArray[np.float32]


def voice(
    f0_hz: float | npt.NDArray[np.float64], seconds: float = 1.0, first: int = 1, tilt: float = 1.0
) -> Values:
    """Return a sum of partials from number ``first`` on, up to 4 kHz, each ``tilt`` power of its number softer."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    f0 = np.broadcast_to(f0_hz, time.shape)
    phase = 2 * np.pi * np.cumsum(f0) / 16_000
    partials = [np.sin(k * phase) / k**tilt * (k * f0 < 4_000) for k in range(first, 80)]
    return (0.05 * np.sum(partials, axis=0)).astype(np.float32)


def semitones(hz: Any) -> Any:
    return 12 * np.log2(np.asarray(hz) / 27.5)


def frames_of(wave: Values, name: str, upstream: Upstream = PROSODY) -> Values:
    column: Values = upstream.extract([wave])[0][0][:, DIMS.index(name)]
    return column


def measures_of(wave: Values) -> Measures:
    """Return the measures of a clip whose last sample is a frame's centre."""
    silence = np.zeros(WINDOW // 2, np.float32)
    return measure(torch.from_numpy(np.concatenate([silence, wave, silence])))


def clip_of(shared: Path, number: int) -> Values:
    path = sorted((shared / "data" / "ravdess").rglob("*.opus"))[number]
    wave: Values = soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0]
    return wave


@pytest.mark.parametrize("f0_hz", [75, 85, 110, 147, 220, 330, 440, 510])
@pytest.mark.parametrize("first", [1, 2])
def test_the_pitch_of_partials_is_their_difference_even_without_the_first(f0_hz: float, first: int) -> None:
    wave = voice(f0_hz, first=first)
    assert np.median(frames_of(wave, "f0")) == pytest.approx(semitones(f0_hz), abs=0.15)
    assert frames_of(wave, "voicing")[5:-5].min() > 0.9


def test_pitch_follows_a_glide_over_two_octaves() -> None:
    f0 = 100 * 2 ** np.linspace(0, 2, 32_000)
    wave = voice(f0, 2.0)
    found = measures_of(wave)
    got = found.voiced[:, VOICED.index("f0")].numpy()
    np.testing.assert_allclose(got[5:95], semitones(f0[::320])[5:95], atol=0.2)
    assert frames_of(wave, "f0_fall")[5:-5].max() < 0.02 < frames_of(wave, "f0_rise")[10:-10].min()


def test_one_octave_error_of_the_evidence_is_smoothed_away() -> None:
    f0 = np.full(16_000, 150.0)
    wave = voice(f0)
    wave[8_000:8_640] = voice(300.0)[8_000:8_640]  # two frames sound an octave higher
    found = measures_of(wave)
    got = found.voiced[10:-10, VOICED.index("f0")].numpy()
    # The chain may follow the leap or not, but never lands in between for long.
    assert (np.abs(got - semitones(150)) < 0.5).mean() > 0.85


@pytest.mark.parametrize("wave", [noise(16_000), np.zeros(16_000, np.float32)], ids=["noise", "silence"])
def test_noise_and_silence_have_no_voice(wave: Values) -> None:
    assert frames_of(wave, "voicing").mean() < 0.15


def test_the_chain_of_pitches_gives_the_marginals_of_its_window() -> None:
    generator = torch.Generator().manual_seed(0)
    evidence = torch.rand(2 * pitch.REACH + 1, pitch.SEMITONES * 6, generator=generator)
    (got,) = pitch._smoothed(evidence)
    transitions, prior = (part.double().numpy() for part in pitch._chain())
    np.testing.assert_allclose(transitions.sum(axis=1), 1, atol=1e-6)
    best = evidence.numpy().reshape(len(evidence), -1, 3).max(axis=2)
    likely = np.exp(pitch._SHARPNESS * (best.astype(np.float64) - pitch._THRESHOLD))
    likely = np.concatenate([likely, np.ones((len(likely), 1))], axis=1)
    before, after = prior, np.ones_like(prior)
    for row in likely[: pitch.REACH]:
        before = (before * row) @ transitions
    for row in likely[: pitch.REACH : -1]:
        after = transitions @ (after * row)
    wanted = before * likely[pitch.REACH] * after
    np.testing.assert_allclose(got, wanted / wanted.sum(), rtol=1e-3, atol=1e-7)


def test_harmonicity_is_the_ratio_of_voice_to_noise() -> None:
    clean, hiss = voice(150, tilt=0.5), np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    low = scipy.signal.firwin(401, 2_000, fs=16_000)
    clean, hiss = (np.convolve(x, low, "same").astype(np.float32) for x in (clean, hiss))
    hiss *= clean.std() / hiss.std()
    for snr_db in (0, 5, 10):
        found = measures_of(clean + hiss * np.float32(10 ** (-snr_db / 20)))
        got = found.voiced[8:-8, VOICED.index("harmonicity")].median()
        assert got == pytest.approx(snr_db, abs=2.0)


def test_measures_are_those_of_their_formulas() -> None:
    power = torch.from_numpy(np.random.default_rng(0).exponential(size=(4, 321)).astype(np.float32)) ** 3
    p, hz = power.double().numpy(), 25.0 * np.arange(321)

    def band(low: float, high: float) -> npt.NDArray[np.bool_]:
        return (hz >= low) & (hz <= high)

    alpha = 10 * np.log10(p[:, band(50, 1_000)].sum(1) / p[:, band(1_000, 5_000)].sum(1))
    np.testing.assert_allclose(spectrum.alpha_ratio(power, 25.0), alpha, atol=1e-3)
    peaks = 10 * np.log10(p[:, band(0, 2_000)].max(1) / p[:, band(2_000, 5_000)].max(1))
    np.testing.assert_allclose(spectrum.hammarberg_index(power, 25.0), peaks, atol=1e-3)
    decibels = 10 * np.log10(p + 1e-6 * p.max(1, keepdims=True))
    for low, high in ((0, 500), (500, 1_500)):
        fit = np.polyfit(hz[band(low, high)] / 1_000, decibels[:, band(low, high)].T, 1)[0]
        np.testing.assert_allclose(spectrum.slope(power, 25.0, low, high), fit, rtol=1e-3, atol=1e-2)
    amplitude = np.sqrt(p[:, band(50, 8_000)])
    centre = (amplitude * hz[band(50, 8_000)]).sum(1) / amplitude.sum(1) / 1_000
    np.testing.assert_allclose(spectrum.centroid(power, 25.0, 50, 8_000), centre, rtol=1e-4)
    bands = spectrum.mel_bands(power, 25.0)
    floored = bands.double().numpy() + 1e-5 * bands.double().numpy().mean(1, keepdims=True)
    cosines = scipy.fft.dct(np.log(floored), type=2, norm="ortho")[:, 1 : spectrum.NUM_CEPSTRA + 1]
    np.testing.assert_allclose(spectrum.cepstra(bands), cosines, atol=1e-4)
    flat = 10 * np.log10(np.exp(np.log(floored).mean(1)) / floored.mean(1))
    np.testing.assert_allclose(spectrum.flatness(bands), flat, atol=1e-4)


def test_mean_and_deviation_over_frames_are_those_of_voiced_sound(shared: Path) -> None:
    wave = clip_of(shared, 700)
    frames = PROSODY.extract([wave])[0][0].astype(np.float64)
    found = measures_of(wave)
    kinds = zip((LOUD, VOICED, UNVOICED), weighted(found), PROSODY.survey([wave]).kinds, strict=True)
    for names, (values, weights), kind in kinds:
        x, w = values.double().numpy(), weights.double().numpy()[:, None]
        columns = frames[:, [DIMS.index(name) for name in names]]
        mean = (w * x).sum(0) / w.sum()
        np.testing.assert_allclose(columns.mean(0), mean, rtol=1e-4, atol=1e-4)
        if kind.spread == LEAST_SPREAD:
            continue  # hardly anything of the kind: its frames must not make huge numbers
        deviation = np.sqrt((w**2 * (x - mean) ** 2).sum(0) / (w**2).sum())
        np.testing.assert_allclose(columns.std(0), deviation, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gain", [0.01, 0.3, 3.0])
def test_the_gain_of_a_recording_does_not_matter(gain: float, shared: Path) -> None:
    for wave in (noise(20_000), clip_of(shared, 1)):
        (plain,), (changed,) = PROSODY.extract([wave]), PROSODY.extract([gain * wave])
        np.testing.assert_allclose(changed, plain, rtol=2e-3, atol=2e-3)


def test_silence_around_a_clip_moves_none_of_its_frames(shared: Path) -> None:
    # But by how much the frames depart from the clip's means: silent frames weigh nothing, yet count.
    wave, silence = clip_of(shared, 1), np.zeros(6_400, np.float32)
    alone = PROSODY.survey([wave])
    padded = PROSODY.survey([np.concatenate([silence, wave, silence])])
    assert padded.level == pytest.approx(alone.level, rel=1e-2)
    for one, other in zip(alone.kinds, padded.kinds, strict=True):
        np.testing.assert_allclose(other.mean, one.mean, rtol=1e-2, atol=1e-2)


@settings(max_examples=30, deadline=None)
@given(num_samples=st.integers(0, 4_000))
def test_there_are_as_many_frames_as_whispers(num_samples: int) -> None:
    frames = PROSODY.extract([noise(num_samples)])[0]
    assert frames.shape == (1, PROSODY.grid.num_frames(num_samples), len(DIMS))
    mel_frames = max(num_samples, 400) // 160
    assert frames.shape[1] == (mel_frames + 1) // 2
    assert np.isfinite(frames).all()


def test_frames_are_centred_every_twenty_milliseconds() -> None:
    np.testing.assert_array_equal(PROSODY.grid.cells(2, 16_000), [[0, 160], [160, 480]])
    click = 1e-4 * noise(32_000)
    click[320 * 40] = 1.0
    assert frames_of(click, "level").argmax() == 40


def test_frames_do_not_depend_on_the_batch() -> None:
    waves = [noise(n) for n in (400, 80_000, 0, 5_555)]
    batch = PROSODY.encode(waves)
    assert batch.too_short == (False, False, True, False)
    for row, alone in enumerate(PROSODY.extract(waves)):
        valid = int(batch.mask[row].sum())
        assert relative_error(batch.frames[row, :, :valid], alone) < 1e-4
        assert not batch.frames[row, :, valid:].any()


def test_a_chunk_with_its_survey_equals_the_clip() -> None:
    wave = noise(90_000) + np.concatenate([voice(120, 3.0), voice(200, 2.625)])
    survey = PROSODY.survey([wave[:7], wave[7:30_001], wave[30_001:]])
    (whole,) = PROSODY.extract([wave])
    margin, total = round(PROSODY.context_s * 16_000), PROSODY.grid.num_frames(len(wave))
    for first, last in ((0, 60), (90, 150), (110, 111), (180, total)):
        left = max(0, first - margin // 320)
        end = -160 + 320 * last + margin
        (got,) = PROSODY.extract([wave[320 * left : end if end < len(wave) else None]], [survey])
        assert relative_error(got[:, first - left : last - left], whole[:, first:last]) < 1e-4


def test_a_frame_sees_its_context_and_no_more() -> None:
    wave, other = noise(90_000), noise(90_000, seed=1)
    survey, context = PROSODY.survey([wave]), round(PROSODY.context_s * 16_000)
    start, end = PROSODY.grid.cells(131, len(wave))[130]
    other[start - context : end + context] = wave[start - context : end + context]
    (whole,), (got,) = PROSODY.extract([wave], [survey]), PROSODY.extract([other], [survey])
    assert relative_error(got[:, 130], whole[:, 130]) < 1e-5
    assert relative_error(got[:, 118], whole[:, 118]) > 1e-2


@settings(max_examples=15, deadline=None)
@given(num_samples=st.integers(0, 6_000), cuts=st.lists(st.integers(0, 6_000), max_size=8))
def test_where_blocks_are_cut_changes_no_survey(num_samples: int, cuts: list[int]) -> None:
    wave = noise(num_samples)
    edges = [0, *sorted(min(cut, num_samples) for cut in cuts), num_samples]
    survey = PROSODY.survey([wave[a:b] for a, b in pairwise(edges)])
    (plain,), (surveyed,) = PROSODY.extract([wave]), PROSODY.extract([wave], [survey])
    assert relative_error(surveyed, plain) < 1e-4


def test_long_clips_are_measured_in_blocks_that_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(40_000)
    (whole,) = PROSODY.extract([wave])
    monkeypatch.setattr("subtone.upstreams.prosody.upstream._BLOCK", 7)
    assert relative_error(PROSODY.extract([wave])[0], whole) < 1e-4


def test_gradients_reach_the_wave() -> None:
    wave = torch.tensor(voice(150, 0.5) + noise(8_000), requires_grad=True)
    PROSODY.encode([wave]).frames.sum().backward()
    assert wave.grad is not None
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.abs().max() > 0


def test_what_is_no_clip_is_refused() -> None:
    for wave, told in (
        (np.full(800, np.nan, np.float32), "NaN"),
        (np.zeros(800, np.int16), "must hold floats"),
    ):
        with pytest.raises(upstreams.UpstreamError, match=f"wave 1.*{told}"):
            PROSODY.extract([noise(800), wave])
        with pytest.raises(upstreams.UpstreamError, match=told):
            PROSODY.survey([wave])
    survey: Any = upstreams.load("fbank+level").survey([noise(800)])
    with pytest.raises(upstreams.UpstreamError, match="LevelSurvey is no survey of this upstream"):
        PROSODY.extract([noise(800)], [survey])


def test_a_name_a_folder_and_a_configuration_give_the_same_upstream(tmp_path: Path) -> None:
    upstream = upstreams.load("prosody")
    upstream.save(tmp_path)
    others = [
        upstreams.load(tmp_path),
        upstreams.load_from_config(upstream.config()),
        upstreams.load_from_config({**upstream.config(), "fingerprint": upstream.fingerprint()}),
    ]
    assert {other.fingerprint() for other in others} == {upstream.fingerprint()}
    assert upstream.core() is None
    assert upstream.module is None
    np.testing.assert_array_equal(upstream.front(noise(4_000)).T, upstream.extract([noise(4_000)])[0][0])


def test_another_version_of_the_numbers_is_refused() -> None:
    with pytest.raises(upstreams.UpstreamError, match="made with version 0 of the measures"):
        upstreams.load_from_config({"kind": "prosody", "version": 0})


def test_a_standardisation_that_does_not_fit_is_refused() -> None:
    right = Standardisation().to_dict()
    assert Standardisation.from_dict(right) == Standardisation()
    for wrong, told in (
        ({**right, "mean": right["mean"][1:]}, f"mean must hold {len(DIMS)} finite numbers"),
        ({**right, "mean": [float("nan")] * len(DIMS)}, "mean must hold"),
        ({**right, "scale": [0.0] * len(DIMS)}, "scale must hold .* above 0"),
        ({**right, "scale": "ones"}, "must be lists"),
        ({**right, "version": -1}, "version -1"),
        ({"mean": []}, "must hold version, mean and scale"),
    ):
        with pytest.raises(upstreams.UpstreamError, match=told):
            Standardisation.from_dict(wrong)


def test_a_stretch_that_holds_one_window_gives_one_frame() -> None:
    assert len(measure(torch.from_numpy(noise(WINDOW))).energy) == 1
    assert len(measure(torch.from_numpy(noise(WINDOW + HOP))).energy) == 2
