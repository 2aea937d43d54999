"""What a caller may hand over as a recording, turned into one of two things: a file or an array of samples.

Here a source gets the name that errors call it by. Decoding is left to `subtone.audio.decode`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from subtone.errors import AudioError

SAMPLE_RATE_HZ = 16_000
"""The one rate that all rooms above work at."""

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 1_536_000

AudioSource: TypeAlias = str | Path | bytes | BinaryIO | npt.NDArray[Any] | tuple[npt.NDArray[Any], int]
Channel: TypeAlias = Literal["mix"] | int


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's header says.

    Attributes
    ----------
    duration_s
        Length in seconds; None where the header does not tell. MP3 without a length tag: an estimate.
    sample_rate_hz
        Rate of the recording itself, before resampling.
    channels
        Number of channels.
    format
        Container and codec, e.g. ``"WAV/PCM_16"`` or ``"mp4/aac"``; ``"array"`` for samples in memory.
    """

    duration_s: float | None
    sample_rate_hz: int
    channels: int
    format: str


@dataclass(frozen=True)
class File:
    """An encoded recording: a path, or a seekable binary stream that is read from its start."""

    name: str
    path: Path | None
    stream: BinaryIO | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open for reading from the first byte; a caller's own stream stays open afterwards."""
        if self.stream is not None:
            self.stream.seek(0)
            yield self.stream
            return
        assert self.path is not None
        try:
            handle = self.path.open("rb")
        except OSError as error:
            raise AudioError(f"{self.name}: cannot be opened ({_reason(error)})") from error
        with handle:
            yield handle

    def head(self, count: int) -> bytes:
        """Return the first ``count`` bytes (fewer if the file is shorter)."""
        with self.open() as handle:
            return handle.read(count)

    def size(self) -> int:
        """Return the number of bytes."""
        with self.open() as handle:
            return handle.seek(0, os.SEEK_END)


@dataclass(frozen=True)
class Samples:
    """A recording in memory: ``values (samples, channels)`` of the caller's dtype at ``rate_hz``."""

    name: str
    values: npt.NDArray[Any]
    rate_hz: int


def resolve(source: AudioSource) -> File | Samples:
    """Tell a file from samples, and refuse what is neither, with the reason.

    Raises
    ------
    AudioError
        Missing, directory, unreadable, empty, or not a kind of source that Subtone knows.
    """
    if isinstance(source, np.ndarray):
        return _samples(source, SAMPLE_RATE_HZ)
    if isinstance(source, tuple):
        if len(source) != 2 or not isinstance(source[0], np.ndarray):
            raise AudioError("a tuple source must be (samples as np.ndarray, sample rate in Hz)")
        return _samples(source[0], source[1])
    if isinstance(source, (str, os.PathLike)):
        return _file(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _stream(io.BytesIO(bytes(source)), "<bytes>")
    if hasattr(source, "read"):
        return _stream(source, f"<{getattr(source, 'name', type(source).__name__)}>")
    raise AudioError(
        f"cannot read audio from a {type(source).__name__}; give a path, bytes, an open binary file, "
        "a np.ndarray at 16 kHz or (np.ndarray, rate_hz)"
    )


def _file(path: Path) -> File:
    name = str(path)
    if "\0" in name or not name:
        raise AudioError(f"{name!r} is not a valid path")
    try:
        if path.is_dir():
            raise AudioError(f"{name}: is a directory, not a recording; name the files in it")
        if not path.exists():
            hint = "; the link points nowhere" if path.is_symlink() else ""
            raise AudioError(f"{name}: no such file{hint}")
        if not path.is_file():
            raise AudioError(f"{name}: is no regular file; read it yourself and pass its bytes")
        with path.open("rb") as handle:
            empty = not handle.read(1)
    except OSError as error:
        raise AudioError(f"{name}: cannot be opened ({_reason(error)})") from error
    if empty:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    return File(name, path)


def _stream(stream: Any, name: str) -> File:
    if isinstance(stream, io.TextIOBase):
        raise AudioError(f"{name}: is open in text mode; open it with mode 'rb'")
    try:
        seekable = bool(stream.seekable())
    except AttributeError:
        seekable = hasattr(stream, "seek") and hasattr(stream, "tell")
    except ValueError as error:
        raise AudioError(f"{name}: cannot be read ({error})") from error
    try:
        if not seekable:  # A pipe or a socket: the decoders need to go back, so it is held in memory.
            stream = io.BytesIO(stream.read())
        stream.seek(0)
        empty = not stream.read(1)
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be read ({error})") from error
    if empty:
        raise AudioError(f"{name}: is empty (0 bytes)")
    return File(name, None, stream)


def _samples(values: npt.NDArray[Any], rate_hz: int) -> Samples:
    name = f"<array {values.shape} {values.dtype}>"
    if isinstance(rate_hz, (bool, np.bool_)) or not isinstance(rate_hz, (int, np.integer)):
        if not isinstance(rate_hz, (float, np.floating)) or not float(rate_hz).is_integer():
            raise AudioError(f"{name}: the sample rate must be a whole number of Hz, got {rate_hz!r}")
        rate_hz = int(rate_hz)
    check_rate(int(rate_hz), name)
    if values.ndim not in (1, 2):
        raise AudioError(f"{name}: must be (samples,), (channels, samples) or (samples, channels)")
    if values.size == 0:
        raise AudioError(f"{name}: holds no samples")
    kinds = {"f": (2, 4, 8, 16), "i": (1, 2, 4), "u": (1,)}
    if values.dtype.itemsize not in kinds.get(values.dtype.kind, ()):
        raise AudioError(
            f"{name}: samples must be float in [-1, 1], or int8, int16, int32 or uint8 in full scale; "
            "convert them first"
        )
    if values.ndim == 1:
        values = values[:, None]  # (samples, 1)
    elif values.shape[0] <= values.shape[1]:
        values = values.T  # (channels, samples) -> (samples, channels)
    return Samples(name, values, int(rate_hz))


def check_rate(rate_hz: int, name: str) -> None:
    """Refuse a sample rate that no recording of speech has."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioError(f"{name}: sample rate {rate_hz} Hz is not within {MIN_RATE_HZ}–{MAX_RATE_HZ} Hz")


def check_channel(channel: Channel) -> None:
    """Refuse what is neither ``"mix"`` nor a channel number from 0."""
    if channel == "mix":
        return
    if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)) or channel < 0:
        raise AudioError(f"channel must be 'mix' or a channel number from 0, got {channel!r}")


def full_scale(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Bring samples of any sample format to float32 in [-1, 1]; floats are kept as they are.

    >>> full_scale(np.array([-32768, 16384], dtype=np.int16))
    array([-1. ,  0.5], dtype=float32)
    """
    if values.dtype.kind == "u":
        return (values.astype(np.float32) - 128.0) / np.float32(128.0)
    if values.dtype.kind == "i":
        # int32 does not fit float32 exactly: divide in float64 and round once.
        return (values / float(1 << (8 * values.dtype.itemsize - 1))).astype(np.float32)
    with np.errstate(over="ignore"):  # Too large for float32 becomes inf, which the finite check names.
        return values.astype(np.float32, copy=False)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
