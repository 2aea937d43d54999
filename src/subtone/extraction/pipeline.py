"""From clips that were read to pooled features, in the order of the clips."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from subtone.errors import SubtoneError, is_out_of_memory
from subtone.extraction.backends import Backend
from subtone.extraction.chunks import Chunk, cut_chunks
from subtone.extraction.features import PooledFeatures
from subtone.extraction.frames import Half, half_of
from subtone.extraction.moments import Moments, merge
from subtone.extraction.pooled import ClipPooling, Part
from subtone.extraction.readers import Failure, Reading
from subtone.extraction.silence import kept_spans, samples_of, speech_of
from subtone.extraction.streams import Streams
from subtone.speech import SpeechSegments
from subtone.upstreams import Upstream


class FrameSink(Protocol):
    """What takes the frames of clips, clip by clip and in order."""

    @property
    def frame_layers(self) -> Sequence[int]:
        """Numbers of the layers to be kept."""

    def add(self, key: str, first_frame: int, frames: Half) -> None:
        """Take the frames of these layers, from a clip's frame ``first_frame`` on."""

    def drop(self, key: str) -> None:
        """Forget a clip that failed."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """A clip that was encoded."""

    reading: Reading
    features: PooledFeatures
    speech: SpeechSegments  # in the time of its frames: without the silence that was left out


@dataclass(eq=False)
class _Clip:
    """A clip in work: its plan, and what its chunks have given so far."""

    reading: Reading
    work: ClipPooling
    speech: SpeechSegments
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
    num_samples: int
    result: Future[tuple[Part, Half | None]]


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
    ends_lot
        Told of each clip that is begun, with its samples; where it says so the batches begin anew, so that what a batch
        holds does not depend on where a run that was broken off goes on.
    """

    def __init__(
        self,
        upstream: Upstream,
        backend: Callable[[], Backend],
        names: Sequence[str],
        *,
        leave_out_silence_s: float | None = None,
        sink: FrameSink | None = None,
        ends_lot: Callable[[int], bool],
    ) -> None:
        self._upstream = upstream
        self._open_backend = backend
        self._names = names
        self._silence_s = leave_out_silence_s
        self._sink = sink
        self._ends_lot = ends_lot

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
        with ExitStack() as opened:
            streams: Streams | None = None
            for reading in readings:
                if isinstance(reading, Failure) or not wanted(reading):
                    waiting.append(reading)
                else:
                    streams = streams or opened.enter_context(Streams(self._open_backend()))
                    for item in self._begin(reading, streams):
                        waiting.append(item)
                        # What has not been begun is never waited for: it is behind what has.
                        while streams.crowded:
                            yield from self._take(waiting.popleft(), streams)
                    if self._ends_lot(reading.num_samples):
                        streams.flush()
                while waiting and _is_ready(waiting[0]):
                    yield from self._take(waiting.popleft(), streams)
            if streams is not None:
                streams.flush()
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
        except Exception as error:
            yield _failure(reading, error)
            return
        clip = _Clip(
            replace(reading, wave=None), work, speech
        )  # whose samples are let go of as they are encoded
        try:
            survey = self._upstream.survey(blocks()) if work.needs_survey else None
            samples = blocks()
            for chunk, wave in zip(work.chunks, cut_chunks(samples, work.chunks), strict=True):
                result = streams.submit(wave, survey, self._reduction(work, chunk))
                yield _Chunk(clip, chunk.first_frame, len(wave), result)
                if clip.failed is not None:
                    break
            else:
                for _ in samples:  # to the end, where a file that was changed meanwhile is told
                    pass
        except Exception as error:
            clip.failed = clip.failed or _failure(reading, error)
        yield clip

    def _reduction(self, work: ClipPooling, chunk: Chunk) -> Callable[[Tensor], tuple[Part, Half | None]]:
        """Return what is done to a chunk's frames where they were computed, so that no more than needed waits."""
        layers = None if self._sink is None else tuple(self._sink.frame_layers)

        def reduce(frames: Tensor) -> tuple[Part, Half | None]:
            kept = None if layers is None else half_of(frames[:, chunk.core], layers)
            return work.part(chunk, frames), kept

        return reduce

    def _take(self, item: _Item, streams: Streams | None) -> Iterator[Reading | Pooled | Failure]:
        if isinstance(item, _Chunk):
            assert streams is not None
            streams.taken(item.num_samples)
            self._take_chunk(item)
        elif isinstance(item, _Clip):
            yield self._finished(item)
        else:
            yield item

    def _take_chunk(self, chunk: _Chunk) -> None:
        clip = chunk.clip
        try:
            part, frames = chunk.result.result()
            if clip.failed is None:
                clip.add(part)
        except Exception as error:
            clip.failed = clip.failed or _failure(clip.reading, error)
        if clip.failed is None and frames is not None and self._sink is not None:
            self._sink.add(clip.reading.key, chunk.first_frame, frames)

    def _finished(self, clip: _Clip) -> Pooled | Failure:
        if clip.failed is None:
            assert clip.parts is not None
            try:
                features = clip.work.finish([clip.parts])
                # Silences that were left out are still part of the clip's length.
                whole = replace(features, num_samples=np.array([clip.reading.num_samples]))
                return Pooled(clip.reading, whole, clip.speech)
            except Exception as error:
                clip.failed = _failure(clip.reading, error)
        if self._sink is not None:
            self._sink.drop(clip.reading.key)
        return clip.failed


def _is_ready(item: _Item) -> bool:
    return not isinstance(item, _Chunk) or item.result.done()


def _failure(reading: Reading, error: Exception) -> Failure:
    """Name the clip that an error is about; one that nobody foresaw stops no other clip either."""
    file = reading.clip.file
    if isinstance(error, SubtoneError):
        message = str(error)
        return Failure(file, message if file in message else f"{file}: {message}")
    if is_out_of_memory(error):
        return Failure(file, f"{file}: not enough memory for this clip; cut it into utterances")
    reason = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
    return Failure(
        file,
        f"{file}: cannot be encoded (unexpected {reason}); this is a fault of Subtone, please report it",
        "".join(traceback.format_exception(error)),
    )
