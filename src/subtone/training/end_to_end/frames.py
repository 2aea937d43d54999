"""The frames of clips under fixed upstreams, on disk and mapped into memory: what a downstream is trained on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.errors import TrainingError, is_out_of_memory
from subtone.extraction.backends import open_backend
from subtone.extraction.chunks import Chunk, cut_chunks
from subtone.extraction.chunks import plan as plan_chunks
from subtone.extraction.options import BackendName, Precision
from subtone.extraction.streams import Streams
from subtone.speech import SpeechSegments
from subtone.training.end_to_end.clips import DecodedClips
from subtone.training.end_to_end.network import Stream, StreamShape, shape_of, speech_of
from subtone.training.end_to_end.options import LayerChoice
from subtone.upstreams import Upstream
from subtone.upstreams.base import SAMPLE_RATE_HZ
from subtone.upstreams.clips import mask_of

OnClip = Callable[[int, int], None]
"""Told how many clips are encoded, and of how many."""


class Spoken(Protocol):
    """What knows where clips hold speech."""

    def speech(self, clip: int) -> SpeechSegments:
        """Return where a clip holds speech."""


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """The frames of clips.

    Parameters
    ----------
    shape
        Layers, width and grid.
    starts
        ``(clips + 1,)`` where the frames of each clip begin among all frames.
    frames
        ``(all frames, layers, dim)`` float32, memory-mapped, or in half precision.
    clips
        Whose frames these are.
    """

    shape: StreamShape
    starts: npt.NDArray[np.int64]
    frames: npt.NDArray[np.floating]
    clips: Spoken

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """``(clips,)`` frames of each clip."""
        return np.diff(self.starts)

    def read(self, rows: npt.NDArray[np.int64]) -> Stream:
        """Return the frames of some clips as a batch."""
        lengths = [int(n) for n in self.lengths[rows]]
        batch = np.zeros((len(rows), max(lengths), self.shape.layers, self.shape.dim), np.float32)
        for place, (row, length) in enumerate(zip(rows.tolist(), lengths, strict=True)):
            batch[place, :length] = self.frames[self.starts[row] : self.starts[row] + length]
        mask = mask_of(lengths, torch.device("cpu"))  # (batch, frames)
        speech = speech_of([self.clips.speech(row) for row in rows.tolist()], self.shape.grid, mask)
        return Stream(torch.from_numpy(batch).transpose(1, 2), mask, speech)

    def moments(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each feature over the frames of some clips, ``(layers, dim)`` each."""
        total = np.zeros(self.frames.shape[1:])
        squares = np.zeros(self.frames.shape[1:])
        count = 0
        for row in rows.tolist():
            part = self.frames[self.starts[row] : self.starts[row + 1]].astype(np.float64)
            total += part.sum(0)
            squares += np.square(part).sum(0)
            count += len(part)
        mean = total / count
        variance = np.maximum(squares / count - np.square(mean), 0)
        return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()


def encode_frames(
    upstream: Upstream,
    clips: DecodedClips,
    path: Path,
    layers: LayerChoice,
    *,
    backend: BackendName = "auto",
    precision: Precision = "fp32",
    on_clip: OnClip | None = None,
) -> ClipFrames:
    """Encode clips by the engine that extraction and prediction use, and keep their frames in a file.

    The file is scratch: it is made anew in each call, and whoever asked for it deletes it.

    Parameters
    ----------
    upstream
        In evaluation mode.
    clips
        Any lengths; long ones are encoded in chunks, as in :func:`subtone.extraction.extract`.
    path
        Of the file.
    layers
        The last layer, or all.
    backend, precision
        See :class:`subtone.extraction.ExtractionOptions`.
    on_clip
        Told how far it is.

    Raises
    ------
    TrainingError
        If the file cannot be written.
    """
    shape = shape_of(upstream, layers)
    plans = [plan_chunks(int(n), upstream) for n in clips.lengths]
    counts = [chunks[-1].frames.stop for chunks in plans]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path, 4 * int(starts[-1]) * shape.layers * shape.dim)
        frames = np.memmap(path, np.float32, "r+", shape=(int(starts[-1]), shape.layers, shape.dim))
        with Streams(open_backend(upstream, backend, precision)) as streams:
            for done, (where, found) in enumerate(_encoded(upstream, clips, plans, streams, layers), 1):
                frames[starts[where[0]] + where[1].start : starts[where[0]] + where[1].stop] = found
                if on_clip is not None:
                    on_clip(done, sum(len(chunks) for chunks in plans))
    except OSError as error:
        raise TrainingError(
            f"{path}: frames cannot be written: {error.strerror or error}; make room ({starts[-1]} frames of "
            f"{4 * shape.layers * shape.dim} bytes), or name another folder"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{path}: not enough memory to encode a clip of up to {clips.lengths.max() / SAMPLE_RATE_HZ:.0f} s with "
            f"{upstream.name!r}; cut the clips shorter, or set extraction.precision=bf16"
        ) from error
    return ClipFrames(shape, starts, frames, clips)


def _make_room(path: Path, size: int) -> None:
    """Reserve a file's bytes: writing into a map of a file that has none left would end the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _encoded(
    upstream: Upstream, clips: DecodedClips, plans: list[list[Chunk]], streams: Streams, layers: LayerChoice
) -> Iterator[tuple[tuple[int, slice], npt.NDArray[np.float32]]]:
    """Yield ((clip, its frames), ``(frames, layers, dim)``) chunk by chunk, a few ahead."""
    waiting: deque[tuple[int, Chunk, int, Future[npt.NDArray[np.float32]]]] = deque()

    def first() -> tuple[tuple[int, slice], npt.NDArray[np.float32]]:
        row, chunk, num_samples, result = waiting.popleft()
        streams.taken(num_samples)
        return (row, chunk.frames), result.result()

    for row, chunks in enumerate(plans):
        wave, _ = clips.read(row)
        survey = upstream.survey([wave]) if len(chunks) > 1 else None
        for chunk, part in zip(chunks, cut_chunks([wave], chunks), strict=True):
            waiting.append((row, chunk, len(part), streams.submit(part, survey, _kept(chunk, layers))))
        while streams.crowded and waiting:
            yield first()
    streams.flush()
    while waiting:
        yield first()


def _kept(chunk: Chunk, layers: LayerChoice) -> Callable[[Tensor], npt.NDArray[np.float32]]:
    def keep(frames: Tensor) -> npt.NDArray[np.float32]:
        core = frames[-1:, chunk.core] if layers == "last" else frames[:, chunk.core]
        kept: npt.NDArray[np.float32] = core.transpose(0, 1).float().cpu().numpy()  # (frames, layers, dim)
        return kept

    return keep
