"""`load_audio` and `read_blocks` on sound recordings: formats, rates, channels, parts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.audio import AudioInfo, audio_digest, load_audio, probe, read_blocks
from subtone.errors import AudioError

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)


def tone(hz: float, seconds: float, rate_hz: int, level: float = 0.5) -> npt.NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def noise(shape: int | tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def encoded(wave: npt.NDArray[np.float32], rate_hz: int, format: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=format, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
def test_wav_of_every_sample_format_keeps_its_level(subtype: str) -> None:
    wave = tone(440, 0.5, 16_000)
    loaded = load_audio(encoded(wave, 16_000, "WAV", subtype))
    tolerance = {"PCM_U8": 0.01, "ULAW": 0.02, "ALAW": 0.02}.get(subtype, 1e-4)
    assert loaded.dtype == np.float32
    assert np.abs(loaded - wave).max() < tolerance


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
        ("AIFF", None),
        ("CAF", None),
        ("AU", None),
    ],
)
def test_every_format_gives_16_khz_mono(format: str, subtype: str | None) -> None:
    stereo = np.stack([tone(300, 2.0, 48_000), tone(300, 2.0, 48_000)], axis=1)
    loaded = load_audio(encoded(stereo, 48_000, format, subtype))
    assert loaded.shape == (32_000,)
    assert loaded.dtype == np.float32
    expected = tone(300, 2.0, 16_000)
    middle = slice(4_000, 28_000)
    assert np.abs(loaded[middle] - expected[middle]).max() < 0.05


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_every_rate_gives_the_same_tone_at_the_same_level(rate_hz: int) -> None:
    loaded = load_audio((tone(1_000, 1.0, rate_hz), rate_hz))
    assert abs(len(loaded) - 16_000) <= 1
    middle = slice(2_000, 14_000)
    assert np.abs(loaded[middle] - tone(1_000, 1.0, 16_000)[middle]).max() < 2e-3


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 192_000])
def test_frequencies_above_8_khz_do_not_fold_down(rate_hz: int) -> None:
    loaded = load_audio((tone(11_000, 1.0, rate_hz), rate_hz))
    assert np.abs(loaded[1_000:-1_000]).max() < 1e-3


def test_mono_at_16_khz_is_passed_through_unchanged() -> None:
    wave = noise(5_001)
    np.testing.assert_array_equal(load_audio(encoded(wave, 16_000, "WAV", "FLOAT")), wave)
    np.testing.assert_array_equal(load_audio(wave), wave)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_mix_is_the_mean_over_channels(tmp_path: Path, channels: int) -> None:
    wave = noise((3_000, channels))
    path = tmp_path / "many.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path), wave.mean(axis=1), atol=1e-6)
    for channel in range(channels):
        np.testing.assert_array_equal(load_audio(path, channel), wave[:, channel])


def test_one_party_of_a_call_is_not_heard_in_the_other() -> None:
    call = np.stack([tone(500, 1.0, 8_000), np.zeros(8_000, np.float32)], axis=1)
    recording = encoded(call, 8_000, "WAV")
    assert np.abs(load_audio(recording, channel=0)).max() > 0.4
    assert np.abs(load_audio(recording, channel=1)).max() == 0.0


@pytest.mark.parametrize("channel", [2, 99, -1, True, "left", 0.0, None])
def test_a_channel_that_is_not_there_is_an_error(channel: object) -> None:
    with pytest.raises(AudioError, match="channel"):
        load_audio(np.zeros((2, 100), np.float32), channel)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-128, 64], np.int8), [-1.0, 0.5]),
        (np.array([0, 192], np.uint8), [-1.0, 0.5]),
        (np.array([-32768, 16384], np.int16), [-1.0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1.0, 0.5]),
        (np.array([-1.0, 0.5], np.float16), [-1.0, 0.5]),
        (np.array([-1.0, 0.5], np.float64), [-1.0, 0.5]),
        (np.array([-3.0, 7.5], np.float32), [-3.0, 7.5]),
    ],
)
def test_arrays_of_every_dtype_come_to_full_scale(
    values: npt.NDArray[np.generic], expected: list[float]
) -> None:
    assert load_audio(values).tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(4, np.int64),
        np.zeros(4, bool),
        np.zeros(4, complex),
        np.array(["a"]),
        np.zeros((1, 2, 3)),
        np.float32(1),
    ],
)
def test_arrays_that_are_no_samples_are_errors(values: object) -> None:
    with pytest.raises(AudioError):
        load_audio(values)  # type: ignore[arg-type]


def test_two_axes_are_channels_first_unless_the_first_is_longer() -> None:
    wave = noise((2, 50))
    np.testing.assert_allclose(load_audio(wave), wave.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(load_audio(wave.T), wave.mean(axis=0), atol=1e-7)
    square = noise((3, 3))
    np.testing.assert_allclose(load_audio(square), square.mean(axis=0), atol=1e-7)


def test_path_text_bytes_stream_and_pipe_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ü nicode [1] %d.flac"
    soundfile.write(path, noise((9_000, 2)), 22_050)
    data = path.read_bytes()

    class Pipe(io.RawIOBase):
        """A source that cannot go back."""

        def __init__(self) -> None:
            self.inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            return self.inner.readinto(buffer)

    expected = load_audio(path)
    for source in (str(path), data, bytearray(data), io.BytesIO(data), Pipe()):
        np.testing.assert_array_equal(load_audio(source), expected)  # type: ignore[arg-type]
    with path.open("rb") as handle:
        handle.read(7)
        np.testing.assert_array_equal(load_audio(handle), expected)
        assert not handle.closed


@settings(max_examples=25, deadline=None)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 16_001, 44_100, 192_000]),
    samples=st.integers(1, 60_000),
    block=st.integers(1, 30_000),
)
def test_blocks_of_any_size_join_to_the_whole(rate_hz: int, samples: int, block: int) -> None:
    source = (noise(samples), rate_hz)
    whole = load_audio(source)
    blocks = list(read_blocks(source, block_s=max(block, samples // 50) / 16_000))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert len({len(part) for part in blocks[:-1]}) <= 1
    assert abs(len(whole) - max(1, samples * 16_000 / rate_hz)) <= 1


@pytest.mark.parametrize(
    ("format", "subtype"), [("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]
)
def test_blocks_of_coded_files_join_to_the_whole(format: str, subtype: str | None) -> None:
    data = encoded(noise((480_000, 2)), 48_000, format, subtype)
    whole = load_audio(data, channel=1)
    for block_s in (0.7, 3.0, 100.0):
        np.testing.assert_array_equal(np.concatenate(list(read_blocks(data, 1, block_s=block_s))), whole)


def test_blocks_are_not_views_of_one_buffer() -> None:
    first, second = read_blocks(np.arange(32_000, dtype=np.float32) / 32_000, block_s=1.0)
    first[:] = 9.0
    assert second.max() < 1.0


@pytest.mark.parametrize("block_s", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_block_without_length_is_an_error_at_once(block_s: float) -> None:
    with pytest.raises(AudioError, match="block_s"):
        read_blocks(np.zeros(10, np.float32), block_s=block_s)


def test_an_array_is_never_changed_nor_returned_itself() -> None:
    wave = noise(100)
    kept = wave.copy()
    load_audio(wave)[:] = 0
    next(read_blocks(wave))[:] = 0
    np.testing.assert_array_equal(wave, kept)


@settings(max_examples=40, deadline=None)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 16_001, 44_100, 48_000]),
    start=st.integers(0, 31_000),
    length=st.integers(1, 40_000),
)
def test_a_part_equals_the_same_samples_of_the_whole(rate_hz: int, start: int, length: int) -> None:
    source = (noise(2 * rate_hz), rate_hz)
    whole = load_audio(source)
    part = load_audio(source, start_s=start / 16_000, end_s=(start + length) / 16_000)
    expected = whole[start : start + length]
    assert len(part) == len(expected)
    assert np.abs(part - expected).max() < (1e-12 if rate_hz == 16_000 else 1e-5)


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)]
)
def test_a_part_of_a_file_equals_the_same_samples_of_the_whole(format: str, subtype: str | None) -> None:
    data = encoded(noise(441_000), 44_100, format, subtype)
    whole = load_audio(data)
    np.testing.assert_allclose(load_audio(data, start_s=4.5, end_s=5.25), whole[72_000:84_000], atol=1e-4)
    np.testing.assert_allclose(load_audio(data, start_s=9.0), whole[144_000:], atol=1e-4)


def test_an_end_behind_the_recording_means_its_end() -> None:
    wave = noise(1_600)
    np.testing.assert_array_equal(load_audio(wave, start_s=0.05, end_s=99.0), wave[800:])


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [
        (0.1, None),
        (5.0, 6.0),
        (-0.1, None),
        (float("nan"), None),
        (0.05, 0.05),
        (0.05, 0.01),
        (0.0, float("nan")),
    ],
)
def test_a_part_that_is_not_there_is_an_error(start_s: float, end_s: float | None) -> None:
    with pytest.raises(AudioError, match=r"start|end"):
        load_audio(noise(1_600), start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_one_sample_gives_one_sample_at_least(rate_hz: int) -> None:
    loaded = load_audio((np.full(1, 0.5, np.float32), rate_hz))
    assert len(loaded) >= 1
    assert np.isfinite(loaded).all()


@pytest.mark.parametrize("rate_hz", [0, -1, 10, 10**9, 7.5, "16000", True, None])
def test_a_rate_that_no_recording_has_is_an_error(rate_hz: object) -> None:
    with pytest.raises(AudioError, match="rate"):
        load_audio((noise(100), rate_hz))  # type: ignore[arg-type]


def test_clipped_and_silent_recordings_load() -> None:
    clipped = np.clip(4 * tone(200, 0.5, 16_000), -1, 1)
    np.testing.assert_allclose(load_audio(encoded(clipped, 16_000, "WAV")), clipped, atol=1e-4)
    assert not load_audio(encoded(np.zeros(800, np.float32), 16_000, "FLAC")).any()


def test_probe_reads_the_header_only(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise((12_000, 2)), 8_000, subtype="PCM_16")
    assert probe(path) == AudioInfo(1.5, 8_000, 2, "WAV/PCM_16")
    assert probe(path.read_bytes()) == probe(path)


def test_digest_is_that_of_the_bytes_whatever_the_name(tmp_path: Path) -> None:
    import hashlib

    data = encoded(noise(100), 16_000, "WAV")
    (tmp_path / "a.wav").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert (
        audio_digest(tmp_path / "a.wav") == audio_digest(data) == audio_digest(io.BytesIO(data)) == expected
    )
    wave = noise(100)
    assert audio_digest(wave) == audio_digest((wave.copy(), 16_000)) != audio_digest((wave, 8_000))


def test_shared_recordings_load_as_they_are(shared: Path) -> None:
    path = next((shared / "data" / "emodb-4class").rglob("*.opus"))
    expected, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == 16_000
    np.testing.assert_array_equal(load_audio(path), expected)
