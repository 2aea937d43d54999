"""Broken input: one clear error that names the file, or the defined answer; never silently a shorter clip."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from subtone.audio import audio_digest, load_audio, probe, read_blocks
from subtone.errors import AudioError


def coded(format: str, seconds: float = 4.0, rate_hz: int = 16_000) -> bytes:
    wave = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate_hz))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=format)
    return buffer.getvalue()


def one_line(error: pytest.ExceptionInfo[AudioError], name: str) -> None:
    message = str(error.value)
    assert name in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("reader", [load_audio, read_blocks, probe, audio_digest])
def test_what_is_no_file_is_named_at_once(tmp_path: Path, reader: object) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    for name, rule in [
        ("", "directory"),
        ("missing.wav", "no such file"),
        ("empty.wav", "empty"),
        ("gone.wav", "link"),
    ]:
        with pytest.raises(AudioError, match=rule) as error:
            reader(tmp_path / name)  # type: ignore[operator]
        one_line(error, name or tmp_path.name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "locked.wav"
    path.write_bytes(coded("WAV"))
    path.chmod(0)
    with pytest.raises(AudioError, match="permission denied") as error:
        load_audio(path)
    one_line(error, "locked.wav")


def test_a_file_that_fails_to_open_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.wav"
    path.write_bytes(coded("WAV"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match="permission denied") as error:
        load_audio(path)
    one_line(error, "locked.wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="no regular file"):
        load_audio(tmp_path / "pipe.wav")


@pytest.mark.parametrize("name", ["text.wav", "text.mp3", "text.m4a", "text.raw", "text"])
@pytest.mark.parametrize(
    "text",
    ["hello\n", "a,b\n1,2\n" * 500, "<!DOCTYPE html><p>Größe: 404 — not found</p>\n" * 50, "#EXTM3U\n"],
)
def test_text_is_called_text_whatever_its_name(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AudioError, match="text") as error:
        load_audio(path)
    one_line(error, name)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(coded("WAV"))
    playlist = tmp_path / "list.m4a"
    playlist.write_bytes(b"ffconcat version 1.0\nfile secret.wav\n\xff\xfe")
    with pytest.raises(AudioError):
        load_audio(playlist)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_no_audio(seed: int) -> None:
    with pytest.raises(AudioError):
        load_audio(np.random.default_rng(seed).bytes(5_000))


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"%PDF-1.7\n\xff", b"\x7fELF", b"\x00" * 64]
)
def test_other_binary_files_are_no_audio(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "other.wav"
    path.write_bytes(head + bytes(range(256)) * 8)
    with pytest.raises(AudioError) as error:
        load_audio(path)
    one_line(error, "other.wav")


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "MP3"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_says_where_it_breaks(tmp_path: Path, format: str, share: float) -> None:
    data = coded(format)
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: round(len(data) * share)])
    with pytest.raises(AudioError, match=r"breaks off: decodes to [0-3]\.\d\d s") as error:
        load_audio(path)
    one_line(error, "cut.bin")
    if format != "OGG":
        assert "of 4.00 s" in str(error.value)
    decoded_s = float(str(error.value).split("decodes to ")[1].split(" s")[0])
    # An Ogg page may hold more than a second, and decodes only when it is whole.
    assert 4.0 * share - (1.5 if format == "OGG" else 0.5) < decoded_s < 4.0 * share + 0.5
    with pytest.raises(AudioError, match="breaks off"):
        list(read_blocks(path, block_s=1.0))
    with pytest.raises(AudioError, match="breaks off"):
        load_audio(path.read_bytes())


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "MP3"])
@pytest.mark.parametrize("length", [4, 12, 20, 40])
def test_a_file_cut_in_its_header_is_an_error(format: str, length: int) -> None:
    with pytest.raises(AudioError):
        load_audio(coded(format)[:length])


def test_the_part_ahead_of_the_break_can_be_read() -> None:
    data = coded("FLAC")
    part = load_audio(data[: len(data) // 2], end_s=0.5)
    np.testing.assert_array_equal(part, load_audio(data)[:8_000])


def test_damage_inside_a_flac_is_an_error() -> None:
    data = bytearray(coded("FLAC"))
    middle = len(data) // 2
    data[middle : middle + 2_000] = bytes(2_000)
    with pytest.raises(AudioError, match="breaks off"):
        load_audio(bytes(data))


@pytest.mark.parametrize("declared", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_from_a_pipe_without_a_known_length_is_whole(declared: int) -> None:
    data = bytearray(coded("WAV"))
    data[40:44] = struct.pack("<I", declared)
    assert len(load_audio(bytes(data))) == 64_000


@pytest.mark.parametrize("format", ["WAV", "AIFF", "CAF"])
def test_a_file_of_no_samples_is_an_error(format: str) -> None:
    with pytest.raises(AudioError, match="no samples"):
        load_audio(coded(format, seconds=0.0))


def test_an_array_of_no_samples_is_an_error() -> None:
    for empty in (np.zeros(0), np.zeros((2, 0)), np.zeros((0, 2))):
        with pytest.raises(AudioError, match="no samples"):
            load_audio(empty)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples_are_named_with_their_place(tmp_path: Path, bad: float) -> None:
    wave = np.zeros((200_000, 2), np.float32)
    wave[150_000, 1] = bad
    path = tmp_path / "nan.wav"
    soundfile.write(path, wave, 48_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"first at 3\.125 s \(sample 150000\)") as error:
        load_audio(path)
    one_line(error, "nan.wav")
    assert not load_audio(path, channel=0).any()
    with pytest.raises(AudioError, match=r"sample 150000"):
        load_audio(path, start_s=3.0)
    with pytest.raises(AudioError, match="NaN"):
        load_audio(np.full(100, bad))


def test_a_value_too_large_for_float32_is_an_error() -> None:
    with pytest.raises(AudioError, match="infinite"):
        load_audio(np.array([0.0, 1e300]))


@pytest.mark.parametrize(
    "source", [None, 3, 1.5, [0.0, 1.0], {"a": 1}, (), (np.zeros(3),), ([0.0], 16_000), io.StringIO("x")]
)
def test_what_is_no_source_is_an_error(source: object) -> None:
    with pytest.raises(AudioError):
        load_audio(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["", "a\0b.wav", b"", io.BytesIO()])
def test_sources_of_nothing_are_errors(source: object) -> None:
    with pytest.raises(AudioError):
        load_audio(source)  # type: ignore[arg-type]


def test_a_closed_stream_is_an_error() -> None:
    stream = io.BytesIO(coded("WAV"))
    stream.close()
    with pytest.raises(AudioError):
        load_audio(stream)
