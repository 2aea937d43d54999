"""From clips that were read to pooled features, in the order of the clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from subtone.errors import StoreError, SubtoneError, is_out_of_memory
from subtone.extraction.backends import Backend
from subtone.extraction.chunks import cut_chunks
from subtone.extraction.features import PooledFeatures
from subtone.extraction.moments import Moments, merge
from subtone.extraction.pooled import ClipPooling, Part
from subtone.extraction.readers import Failure, Reading
from subtone.extraction.silence import kept_spans, samples_of, speech_of
from subtone.extraction.streams import Streams
from subtone.upstreams import Upstream


class FrameSink(Protocol):
    """What takes the frames of clips, clip by clip and in order."""

    def add(self, key: str, first_frame: int, frames: Tensor) -> None:
        """Take frames ``(layers, frames, dim)`` of a clip, from its frame ``first_frame`` on."""

    def drop(self, key: str) -> None:
        """Forget a clip that failed."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """A clip that was encoded."""

    reading: Reading
    features: PooledFeatures


@dataclass(eq=False)
class _Clip:
    """A clip in work: its plan, and what its chunks have given so far."""

    reading: Reading
    work: ClipPooling
    parts: Part | None = None
    failed: Failure | None = None

    def add(self, part: Part) -> None:
        # Merged as they come, so that a clip of hours holds no more than one of seconds.
        both = isinstance(self.parts, Moments) and isinstance(part, Moments)
        self.parts = merge([self.parts, part]) if both else part  # type: ignore[list-item]


@dataclass(frozen=True, eq=False)
class _Chunk:
    """A chunk in work; ``result`` is the part it gives, and its frames if they are to be kept."""

    clip: _Clip
    first_frame: int
    result: Future[tuple[Part, Tensor | None]]


_Item: TypeAlias = _Chunk | _Clip | Reading | Failure
"""What waits to be taken: a clip's chunks and then the clip itself, or what needs no encoding."""


class Pipeline:
    """Encodes clips, a few chunks ahead of the one who takes the features.

    Parameters
    ----------
    upstream
        Whose frames.
    backend
        Opens what encodes; called when the first clip has to be.
    names
        Statistics to pool.
    leave_out_silence_s
        See :class:`subtone.extraction.ExtractionOptions`.
    sink
        Takes the frames of each clip; None keeps none.
    lot
        After so many clips the batches begin anew, so that what a batch holds does not depend on where a run that was
        broken off goes on.
    """

    def __init__(
        self,
        upstream: Upstream,
        backend: Callable[[], Backend],
        names: Sequence[str],
        *,
        leave_out_silence_s: float | None = None,
        sink: FrameSink | None = None,
        lot: int,
    ) -> None:
        self._upstream = upstream
        self._open_backend = backend
        self._names = names
        self._silence_s = leave_out_silence_s
        self._sink = sink
        self._lot = lot

    def run(
        self, readings: Iterable[Reading | Failure], wanted: Callable[[Reading], bool]
    ) -> Iterator[Reading | Pooled | Failure]:
        """Yield what became of each clip, in order.

        Parameters
        ----------
        readings
            Clips as they were read.
        wanted
            Says of a clip whether to encode it; one that need not be comes out as it went in.
        """
        waiting: deque[_Item] = deque()
        begun = 0
        with ExitStack() as opened:
            streams: Streams | None = None
            for reading in readings:
                if isinstance(reading, Failure) or not wanted(reading):
                    waiting.append(reading)
                else:
                    streams = streams or opened.enter_context(Streams(self._open_backend()))
                    for item in self._begin(reading, streams):
                        waiting.append(item)
                        while len(waiting) > streams.ahead:
                            yield from self._take(waiting.popleft(), streams)
                    begun += 1
                    if begun % self._lot == 0:
                        streams.flush()
                while waiting and _is_ready(waiting[0]):
                    yield from self._take(waiting.popleft(), streams)
            while waiting:
                yield from self._take(waiting.popleft(), streams)

    def _begin(self, reading: Reading, streams: Streams) -> Iterator[_Item]:
        """Hand a clip's chunks to the streams, one when the next is asked for; the clip itself comes last."""
        speech = reading.speech
        blocks: Callable[[], Iterator[npt.NDArray[np.float32]]] = reading.blocks
        if self._silence_s is not None:
            spans = kept_spans(speech, self._silence_s)
            speech = speech_of(speech, spans)
            blocks = lambda: samples_of(reading.blocks(), spans)  # noqa: E731
        try:
            work = ClipPooling.plan(self._upstream, speech.num_samples, speech, self._names)
        except SubtoneError as error:
            yield _failure(reading, error)
            return
        clip = _Clip(reading, work)
        try:
            survey = self._upstream.survey(blocks()) if work.needs_survey else None
            for chunk, wave in zip(work.chunks, cut_chunks(blocks(), work.chunks), strict=True):

                def reduce(frames: Tensor, chunk=chunk) -> tuple[Part, Tensor | None]:  # type: ignore[no-untyped-def]
                    kept = frames[:, chunk.core] if self._sink is not None else None
                    return work.part(chunk, frames), kept

                yield _Chunk(clip, chunk.first_frame, streams.submit(wave, survey, reduce))
                if clip.failed is not None:
                    break
        except SubtoneError as error:
            clip.failed = clip.failed or _failure(reading, error)
        yield clip

    def _take(self, item: _Item, streams: Streams | None) -> Iterator[Reading | Pooled | Failure]:
        if isinstance(item, _Chunk):
            self._take_chunk(item, streams)
        elif not isinstance(item, _Clip):
            yield item
        elif item.failed is not None:
            if self._sink is not None:
                self._sink.drop(item.reading.key)
            yield item.failed
        else:
            assert item.parts is not None
            features = item.work.finish([item.parts])
            # Silences that were left out are still part of the clip's length.
            yield Pooled(item.reading, replace(features, num_samples=np.array([item.reading.num_samples])))

    def _take_chunk(self, chunk: _Chunk, streams: Streams | None) -> None:
        clip = chunk.clip
        if streams is not None and not chunk.result.done():
            streams.flush()
        try:
            part, frames = chunk.result.result()
            if clip.failed is None:
                clip.add(part)
                if frames is not None and self._sink is not None:
                    self._sink.add(clip.reading.key, chunk.first_frame, frames)
        except StoreError:  # no clip's fault
            raise
        except (SubtoneError, MemoryError, RuntimeError) as error:
            clip.failed = clip.failed or _failure(clip.reading, error)


def _is_ready(item: _Item) -> bool:
    return not isinstance(item, _Chunk) or item.result.done()


def _failure(reading: Reading, error: Exception) -> Failure:
    """Name the clip that an error is about; what is neither a user's mistake nor the memory's limit is raised."""
    file = reading.clip.file
    if isinstance(error, SubtoneError):
        message = str(error)
        return Failure(file, message if file in message else f"{file}: {message}")
    if is_out_of_memory(error):
        return Failure(file, f"{file}: not enough memory for this clip; cut it into utterances")
    raise error
