"""From clips to pooled features: decoding and detection run ahead in a thread while the upstream encodes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subtone.audio import load_audio
from subtone.errors import StoreError, SubtoneError
from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.features import PooledFeatures
from subtone.extraction.pooled import pool_wave
from subtone.extraction.store import FeatureStore, fingerprint
from subtone.pooling import STATISTICS
from subtone.speech import Detector, SpeechSegments
from subtone.upstreams import Upstream

#: Clips to a shard: what a killed run loses at most.
SHARD_CLIPS = 256
#: Clips decoded ahead of the encoder.
AHEAD = 4

OnClip = Callable[[int, int, float], None]
"""Called after each clip with clips done, clips in all, and the seconds of audio in it."""


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
    """

    features: PooledFeatures
    rows: npt.NDArray[np.int64]
    failed: tuple[Failure, ...]
    reused: int
    seconds: float

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
    failed: tuple[Failure, ...]


def extract(
    clips: Iterable[Clip],
    upstream: Upstream,
    detector: Detector,
    *,
    statistics: Sequence[str] | None = None,
    store: str | Path | None = None,
    on_clip: OnClip | None = None,
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
    on_clip : callable, optional
        Progress, see :data:`OnClip`.

    Returns
    -------
    Extraction
        A clip that fails is named in ``failed`` and the others go on.

    Raises
    ------
    StoreError
        If the store does not fit or cannot be written.
    SubtoneError
        If not one clip could be used.
    """
    names = tuple(STATISTICS) if statistics is None else tuple(statistics)
    todo, began = list(clips), time.perf_counter()
    kept = None if store is None else FeatureStore(Path(store), fingerprint(upstream, detector, names))
    keys: dict[int, str] = {}
    failed: list[Failure] = []
    memory: dict[int, PooledFeatures] = {}
    pending: list[int] = []
    reused = done = 0

    def flush() -> None:
        if kept is not None and pending:
            part = PooledFeatures.concatenate(memory.pop(i) for i in pending)
            kept.add([keys[i] for i in pending], [todo[i].file for i in pending], part)
            pending.clear()

    try:
        for i, outcome in _prepared(todo, detector, kept):
            done += 1
            seconds = 0.0
            if isinstance(outcome, SubtoneError):
                failed.append(Failure(todo[i].file, str(outcome)))
            elif isinstance(outcome, str):
                keys[i], reused = outcome, reused + 1
            elif kept is not None and any(keys[j] == outcome.key for j in pending):
                keys[i] = outcome.key  # the same audio twice in this shard
            else:
                keys[i] = outcome.key
                memory[i] = pool_wave(upstream, outcome.wave, outcome.speech, names)
                pending.append(i)
                seconds = len(outcome.wave) / upstream.grid.sample_rate_hz
                if len(pending) == SHARD_CLIPS:
                    flush()
            if on_clip is not None:
                on_clip(done, len(todo), seconds)
    finally:
        flush()
    rows = sorted(keys)
    if not rows:
        first = f"; the first: {failed[0].message}" if failed else ""
        raise StoreError(f"none of {len(todo)} clips could be used{first}")
    if kept is not None:
        features = kept.get([keys[i] for i in rows])
    else:
        features = PooledFeatures.concatenate(memory[i] for i in rows)
    elapsed = time.perf_counter() - began
    return Extraction(features, np.array(rows, np.int64), tuple(failed), reused, elapsed)


def extract_to_store(
    upstream: Upstream,
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    detector: Detector,
    on_clip: OnClip | None = None,
) -> StoreSummary:
    """Extract the features of recordings into a store; see :func:`extract`."""
    found = extract(clips_of(paths), upstream, detector, store=store, on_clip=on_clip)
    return StoreSummary(len(found.rows), found.reused, found.audio_s / 3600, found.seconds, found.failed)


@dataclass(frozen=True)
class _Prepared:
    key: str
    wave: npt.NDArray[np.float32]
    speech: SpeechSegments


def _prepare(clip: Clip, detector: Detector, kept: FeatureStore | None) -> _Prepared | str | SubtoneError:
    try:
        key = "" if kept is None else clip.key()
        if kept is not None and key in kept:
            return key
        wave = load_audio(clip.file, start_s=clip.start_s, end_s=clip.end_s)
        return _Prepared(key, wave, detector.detect(wave))
    except SubtoneError as error:
        return error


def _prepared(
    clips: Sequence[Clip], detector: Detector, kept: FeatureStore | None
) -> Iterator[tuple[int, _Prepared | str | SubtoneError]]:
    """Yield each clip read and searched for speech, in order, a few ahead of the one who asks."""
    ahead: deque[tuple[int, Future[_Prepared | str | SubtoneError]]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="subtone-reader") as reader:
        for i, clip in enumerate(clips):
            ahead.append((i, reader.submit(_prepare, clip, detector, kept)))
            if len(ahead) > AHEAD:
                j, future = ahead.popleft()
                yield j, future.result()
        while ahead:
            j, future = ahead.popleft()
            yield j, future.result()
