"""Chunks of a recording to 16 kHz mono: channel choice, a check for NaN, streaming resampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

from subtone.audio.reader import Chunk
from subtone.audio.source import SAMPLE_RATE_HZ, Channel
from subtone.errors import AudioError


def to_mono(
    chunks: Iterable[Chunk], channel: Channel, *, name: str, rate_hz: int, first: int = 0
) -> Iterator[npt.NDArray[np.float32]]:
    """Pick one channel, or take the mean over all, and refuse samples that are no number.

    Parameters
    ----------
    chunks
        ``(samples, channels)`` each.
    channel
        ``"mix"`` or a channel number from 0.
    name, rate_hz, first
        For the error: the recording, its rate, and the native index of the first sample.

    Yields
    ------
    ``(samples,)`` float32.

    Raises
    ------
    AudioError
        At the first NaN or infinite sample, with its position.
    """
    for chunk in chunks:
        if channel == "mix" and chunk.shape[1] > 1:
            with np.errstate(invalid="ignore", over="ignore"):  # inf - inf; reported below.
                mono = chunk.mean(axis=1, dtype=np.float32)  # (samples,)
        else:
            mono = np.ascontiguousarray(chunk[:, 0 if channel == "mix" else channel])  # (samples,)
        finite = np.isfinite(mono)
        if not finite.all():
            at = first + int(np.argmin(finite))
            raise AudioError(
                f"{name}: holds NaN or infinite samples, first at {at / rate_hz:.3f} s (sample {at}); "
                "repair or export the recording again"
            )
        first += len(mono)
        yield mono


def to_16_khz(waves: Iterable[npt.NDArray[np.float32]], rate_hz: int) -> Iterator[npt.NDArray[np.float32]]:
    """Resample a stream with soxr (quality HQ); how it is cut into pieces does not change the result.

    A recording of too few samples to make one at 16 kHz gives one sample, its mean.
    """
    if rate_hz == SAMPLE_RATE_HZ:
        yield from waves
        return
    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    taken = given = 0
    total = 0.0
    for wave in waves:
        taken += len(wave)
        if not given:
            total += float(wave.sum(dtype=np.float64))
        out = stream.resample_chunk(wave)
        given += len(out)
        if len(out):
            yield out
    if not taken:
        return
    out = stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    if len(out):
        yield out
    elif not given:
        yield np.array([total / taken], dtype=np.float32)
