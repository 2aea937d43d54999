"""Recordings to 16 kHz mono float32, whole (`load_audio`) or in blocks (`read_blocks`), by one path."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Generator, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from subtone.audio.decode import open_reader
from subtone.audio.reader import Reader
from subtone.audio.resample import to_16_khz, to_mono
from subtone.audio.source import (
    SAMPLE_RATE_HZ,
    AudioInfo,
    AudioSource,
    Channel,
    File,
    Samples,
    check_channel,
    resolve,
)
from subtone.errors import AudioError

_MARGIN = SAMPLE_RATE_HZ // 4  # Samples at 16 kHz around a cut: far longer than the resampler's filter.


def load_audio(
    source: AudioSource, channel: Channel = "mix", *, start_s: float = 0.0, end_s: float | None = None
) -> npt.NDArray[np.float32]:
    """Read any recording as 16 kHz mono float32.

    WAV, FLAC, Ogg Vorbis, Opus, MP3 and AIFF are read by libsndfile; m4a, mp4, webm, amr and the rest, videos
    with sound included, by FFmpeg. Other rates are resampled by soxr (quality HQ). Levels are kept: nothing
    is normalised, and float recordings beyond [-1, 1] stay so.

    Parameters
    ----------
    source
        A path, the bytes of a file, an open binary file (read from its start), samples at 16 kHz as an array,
        or ``(array, rate_hz)``. Arrays are ``(samples,)``, ``(channels, samples)`` or, when the first axis is
        the longer one, ``(samples, channels)``. Floats are in [-1, 1]; int8, int16, int32 and uint8 are in
        full scale.
    channel
        ``"mix"`` for the mean over all channels, or the number of one channel, from 0: the two parties of a
        call are often channels 0 and 1.
    start_s, end_s
        Part of the recording in seconds, by default all of it. Equals the same samples of the whole (to
        rounding, 1e-5, where the rate is not 16 kHz). An end behind the recording's means its end.

    Returns
    -------
    ``(samples,)`` float32 at 16 kHz, at least one sample. 10 hours take 2.3 GB: use `read_blocks` for those.

    Raises
    ------
    AudioError
        Missing, unreadable, empty or broken file, no audio in it, NaN or infinite samples, no such channel,
        or a start behind the end.

    Examples
    --------
    >>> stereo = np.array([[16384, 16384], [0, 16384]], dtype=np.int16)
    >>> load_audio((stereo, 16_000))
    array([0.25, 0.5 ], dtype=float32)
    >>> load_audio((stereo, 16_000), channel=0)
    array([0.5, 0.5], dtype=float32)
    """
    resolved = resolve(source)
    first, last = check_span(start_s, end_s, resolved.name)
    check_channel(channel)
    with open_reader(resolved) as reader:
        duration_s = reader.info.duration_s
        expected = None if duration_s is None else math.ceil(duration_s * SAMPLE_RATE_HZ) + 16
        if last is not None:
            expected = last if expected is None else min(last, expected)
        pieces = _waves(resolved, reader, channel, first, last)
        return _join(pieces, 0 if expected is None else max(0, expected - first))


def read_blocks(
    source: AudioSource, channel: Channel = "mix", *, block_s: float = 60.0
) -> Iterator[npt.NDArray[np.float32]]:
    """Read a recording of any length in blocks; joined, they equal `load_audio` exactly, whatever their size.

    Parameters
    ----------
    source, channel
        See `load_audio`.
    block_s
        Length of a block in seconds; all blocks but the last have it.

    Returns
    -------
    An iterator over ``(samples,)`` float32 at 16 kHz. Memory is that of about one block.

    Raises
    ------
    AudioError
        As in `load_audio`. What is wrong with the source itself is raised at once, damage further in when the
        reading gets there.

    Examples
    --------
    >>> [len(block) for block in read_blocks(np.zeros(40_000, dtype=np.float32), block_s=1.0)]
    [16000, 16000, 8000]
    """
    resolved = resolve(source)
    check_channel(channel)
    if not (math.isfinite(block_s) and round(block_s * SAMPLE_RATE_HZ) >= 1):
        raise AudioError(f"block_s must be at least one sample (1/16000 s), got {block_s!r}")
    return _blocks(resolved, channel, round(block_s * SAMPLE_RATE_HZ))


def probe(source: AudioSource) -> AudioInfo:
    """Return duration, rate, channels and format from the header, without decoding.

    Raises
    ------
    AudioError
        When the source is no recording. Damage behind the header is not noticed.

    Examples
    --------
    >>> probe((np.zeros((2, 8_000), dtype=np.float32), 8_000))
    AudioInfo(duration_s=1.0, sample_rate_hz=8000, channels=2, format='array')
    """
    with open_reader(resolve(source)) as reader:
        return reader.info


def audio_digest(source: AudioSource) -> str:
    """Return the SHA-256 (hex) of a recording's bytes: its address by content, whatever its name.

    Samples in memory are addressed by their values, dtype, shape and rate.
    """
    resolved = resolve(source)
    if isinstance(resolved, Samples):
        values = np.ascontiguousarray(resolved.values)
        digest = hashlib.sha256(f"{values.dtype.str} {values.shape} {resolved.rate_hz}\n".encode())
        digest.update(values.data if values.size else b"")
        return digest.hexdigest()
    with resolved.open() as handle:
        digest = hashlib.sha256()
        try:
            while data := handle.read(1 << 20):
                digest.update(data)
        except OSError as error:
            raise AudioError(f"{resolved.name}: cannot be read ({error.strerror or error})") from error
        return digest.hexdigest()


def check_span(start_s: float, end_s: float | None, name: str) -> tuple[int, int | None]:
    """Return a part's first sample and the one behind its last (None: the end), or raise `AudioError`."""
    if not (math.isfinite(start_s) and start_s >= 0):
        raise AudioError(f"{name}: start_s must be 0 or more seconds, got {start_s!r}")
    first = round(start_s * SAMPLE_RATE_HZ)
    if end_s is None:
        return first, None
    if math.isnan(end_s) or (end_s != math.inf and round(end_s * SAMPLE_RATE_HZ) <= first):
        raise AudioError(f"{name}: end_s ({end_s!r}) must lie behind start_s ({start_s!r})")
    return first, None if end_s == math.inf else round(end_s * SAMPLE_RATE_HZ)


def _waves(
    source: File | Samples, reader: Reader, channel: Channel, first: int, last: int | None
) -> Generator[npt.NDArray[np.float32], None, None]:
    """Yield the samples ``[first, last)`` at 16 kHz."""
    rate, channels = reader.info.sample_rate_hz, reader.info.channels
    if channel != "mix" and channel >= channels:
        raise AudioError(
            f"{source.name}: channel {channel} was asked for, but the recording has {channels} channel(s) "
            f"(numbered from 0); choose one of them or 'mix'"
        )
    # Cuts at other rates start on a sample that both rates share, some way ahead, so that the resampler sees
    # the same phase and the same neighbours as in the whole recording.
    common = math.gcd(rate, SAMPLE_RATE_HZ)
    margin = 0 if rate == SAMPLE_RATE_HZ else _MARGIN
    steps = max(0, first - margin) // (SAMPLE_RATE_HZ // common)
    start = steps * (rate // common)
    skip = first - steps * (SAMPLE_RATE_HZ // common)
    stop = None if last is None else -(-(last + margin) * rate // SAMPLE_RATE_HZ)
    wanted = None if last is None else last - first
    mono = to_mono(reader.chunks(start, stop), channel, name=source.name, rate_hz=rate, first=start)
    given = 0
    for wave in to_16_khz(mono, rate):
        if skip:
            dropped = min(skip, len(wave))
            skip, wave = skip - dropped, wave[dropped:]
        if wanted is not None:
            wave = wave[: wanted - given]
        if len(wave):
            given += len(wave)
            yield wave
    if not given:
        if first:
            raise AudioError(
                f"{source.name}: start {first / SAMPLE_RATE_HZ:.3f} s lies behind the recording's end"
            )
        raise AudioError(f"{source.name}: holds no samples")


def _join(pieces: Iterator[npt.NDArray[np.float32]], expected: int) -> npt.NDArray[np.float32]:
    """Join pieces into one array, allocated once when the header's length was right."""
    wave = np.empty(min(expected, 1 << 34), dtype=np.float32)
    filled = 0
    for piece in pieces:
        if filled + len(piece) > len(wave):
            grown = np.empty(max(2 * len(wave), filled + len(piece)), dtype=np.float32)
            grown[:filled] = wave[:filled]
            wave = grown
        wave[filled : filled + len(piece)] = piece
        filled += len(piece)
    return wave[:filled] if len(wave) - filled <= max(1024, filled // 8) else wave[:filled].copy()


def _blocks(source: File | Samples, channel: Channel, length: int) -> Iterator[npt.NDArray[np.float32]]:
    with open_reader(source) as reader, contextlib.closing(_waves(source, reader, channel, 0, None)) as waves:
        yield from regroup(waves, length)


def regroup(waves: Iterable[npt.NDArray[np.float32]], length: int) -> Iterator[npt.NDArray[np.float32]]:
    """Cut a stream of pieces anew, into pieces of ``length`` samples and a shorter last one.

    >>> [len(piece) for piece in regroup(iter([np.zeros(5), np.zeros(4)]), 3)]
    [3, 3, 3]
    """
    held: list[npt.NDArray[np.float32]] = []
    count = 0
    for wave in waves:
        at = 0
        while count + len(wave) - at >= length:
            taken = length - count
            held.append(wave[at : at + taken])
            yield held[0].copy() if len(held) == 1 else np.concatenate(held)
            held, count, at = [], 0, at + taken
        if at < len(wave):
            held.append(wave[at:])
            count += len(wave) - at
    if held:
        yield np.concatenate(held)
