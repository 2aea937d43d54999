"""What all detectors promise, and the formulas of WebRTC and energy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.audio import load_audio
from subtone.errors import AudioError, SpeechError
from subtone.speech import DETECTORS, SpeechSegments, detect, get_detector, load_detector
from subtone.speech.rules import Lengths, segments_from_scores


@pytest.fixture(scope="module")
def voices(shared: Path) -> list[npt.NDArray[np.float32]]:
    files = sorted((shared / "data" / "ravdess").rglob("*.opus"))[5::300]
    return [load_audio(file) for file in files]


def burst(seconds: float, level: float = 0.3, seed: int = 0) -> npt.NDArray[np.float32]:
    return (level * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))).astype(np.float32)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("length", [0, 1, 2, 159, 320, 511, 512, 513, 16_000])
def test_silence_of_any_length_has_no_speech(name: str, length: int) -> None:
    found = detect(np.zeros(length, np.float32), name)
    assert found == SpeechSegments.none(length)
    assert found.share == 0.0


@pytest.mark.parametrize("name", DETECTORS)
def test_a_constant_offset_is_silence(name: str) -> None:
    assert detect(np.full(16_000, 0.4, np.float32), name).share < 0.1


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("length", [1, 100, 700, 1_600])
def test_a_short_click_has_an_answer(name: str, length: int) -> None:
    found = detect(burst(length / 16_000), name)
    assert found.num_samples == length


@pytest.mark.parametrize("name", DETECTORS)
def test_speech_between_silences_is_found_where_it_is(
    name: str, voices: list[npt.NDArray[np.float32]]
) -> None:
    quiet = np.zeros(32_000, np.float32)
    for voice in voices:
        inside = detect(voice, "silero")
        core = voice[int(inside.starts[0]) : int(inside.ends[-1])]
        found = detect(np.concatenate([quiet, core, quiet]), name)
        assert len(found) >= 1
        assert found.starts[0] > 32_000 - 4_800
        assert found.ends[-1] < 32_000 + len(core) + 9_600
        # WebRTC, whose noise model starts from digital silence, misses the soft half of a quiet voice.
        assert found.speech_samples > (0.3 if name == "webrtc" else 0.6) * len(core)


@pytest.mark.parametrize("name", DETECTORS)
def test_blocks_cut_anywhere_give_the_answer_of_the_whole(
    name: str, voices: list[npt.NDArray[np.float32]]
) -> None:
    wave = np.concatenate([*voices, np.zeros(20_000, np.float32), *voices])
    whole = detect(wave, name)
    assert len(whole) > len(voices)
    detector = get_detector(name)
    for size in (1_000, 16_001, 262_144, 10**7):
        assert detector.detect_blocks(wave[at : at + size] for at in range(0, len(wave), size)) == whole
    uneven = np.split(wave, [0, 1, 1, 513, 77_777])
    assert detector.detect_blocks(uneven) == whole


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_remembers_nothing_between_waves(name: str, voices: list[npt.NDArray[np.float32]]) -> None:
    detector = get_detector(name)
    assert detector.detect_many([*voices, burst(1.0), voices[0]]) == [
        *(detect(voice, name) for voice in voices),
        detect(burst(1.0), name),
        detect(voices[0], name),
    ]
    assert detector.detect_many([]) == []


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_reads_back_from_its_configuration(name: str) -> None:
    detector = get_detector(name, min_speech_s=0.4, min_silence_s=0.7, speech_pad_s=0.01)
    config = json.loads(json.dumps(detector.config()))
    again = load_detector(config)
    assert config["name"] == again.name == name
    assert again.options == detector.options
    assert again.config() == detector.config()


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    "wave", [np.zeros((2, 100), np.float32), np.zeros(10, np.int16), np.array([0.0, np.nan]), np.float32(0)]
)
def test_what_is_no_wave_is_an_error(name: str, wave: npt.NDArray[np.float32]) -> None:
    with pytest.raises(AudioError, match="wave"):
        detect(wave, name)


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("slero", {}, "did you mean 'silero'"),
        ("silero", {"treshold": 0.5}, "did you mean 'threshold'"),
        ("energy", {"threshold": 0.5}, "no option 'threshold'"),
        ("silero", {"threshold": 1.5}, "threshold must lie"),
        ("silero", {"threshold": float("nan")}, "threshold must lie"),
        ("silero", {"threshold": "high"}, "number"),
        ("silero", {"neg_threshold": 0.9}, "neg_threshold must lie"),
        ("silero", {"min_speech_s": -1.0}, "min_speech_s must be 0 to 3600"),
        ("webrtc", {"min_silence_s": float("inf")}, "min_silence_s must be 0 to 3600"),
        ("webrtc", {"aggressiveness": 4}, "0, 1, 2 or 3"),
        ("webrtc", {"frame_ms": 25}, "10, 20 or 30"),
        ("energy", {"range_db": -3.0}, "range_db must be"),
        ("energy", {"silence_db": 3.0}, "silence_db must be"),
        ("energy", {"margin_db": None}, "number"),
    ],
)
def test_unknown_names_and_values_out_of_range_are_errors(
    name: str, options: dict[str, object], rule: str
) -> None:
    with pytest.raises(SpeechError, match=rule):
        get_detector(name, **options)


def test_a_configuration_without_a_name_is_an_error() -> None:
    with pytest.raises(SpeechError, match="name"):
        load_detector({"threshold": 0.5})


def test_a_missing_webrtc_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(SpeechError, match=r'pip install "subtone\[webrtc\]"'):
        get_detector("webrtc")


@pytest.mark.parametrize("gain", [0.1, 0.5, 3.0])
def test_energy_does_not_depend_on_the_level(gain: float, voices: list[npt.NDArray[np.float32]]) -> None:
    for voice in voices:
        assert detect(np.float32(gain) * voice, "energy") == detect(voice, "energy")


def test_energy_finds_a_burst_to_the_frame() -> None:
    # 20 ms frames of 320 samples; the burst covers frames 50 to 99 of 150 over a floor 40 dB below.
    wave = burst(3.0, level=0.003)
    wave[16_000:32_000] = burst(1.0)
    found = detect(wave, "energy", speech_pad_s=0.0)
    assert found.seconds.tolist() == [[1.0, 2.0]]


def test_energy_finds_speech_in_noise_of_10_db_and_none_in_its_pauses() -> None:
    wave = burst(4.0, level=0.03)
    wave[16_000:32_000] += burst(1.0, level=0.1, seed=1)
    found = detect(wave, "energy", speech_pad_s=0.0)
    np.testing.assert_allclose(found.seconds, [[1.0, 2.0]], atol=0.05)


def test_energy_takes_steady_sound_as_speech_and_dither_as_silence() -> None:
    assert detect(burst(2.0), "energy").share > 0.95
    dither = (np.random.default_rng(0).integers(-1, 2, 32_000) / 32_768).astype(np.float32)
    assert detect(dither, "energy").share == 0.0


def test_webrtc_grows_stricter_with_aggressiveness(voices: list[npt.NDArray[np.float32]]) -> None:
    wave = np.concatenate(voices)
    shares = [detect(wave, "webrtc", aggressiveness=level).share for level in range(4)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[3]


@pytest.mark.parametrize("name", DETECTORS)
def test_lengths_do_what_they_say(name: str, voices: list[npt.NDArray[np.float32]]) -> None:
    wave = np.concatenate(voices)
    assert len(detect(wave, name, min_speech_s=60.0)) == 0
    assert len(detect(wave, name, min_silence_s=60.0)) == 1
    bare, padded = (detect(wave, name, speech_pad_s=pad) for pad in (0.0, 0.05))
    assert padded.speech_samples > bare.speech_samples


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.1, 0.4, 0.9]), max_size=60),
    speech=st.integers(0, 5),
    silence=st.integers(0, 5),
    pad=st.integers(0, 3),
    missing=st.integers(0, 9),
)
def test_rules_keep_their_lengths(
    scores: list[float], speech: int, silence: int, pad: int, missing: int
) -> None:
    frame = 160  # 10 ms
    num_samples = max(0, frame * len(scores) - missing)
    found = segments_from_scores(
        np.array(scores),
        frame=frame,
        num_samples=num_samples,
        enter=0.5,
        leave=0.3,
        lengths=Lengths(min_speech_s=speech / 100, min_silence_s=silence / 100, speech_pad_s=0.0),
    )
    lengths, pauses = found.ends - found.starts, found.starts[1:] - found.ends[:-1]
    assert (lengths > speech * frame).all()
    assert (pauses >= silence * frame).all()
    wider = segments_from_scores(
        np.array(scores),
        frame=frame,
        num_samples=num_samples,
        enter=0.5,
        leave=0.3,
        lengths=Lengths(min_speech_s=speech / 100, min_silence_s=silence / 100, speech_pad_s=pad / 100),
    )
    assert len(wider) == len(found)
    assert (wider.starts <= found.starts).all()
    assert (wider.ends >= found.ends).all()
    if len(found) == 0:
        longest = max(
            (len(run) for run in "".join("x" if s == 0.9 else " " for s in scores).split()), default=0
        )
        assert longest * frame - missing <= speech * frame
