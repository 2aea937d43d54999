"""One door to the decoders: libsndfile first, FFmpeg (PyAV) for what it refuses, arrays as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from subtone.audio.reader import Chunk, Reader, Refused, chunk_length
from subtone.audio.sndfile import SndfileReader
from subtone.audio.source import AudioInfo, File, Samples, check_rate, full_scale
from subtone.errors import AudioError

_MAGIC = {
    b"fLaC": "FLAC",
    b"RIFF": "WAV",
    b"RIFX": "WAV",
    b"RF64": "WAV",
    b"OggS": "Ogg",
    b"FORM": "AIFF",
    b"ID3": "MP3",
    b"\x1aE\xdf\xa3": "WebM/Matroska",
    b"#!AMR": "AMR",
}


class ArrayReader:
    """Samples in memory, read like a file."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        values = samples.values
        self.info = AudioInfo(len(values) / samples.rate_hz, samples.rate_hz, values.shape[1], "array")

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        values = self._samples.values
        end = len(values) if stop is None else min(stop, len(values))
        step = chunk_length(values.shape[1])
        for begin in range(start, end, step):
            yield full_scale(values[begin : min(begin + step, end)])  # (samples, channels)


@contextlib.contextmanager
def open_reader(source: File | Samples) -> Iterator[Reader]:
    """Open a recording with the decoder that knows it.

    Raises
    ------
    AudioError
        When no decoder does, with the likeliest reason.
    """
    if isinstance(source, Samples):
        yield ArrayReader(source)
        return
    with contextlib.ExitStack() as stack:
        reader = _open_file(source, stack)
        if reader.info.channels < 1:
            raise AudioError(f"{source.name}: holds no audio channel")
        check_rate(reader.info.sample_rate_hz, source.name)
        yield reader


def _open_file(file: File, stack: contextlib.ExitStack) -> Reader:
    try:
        return stack.enter_context(SndfileReader.open(file))
    except Refused:
        pass
    head = file.head(512)
    if _is_text(head):
        raise AudioError(f"{file.name}: holds text, not audio, whatever its name says")
    # Imported only now: most recordings never need FFmpeg, and its libraries take a while to load.
    from subtone.audio.ffmpeg import FfmpegReader

    try:
        return stack.enter_context(FfmpegReader.open(file))
    except Refused as refusal:
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        if kind is not None:
            why = f"starts like {kind} but cannot be decoded: damaged, or cut off in its header"
        elif file.path is not None and file.path.suffix.lower() in (".raw", ".pcm"):
            why = "looks like raw samples without a header; read them yourself and pass (array, rate_hz)"
        else:
            why = "is no audio that libsndfile or FFmpeg can read"
        raise AudioError(f"{file.name}: {why} ({refusal})") from refusal


def _is_text(head: bytes) -> bool:
    if head.startswith((b"#!AMR", b"ID3")):
        return False
    for cut in range(4):  # The last character may be cut in two.
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return bool(text) and all(character.isprintable() or character in "\t\r\n\f﻿" for character in text)
    return False
