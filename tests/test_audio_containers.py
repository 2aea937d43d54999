"""m4a, mp4, webm, amr and other containers that libsndfile refuses, made here with FFmpeg's own encoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from subtone.audio import load_audio, probe, read_blocks
from subtone.errors import AudioError

# name: (suffix of the file, FFmpeg's name of the encoder, rate in Hz, channels)
KINDS = {
    "m4a": ("m4a", "aac", 44_100, 2),
    "mp4": ("mp4", "aac", 48_000, 2),
    "alac": ("m4a", "alac", 48_000, 2),
    "adts": ("aac", "aac", 44_100, 2),
    "webm": ("webm", "libopus", 48_000, 2),
    "mkv": ("mkv", "flac", 48_000, 2),
    "wma": ("wma", "wmav2", 44_100, 2),
    "amr": ("amr", "libopencore_amrnb", 8_000, 1),
    "3gp": ("3gp", "libopencore_amrnb", 8_000, 1),
    "mp3": ("mp3", "libmp3lame", 44_100, 2),
    "opus": ("opus", "libopus", 48_000, 2),
    "avi": ("avi", "pcm_s16le", 22_050, 2),
}


def available(codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except Exception:
        return False
    return True


def make(path: Path, kind: str, seconds: float = 3.0, video: str | None = None) -> npt.NDArray[np.float32]:
    """Write 440 Hz left and 880 Hz right; returns what was written, ``(channels, samples)``."""
    _, codec, rate_hz, channels = KINDS[kind]
    if not available(codec):
        pytest.skip(f"this build of PyAV has no encoder {codec!r}")
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = np.stack([0.4 * np.sin(2 * np.pi * hz * times) for hz in (440, 880)[:channels]]).astype(np.float32)
    layout = {1: "mono", 2: "stereo"}[channels]
    options = {"movflags": "faststart"} if path.suffix in (".m4a", ".mp4") else {}
    with av.open(str(path), "w", options=options) as container:
        picture = None
        if video is not None:
            picture = container.add_stream(video, rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        stream.bit_rate = 12_200 if codec == "libopencore_amrnb" else 256_000
        resampler = av.AudioResampler(
            stream.format.name, layout, rate_hz, stream.codec_context.frame_size or 1024
        )
        if picture is not None:
            for index in range(int(seconds * 10)):
                image = av.VideoFrame.from_ndarray(
                    np.full((48, 64, 3), index % 256, np.uint8), format="rgb24"
                )
                image.pts, image.time_base = index, Fraction(1, 10)
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return wave


def pitch_hz(wave: npt.NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.fft.rfftfreq(len(wave), 1 / 16_000)[spectrum.argmax()])


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_is_read_with_its_length_level_and_channels(tmp_path: Path, kind: str) -> None:
    suffix, codec, rate_hz, channels = KINDS[kind]
    path = tmp_path / f"tone.{suffix}"
    make(path, kind)
    mix = load_audio(path)
    assert mix.dtype == np.float32
    assert len(mix) / 16_000 == pytest.approx(3.0, abs=0.12)
    left = load_audio(path, channel=0)
    assert pitch_hz(left) == pytest.approx(440, abs=2)
    rms = float(np.sqrt(np.mean(left[8_000:40_000] ** 2)))  # not the peak: codecs add short ones of their own
    # AMR models a voice, and renders a pure tone a fifth too low.
    assert rms == pytest.approx(0.4 / np.sqrt(2), rel=0.25 if "amr" in codec else 0.05)
    if channels == 2:
        assert pitch_hz(load_audio(path, channel=1)) == pytest.approx(880, abs=2)
    assert probe(path).sample_rate_hz == rate_hz
    assert probe(path).channels == channels
    np.testing.assert_array_equal(load_audio(path.read_bytes()), mix)
    with path.open("rb") as handle:
        np.testing.assert_array_equal(load_audio(handle), mix)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, block_s=0.9))), mix)
    np.testing.assert_allclose(load_audio(path, start_s=1.0, end_s=2.0), mix[16_000:32_000], atol=1e-4)


@pytest.mark.parametrize("kind", ["m4a", "webm", "amr"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, kind: str) -> None:
    right = tmp_path / f"tone.{KINDS[kind][0]}"
    make(right, kind)
    wrong = tmp_path / "tone.wav"
    wrong.write_bytes(right.read_bytes())
    np.testing.assert_array_equal(load_audio(wrong), load_audio(right))


@pytest.mark.parametrize(("kind", "video"), [("mp4", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4")])
def test_the_sound_of_a_video_is_read(tmp_path: Path, kind: str, video: str) -> None:
    if not available(video):
        pytest.skip(f"this build of PyAV has no encoder {video!r}")
    path = tmp_path / f"film.{KINDS[kind][0]}"
    make(path, kind, video=video)
    assert pitch_hz(load_audio(path, channel=0)) == pytest.approx(440, abs=2)


def test_a_video_without_sound_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"))
            )
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match=r"silent\.mp4: has no audio stream, only video"):
        load_audio(path)


@pytest.mark.parametrize("kind", ["m4a", "mp4", "webm", "mkv"])
def test_a_truncated_container_says_where_it_breaks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"tone.{KINDS[kind][0]}"
    make(path, kind, seconds=6.0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"breaks off: decodes to [1-4]\.\d\d s of 6\.\d\d s"):
        load_audio(path)
    assert len(load_audio(path, end_s=1.0)) == 16_000


def test_an_m4a_whose_tables_are_lost_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tone.m4a"
    make(path, "m4a")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(AudioError, match=r"tone\.m4a"):
        load_audio(path)
