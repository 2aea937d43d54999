"""m4a, mp4, webm, amr, wma and whatever else libsndfile refuses, through FFmpeg's libraries (PyAV)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import av
import av.error
import numpy as np

from subtone.audio.reader import Chunk, Refused, broken
from subtone.audio.source import AudioInfo, File, full_scale
from subtone.errors import AudioError

# Only containers that hold their own samples: playlists and lists of files (hls, concat, …) would let a
# downloaded "recording" open addresses and files of its choice.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,amr,aac,mp3,asf,avi,flv,mpegts,mpeg,ogg,flac,wav,w64,aiff,caf,au,"
    "ac3,eac3,dts,ape,wv,tta,mpc,mpc8,gsm,voc,rm,mxf,nut"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file,pipe"}
# These have no signature, only sync words that random bytes may hold too.
_SYNC_ONLY = ("aac", "mp3")
_SLACK_S = 0.5  # Between a track's declared end and its last frame.


class FfmpegReader:
    """The first audio stream of a container that FFmpeg has opened."""

    def __init__(self, file: File, container: Any, stream: Any) -> None:
        self._name = file.name
        self._container = container
        self._stream = stream
        self._declared_s = _declared_s(container, stream)
        duration_s = self._declared_s
        if duration_s is None and container.duration:
            duration_s = container.duration / 1e6
        codec = stream.codec_context
        self.info = AudioInfo(
            duration_s, int(codec.sample_rate), int(codec.channels), f"{container.format.name}/{codec.name}"
        )

    @classmethod
    @contextlib.contextmanager
    def open(cls, file: File) -> Iterator[FfmpegReader]:
        """Open ``file``; raises `Refused` for an unknown format, `AudioError` without a sound track."""
        head = file.head(3)
        with file.open() as handle:
            try:
                container = av.open(handle, mode="r", options=_OPTIONS, metadata_errors="replace")
            except (av.error.FFmpegError, ValueError) as error:
                raise Refused(getattr(error, "strerror", None) or str(error)) from error
            with container:
                synced = head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)
                if container.format.name in _SYNC_ONLY and not synced:
                    raise Refused("no known signature")
                if not container.streams.audio:
                    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
                    raise AudioError(f"{file.name}: has no audio stream, only {kinds}")
                stream = container.streams.audio[0]
                if stream.codec_context is None:
                    raise AudioError(f"{file.name}: its audio codec is not in this build of FFmpeg")
                yield cls(file, container, stream)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `subtone.audio.reader.Reader.chunks`.

        Reads from the beginning whatever ``start`` is: going to a place is not exact for most of these
        codecs.
        """
        rate, channels = self.info.sample_rate_hz, self.info.channels
        position, reached_s = 0, 0.0
        frames = iter(self._container.decode(self._stream))
        while stop is None or position < stop:
            try:
                frame = next(frames)
            except StopIteration:
                break
            except (av.error.FFmpegError, ValueError) as error:
                why = f"FFmpeg: {getattr(error, 'strerror', None) or error}"
                raise broken(self._name, position / rate, self._declared_s, why) from error
            if frame.sample_rate != rate or frame.layout.nb_channels != channels:
                raise AudioError(
                    f"{self._name}: changes from {channels} channel(s) at {rate} Hz to "
                    f"{frame.layout.nb_channels} at {frame.sample_rate} Hz after {position / rate:.2f} s; "
                    "convert it to one format first"
                )
            chunk = _frame_samples(frame, channels)  # (samples, channels)
            if frame.time is not None:
                reached_s = frame.time + len(chunk) / rate
            begin, end = max(0, start - position), len(chunk) if stop is None else stop - position
            position += len(chunk)
            if begin < min(end, len(chunk)):
                yield chunk[begin:end]
        else:
            return
        reached_s = max(reached_s, position / rate)
        if self._declared_s is not None and reached_s < self._declared_s - _SLACK_S:
            raise broken(self._name, reached_s, self._declared_s, "the container ends early")


def _frame_samples(frame: Any, channels: int) -> Chunk:
    values = frame.to_ndarray()  # planar: (channels, samples); packed: (1, samples * channels)
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)  # (samples, channels)
    return full_scale(np.ascontiguousarray(values))


def _declared_s(container: Any, stream: Any) -> float | None:
    """Return where the sound track ends by the container's own tables; None where FFmpeg can only guess."""
    name = container.format.name
    if name.startswith("mov") and stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    tag = stream.metadata.get("DURATION") if name.startswith("matroska") else None
    if tag:
        with contextlib.suppress(ValueError):
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None
