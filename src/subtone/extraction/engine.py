"""From clips to pooled features, one clip a core at a time.

On a CPU small batches and many threads an operation both lose: a clip a thread, each with one thread of its own, keeps
all cores busy, never waits for the slowest core of an operation, and needs no padding.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from subtone.audio import load_audio
from subtone.errors import StoreError, SubtoneError, UsageError, is_out_of_memory, nearest
from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.features import PooledFeatures
from subtone.extraction.options import ExtractionOptions
from subtone.extraction.pooled import pool_wave
from subtone.extraction.progress import Meter, OnProgress
from subtone.extraction.store import FeatureStore, fingerprint
from subtone.pooling import STATISTICS
from subtone.speech import Detector
from subtone.upstreams import Upstream

BACKEND = {"name": "torch", "precision": "fp32"}
#: Clips to a shard: what a killed run loses at most.
SHARD_CLIPS = 256
#: Failures that an error names when nothing worked.
NAMED = 10
#: Clips in work or waiting to be taken, to a worker.
AHEAD = 4

@dataclass(frozen=True)
class Failure:
    """A clip that could not be used, and why."""

    file: str
    message: str


@dataclass(frozen=True)
class Extraction:
    """What an extraction gave.

    Parameters
    ----------
    features
        Of the clips that worked, in the order given.
    rows
        ``(clips,)`` their positions among the clips given.
    failed
        The others.
    reused
        How many came out of the store.
    seconds
        Wall time.
    backend
        What computed them, and how precisely.
    """

    features: PooledFeatures
    rows: npt.NDArray[np.int64]
    failed: tuple[Failure, ...]
    reused: int
    seconds: float
    backend: Mapping[str, Any]

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all clips that worked."""
        return float(self.features.num_samples.sum()) / 16_000


@dataclass(frozen=True)
class StoreSummary:
    """What :func:`extract_to_store` did."""

    clips: int
    reused: int
    hours: float
    seconds: float
    times_real_time: float
    failed: tuple[Failure, ...]
    backend: Mapping[str, Any]


def extract(
    clips: Iterable[Clip],
    upstream: Upstream,
    detector: Detector,
    *,
    statistics: Sequence[str] | None = None,
    store: str | Path | None = None,
    options: ExtractionOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Extraction:
    """Extract pooled features of clips.

    Parameters
    ----------
    clips : iterable of Clip
        See :func:`clips_of`.
    upstream : Upstream
        Gives the frames.
    detector : Detector
        Finds speech.
    statistics : sequence of str, optional
        What to keep; all of :data:`subtone.pooling.STATISTICS` by default, so that every recipe finds its own.
    store : path, optional
        Folder to keep the features in. Clips that are there, by content, are not computed again; without it all
        stays in memory.
    options : ExtractionOptions, optional
        Backend, precision and what is kept.
    on_progress : callable, optional
        Told after each clip how far it is.

    Returns
    -------
    Extraction
        A clip that fails is named in ``failed`` and the others go on.

    Raises
    ------
    StoreError
        If the store does not fit or cannot be written, or if not one clip could be used.
    UsageError
        If a statistic is not known.
    """
    names = tuple(STATISTICS) if statistics is None else tuple(statistics)
    for name in names:
        if name not in STATISTICS:
            raise UsageError(f"statistic {name!r} is not known; {nearest(name, STATISTICS)}")
    began = time.perf_counter()
    kept = None if store is None else FeatureStore(Path(store), fingerprint(upstream, detector, names))
    found = _gather(list(clips), upstream, detector, names, kept, on_progress)
    rows = sorted(found.keys)
    if kept is not None:
        features = kept.get([found.keys[i] for i in rows])
    else:
        features = PooledFeatures.concatenate(found.memory[i] for i in rows)
    elapsed = time.perf_counter() - began
    return Extraction(features, np.array(rows, np.int64), tuple(found.failed), found.reused, elapsed, BACKEND)


def extract_to_store(
    upstream: Upstream,
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    detector: Detector,
    options: ExtractionOptions | None = None,
    on_progress: OnProgress | None = None,
) -> StoreSummary:
    """Extract the features of recordings into a store; see :func:`extract`.

    The features stay on disk, so that memory does not grow with the number of recordings.
    """
    began = time.perf_counter()
    kept = FeatureStore(Path(store), fingerprint(upstream, detector, tuple(STATISTICS)))
    found = _gather(clips_of(paths), upstream, detector, tuple(STATISTICS), kept, on_progress)
    hours = sum(kept.num_samples(key) for key in found.keys.values()) / upstream.grid.sample_rate_hz / 3600
    elapsed = time.perf_counter() - began
    speed = found.audio_s / elapsed
    return StoreSummary(len(found.keys), found.reused, hours, elapsed, speed, tuple(found.failed), BACKEND)


@dataclass
class _Gathered:
    keys: dict[int, str] = field(default_factory=dict)  # of the clips that worked, by position
    failed: list[Failure] = field(default_factory=list)
    memory: dict[int, PooledFeatures] = field(default_factory=dict)  # what is in no store (yet)
    reused: int = 0
    audio_s: float = 0.0


def _gather(
    todo: Sequence[Clip],
    upstream: Upstream,
    detector: Detector,
    names: Sequence[str],
    kept: FeatureStore | None,
    on_progress: OnProgress | None,
) -> _Gathered:
    """Extract clips into the store, or into memory when there is none."""
    found = _Gathered()
    keys, memory = found.keys, found.memory
    pending: dict[str, int] = {}  # content → position of clips that the next shard will hold
    meter = Meter(todo)

    def flush() -> None:
        if kept is not None and pending:
            rows = list(pending.values())
            pending.clear()  # before writing: what could not be written once is not tried again
            part = PooledFeatures.concatenate(memory.pop(i) for i in rows)
            kept.add([keys[i] for i in rows], [todo[i].file for i in rows], part)

    try:
        for i, outcome in _outcomes(todo, upstream, detector, names, kept):
            if isinstance(outcome, SubtoneError):
                found.failed.append(Failure(todo[i].file, str(outcome)))
                state = meter.failed()
            else:
                keys[i] = outcome.key
                if outcome.features is None:
                    found.reused += 1
                    state = meter.reused()
                else:
                    state = meter.encoded(float(outcome.features.num_samples[0]) / upstream.grid.sample_rate_hz)
                    found.audio_s = state.audio_s
                    if kept is None:
                        memory[i] = outcome.features
                    elif outcome.key not in pending and outcome.key not in kept:
                        memory[i], pending[outcome.key] = outcome.features, i
                if len(pending) == SHARD_CLIPS:
                    flush()
            if on_progress is not None:
                on_progress(state)
    finally:
        flush()
    if not keys:
        shown = "; ".join(failure.message for failure in found.failed[:NAMED])
        more = f"; and {len(found.failed) - NAMED} more" if len(found.failed) > NAMED else ""
        raise StoreError(f"none of {len(todo)} clips could be used: {shown}{more}")
    return found


@dataclass(frozen=True)
class _Done:
    key: str
    features: PooledFeatures | None  # None: the store has them


def _one(
    clip: Clip, upstream: Upstream, detector: Detector, names: Sequence[str], kept: FeatureStore | None
) -> _Done | SubtoneError:
    try:
        key = "" if kept is None else clip.key()
        if kept is not None and key in kept:
            return _Done(key, None)
        wave = load_audio(clip.file, start_s=clip.start_s, end_s=clip.end_s)
        return _Done(key, pool_wave(upstream, wave, detector.detect(wave), names))
    except UsageError as error:  # of the clip's length; it does not know the file
        return UsageError(f"{clip.file}: {error}")
    except SubtoneError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return UsageError(f"{clip.file}: not enough memory for this clip; cut it into utterances")


def _outcomes(
    clips: Sequence[Clip],
    upstream: Upstream,
    detector: Detector,
    names: Sequence[str],
    kept: FeatureStore | None,
) -> Iterator[tuple[int, _Done | SubtoneError]]:
    """Yield what became of each clip, in order; a few are in work ahead of the one who asks."""
    ahead: deque[tuple[int, Future[_Done | SubtoneError]]] = deque()
    # An accelerator takes one clip at a time: clips side by side would share its memory and its precision switches.
    workers = _cores() if upstream.device.type == "cpu" else 1
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers, "subtone-clip", torch.set_num_threads, (1,)) as pool:
        try:
            for i, clip in enumerate(clips):
                ahead.append((i, pool.submit(_one, clip, upstream, detector, names, kept)))
                if len(ahead) > AHEAD * workers:
                    j, future = ahead.popleft()
                    yield j, future.result()
            while ahead:
                j, future = ahead.popleft()
                yield j, future.result()
        finally:
            for _, future in ahead:
                future.cancel()
            torch.set_num_threads(threads)


def _cores() -> int:
    """Cores that this process may use, where the system tells; else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
