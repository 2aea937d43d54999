"""WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF and kin through libsndfile, with an eye on cut recordings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

import soundfile

from subtone.audio.integrity import Damage, has_samples_behind_empty_data, look_for_damage
from subtone.audio.reader import Chunk, Refused, broken, chunk_length
from subtone.audio.source import AudioInfo, File
from subtone.errors import AudioError

_ENDLESS = 1 << 56  # libsndfile's way to say "the header gives no length" is a count near 2**63.
_MP3_SLACK = 2 * 1152  # Some encoders count their own information frame, some cut the last one.


class _Steady:
    """A stream for libsndfile's callbacks, where an exception could only be printed: it is kept for later."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.failure: Exception | None = None

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        # Damaged headers lead to places ahead of the file; staying put tells libsndfile that it failed.
        with contextlib.suppress(OSError, ValueError):
            self._stream.seek(offset, whence)
        return self._stream.tell()

    def read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except Exception as error:
            self.failure = error
            return b""


class SndfileReader:
    """A recording that libsndfile has opened."""

    def __init__(
        self, file: File, sound: soundfile.SoundFile, damage: Damage | None, steady: _Steady | None
    ) -> None:
        self._name = file.name
        self._file = file
        self._sound = sound
        self._damage = damage
        self._steady = steady
        frames: int | None = sound.frames
        if frames is not None and (frames >= _ENDLESS or frames < 0):
            frames = None
        self._frames = frames
        duration_s = None if frames is None else frames / sound.samplerate
        self.info = AudioInfo(duration_s, sound.samplerate, sound.channels, f"{sound.format}/{sound.subtype}")

    @classmethod
    @contextlib.contextmanager
    def open(cls, file: File) -> Iterator[SndfileReader]:
        """Open ``file``; raises `Refused` when libsndfile does not know the format."""
        if file.path is not None and file.path.suffix.lower() == ".raw":
            raise Refused("raw")  # soundfile would ask for the format of every file of this name.
        with contextlib.ExitStack() as stack:
            # Paths go to libsndfile as they are: reading through Python file objects is several times slower.
            target = str(file.path) if file.path is not None else _Steady(stack.enter_context(file.open()))
            try:
                sound = stack.enter_context(soundfile.SoundFile(target, mode="r"))
            except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
                raise Refused(str(getattr(error, "error_string", error)).strip(" .")) from error
            if sound.frames == 0 and sound.format in ("WAV", "WAVEX"):
                with file.open() as handle:
                    if has_samples_behind_empty_data(handle):
                        raise Refused("its header was never completed")  # FFmpeg reads such files to the end.
            if file.stream is None:
                with file.open() as handle:
                    damage = look_for_damage(handle, sound.format)
            else:  # libsndfile is in the middle of this very stream: leave it where it was.
                position = file.stream.tell()
                damage = look_for_damage(file.stream, sound.format)
                file.stream.seek(position)
            yield cls(file, sound, damage, target if isinstance(target, _Steady) else None)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """See `subtone.audio.reader.Reader.chunks`."""
        sound, position = self._sound, start
        if start:
            if self._frames is not None and start >= self._frames:
                return
            try:
                sound.seek(start)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise self._cut(start, f"cannot go to {start / sound.samplerate:.2f} s") from error
        step = chunk_length(sound.channels)
        while stop is None or position < stop:
            count = step if stop is None else min(step, stop - position)
            try:
                chunk = sound.read(count, dtype="float32", always_2d=True)  # (samples, channels)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise self._cut(
                    self._last_good(position, count), "the coded data ends or is damaged"
                ) from error
            if len(chunk) == 0:
                break
            position += len(chunk)
            yield chunk
        self._check_end(position, stop)

    def _check_end(self, position: int, stop: int | None) -> None:
        if self._steady is not None and self._steady.failure is not None:
            error = self._steady.failure
            raise AudioError(f"{self._name}: reading the stream failed ({error})") from error
        if stop is not None and position >= stop:
            return
        if self._damage is not None:
            raise self._cut(position, self._damage.why, self._damage.share)
        if self._frames is None or position >= self._frames:
            return
        if self._sound.format == "MP3":
            # Without a length tag the count is a guess from the bit rate, and proves nothing.
            with self._file.open() as handle:
                exact = has_length_tag(handle.read(1 << 16))
            if not exact or self._frames - position <= _MP3_SLACK:
                return
        raise self._cut(position, "the coded data ends early")

    def _cut(self, position: int, why: str, share: float | None = None) -> AudioError:
        rate = self._sound.samplerate
        declared_s = None if self._frames is None else self._frames / rate
        if share is not None and declared_s is not None:
            declared_s = declared_s / share if share > 0 else None
        elif self._damage is not None:
            declared_s = None
        return broken(self._name, position / rate, declared_s, why)

    def _last_good(self, position: int, count: int) -> int:
        """Return how far the recording decodes, by reading the failing chunk again in small steps."""
        reached = position
        with (
            contextlib.suppress(Refused, soundfile.LibsndfileError, RuntimeError),
            SndfileReader.open(self._file) as again,
        ):
            again._sound.seek(position)
            while reached < position + count and (got := len(again._sound.read(256, always_2d=True))):
                reached += got
        return reached


def has_length_tag(head: bytes) -> bool:
    """Tell whether an MP3 begins with a Xing/Info frame, which holds its exact length."""
    at = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at = 10 + size
    first = head[at : at + 4096]
    return b"Xing" in first or b"Info" in first
