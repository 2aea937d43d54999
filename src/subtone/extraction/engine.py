"""From clips to pooled features, in memory or in a store that a run broken off is taken up again in.

Clips are read ahead in processes of their own (:mod:`~subtone.extraction.readers`), encoded chunk by chunk
(:mod:`~subtone.extraction.pipeline`), and put in place a shard at a time. Which clips share a shard depends on the
clips alone, so that a run that was killed and given again ends in the same bytes as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.errors import StoreError, UsageError, nearest
from subtone.extraction.backends import Backend, cores, open_backend
from subtone.extraction.chunks import ONE_PASS_S, OVERLAP_S
from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.features import PooledFeatures
from subtone.extraction.frames import Half
from subtone.extraction.manifest import check_fit
from subtone.extraction.options import ExtractionOptions
from subtone.extraction.pipeline import Pipeline, Pooled
from subtone.extraction.progress import Meter, OnProgress
from subtone.extraction.readers import Failure, Readers, Reading
from subtone.extraction.shards import ShardWriter
from subtone.extraction.store import FeatureStore, fingerprint
from subtone.pooling import STATISTICS, looks_at_speech
from subtone.speech import Detector, SpeechSegments
from subtone.upstreams import Upstream

#: Clips to a shard, and seconds of audio from which on a shard is closed: what a killed run loses at most.
SHARD_CLIPS = 128
SHARD_S = 1200.0
#: Failures that an error names when nothing worked.
NAMED = 10


@dataclass(frozen=True)
class Extraction:
    """What an extraction gave.

    Parameters
    ----------
    features
        Of the clips that worked, in the order given.
    rows
        ``(clips,)`` their positions among the clips given.
    keys
        Their content addresses, by which a store knows them.
    failed
        The others.
    reused
        How many came out of the store.
    seconds
        Wall time.
    backend
        What computed the frames, and how precisely.
    """

    features: PooledFeatures
    rows: npt.NDArray[np.int64]
    keys: tuple[str, ...]
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
    """What :func:`extract_to_store` did.

    Parameters
    ----------
    clips
        That are in the store now, of those given.
    reused
        How many of them were there before, or have the same content as another one of them.
    hours
        Of audio, in all of them.
    seconds
        Wall time.
    times_real_time
        Seconds of audio encoded in a second of this run.
    failed
        Clips that could not be used; or the store, named with how many clips it could not take.
    backend
        What computed the frames, and how precisely.
    """

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
        Finds speech; one that :func:`subtone.speech.get_detector` knows.
    statistics : sequence of str, optional
        What is wanted; all of :data:`subtone.pooling.STATISTICS` by default. A store keeps all in any case, so that
        every recipe finds its own. In memory, where none of them looks at speech, nobody looks for it: the detector
        is not run, and all frames count as speech.
    store : path, optional
        Folder to keep the features in. Clips that are there, by content, are not computed again; without it all
        stays in memory.
    options : ExtractionOptions, optional
        Backend, precision, and what else is kept.
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
        If a statistic is not known, or the backend is not there or not exact enough for the upstream.
    """
    names = tuple(STATISTICS) if statistics is None else tuple(statistics)
    for name in names:
        if name not in STATISTICS:
            raise UsageError(f"statistic {name!r} is not known; {nearest(name, STATISTICS)}")
    if not names and store is None:
        raise UsageError("neither a statistic nor a store is named: nothing would be left of the clips")
    began = time.perf_counter()
    run = _Run(upstream, detector, names if store is None else tuple(STATISTICS), store, options)
    run.over(list(clips), on_progress)
    if run.stopped is not None:
        raise run.stopped
    run.check_some()
    rows = sorted(run.keys)
    if run.store is not None:
        features = run.store.get([run.keys[i] for i in rows], names)
    else:
        features = PooledFeatures.concatenate(run.memory[i] for i in rows)
    elapsed = time.perf_counter() - began
    keys = tuple(run.keys[i] for i in rows)
    return Extraction(
        features, np.array(rows, np.int64), keys, tuple(run.failed), run.reused, elapsed, run.backend
    )


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

    The features stay on disk, so that memory grows neither with the number of recordings nor with their length. When
    the store takes no more, e.g. on a full disk, the run ends there: what is stored stays, and ``failed`` says how
    many clips are missing.
    """
    began = time.perf_counter()
    run = _Run(upstream, detector, tuple(STATISTICS), store, options)
    clips = clips_of(paths)
    run.over(clips, on_progress)
    if run.stopped is not None:
        if not run.keys:
            raise run.stopped
        missing = len(clips) - len(run.keys) - len(run.failed)
        message = (
            f"{run.stopped}; {missing} of {len(clips)} clips are not stored: then give the same command again"
        )
        run.failed.append(Failure(str(store), message))
    run.check_some()
    assert run.store is not None
    hours = sum(run.store.num_samples(key) for key in run.keys.values()) / upstream.grid.sample_rate_hz / 3600
    elapsed = time.perf_counter() - began
    return StoreSummary(
        clips=len(run.keys),
        reused=run.reused,
        hours=hours,
        seconds=elapsed,
        times_real_time=run.audio_s / elapsed,
        failed=tuple(run.failed),
        backend=run.backend,
    )


@dataclass(eq=False)
class _Shard:
    """Clips that are encoded and wait for their shard to be full."""

    rows: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    features: list[PooledFeatures] = field(default_factory=list)
    speech: list[SpeechSegments] = field(default_factory=list)


class _Fill:
    """Counts clips into shards: where one is full depends on the clips and their order alone."""

    def __init__(self, upstream: Upstream) -> None:
        self._most_samples = SHARD_S * upstream.grid.sample_rate_hz
        self._clips = self._samples = 0

    def add(self, num_samples: int) -> bool:
        """Count a clip; say whether the shard is full with it, and begin the next if so."""
        self._clips += 1
        self._samples += num_samples
        if self._clips < SHARD_CLIPS and self._samples < self._most_samples:
            return False
        self._clips = self._samples = 0
        return True


class _Unwritable(Exception):
    """The store takes no more; ``error`` says why."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _writing() -> Iterator[None]:
    """Tell what goes wrong with the disk from what does not fit."""
    try:
        yield
    except StoreError as error:
        raise _Unwritable(error) from error


class _Run:
    """One extraction: what is opened for it, and what it has given so far."""

    def __init__(
        self,
        upstream: Upstream,
        detector: Detector,
        names: Sequence[str],
        store: str | Path | None,
        options: ExtractionOptions | None,
    ) -> None:
        self._options = options or ExtractionOptions()
        if store is None and self._options.frames is not None:
            raise UsageError("frames are kept in a store only; name one, or leave 'frames' away")
        self._upstream, self._detector, self._names = upstream, detector, tuple(names)
        made = None if store is None else FeatureStore.how(store)
        # A store that keeps frames goes on keeping them, whoever fills it up.
        self._frames = (made or {}).get("frames") if self._options.frames is None else self._options.frames
        self._stored: Mapping[str, Any] | None = None if made is None else made.get("backend")
        self.backend: Mapping[str, Any]  # what the features were, or are, computed with
        self._opened: Backend | None = None
        if self._stored is not None and self._may_be(self._stored):
            self.backend = self._stored  # opened only if a clip is missing, since that takes seconds
        else:
            self._opened = self._open()
            self.backend = self._opened.config()
        self.store = None if store is None else FeatureStore(store, self._fingerprint(self.backend))
        self.keys: dict[int, str] = {}  # of the clips that worked, by position
        self.failed: list[Failure] = []
        self.memory: dict[int, PooledFeatures] = {}  # when there is no store
        self.reused = 0
        self.audio_s = 0.0
        self.stopped: StoreError | None = None  # why the store took no more
        self._writer: ShardWriter | None = None
        self._shard = _Shard()
        self._fill = _Fill(upstream)
        self._claimed: set[str] = set()  # content of the clips that this run encodes

    def _may_be(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether what a store was made with is what is asked for."""
        return (
            stored.get("precision") == self._options.precision
            and stored.get("device") == self._upstream.device.type
            and self._options.backend in ("auto", stored.get("name"))
        )

    def _open(self) -> Backend:
        return open_backend(
            self._upstream, self._options.backend, self._options.precision, stored=self._stored
        )

    def _for_missing_clips(self) -> Backend:
        """Open the backend, and make sure that it goes with the features that are there."""
        if self._opened is None:
            self._opened = self._open()
            if self.store is not None:
                check_fit(self.store.folder, self.store.made_by, self._fingerprint(self._opened.config()))
        return self._opened

    def _fingerprint(self, backend: Mapping[str, Any]) -> dict[str, Any]:
        return fingerprint(
            self._upstream,
            self._detector,
            self._names,
            backend=backend,
            leave_out_silence_s=self._options.leave_out_silence_s,
            frames=self._frames,
            chunking={"one_pass_s": ONE_PASS_S, "overlap_s": OVERLAP_S},
        )

    def over(self, clips: Sequence[Clip], on_progress: OnProgress | None) -> None:
        """Extract clips into the store, or into memory when there is none."""
        meter = Meter(clips)
        pipeline = Pipeline(
            self._upstream,
            self._for_missing_clips,
            self._names,
            leave_out_silence_s=self._options.leave_out_silence_s,
            sink=self if self.frame_layers else None,
            ends_lot=_Fill(self._upstream).add,
        )
        same: dict[int, str] = {}  # clips that have the content of another one of this run
        try:
            with Readers(
                self._detector.config() if self._needs_speech() else None, self._readers()
            ) as readers:
                readings = readers.read(clips, None if self.store is None else self._is_known)
                for i, outcome in enumerate(pipeline.run(readings, self._is_wanted)):
                    if isinstance(outcome, Failure):
                        self.failed.append(outcome)
                        state = meter.failed()
                    elif isinstance(outcome, Pooled):
                        self._keep(i, outcome)
                        seconds = outcome.reading.num_samples / self._upstream.grid.sample_rate_hz
                        self.audio_s += seconds
                        state = meter.encoded(seconds)
                    else:
                        same[i] = outcome.key
                        state = meter.reused()
                    if on_progress is not None:
                        on_progress(state)
                self._close_shard()
        except _Unwritable as full:
            self.stopped = full.error
        finally:
            if self._writer is not None:
                self._writer.close()
            if self._opened is not None:
                self._opened.close()
        self._settle(clips, same)

    def _needs_speech(self) -> bool:
        """Whether anything depends on where speech is; a store keeps it."""
        silence_s = self._options.leave_out_silence_s
        return self.store is not None or silence_s is not None or any(map(looks_at_speech, self._names))

    def _readers(self) -> int:
        """Processes that decode: one keeps eight streams of a network busy; filter banks need all there are."""
        beside = self._upstream.module is not None and self._upstream.device.type == "cpu"
        return max(1, cores() // 4) if beside else cores()

    def _is_known(self, key: str) -> bool:
        return self.store is not None and (key in self.store or key in self._claimed)

    def _is_wanted(self, reading: Reading) -> bool:
        """Say whether a clip that was read has to be encoded, the first of its content."""
        if reading.reused or self.store is None:
            return not reading.reused
        if self._is_known(reading.key):  # asked for while the first was on its way
            return False
        self._claimed.add(reading.key)
        return True

    def _keep(self, row: int, outcome: Pooled) -> None:
        key = outcome.reading.key
        if self.store is None:
            self.keys[row], self.memory[row] = key, outcome.features
            return
        with _writing():
            self._open_writer().end_clip(key)
        shard = self._shard
        shard.rows.append(row)
        shard.features.append(outcome.features)
        shard.speech.append(outcome.speech)
        shard.keys.append(key)
        shard.files.append(outcome.reading.clip.file)
        if self._fill.add(outcome.reading.num_samples):
            self._close_shard()

    def _open_writer(self) -> ShardWriter:
        assert self.store is not None
        if self._writer is None:
            self._writer = self.store.shard()
        return self._writer

    def _close_shard(self) -> None:
        shard, self._shard = self._shard, _Shard()
        if shard.rows:
            with _writing():
                features = PooledFeatures.concatenate(shard.features)
                self._open_writer().finish(shard.keys, shard.files, features, shard.speech)
            self.keys.update(zip(shard.rows, shard.keys, strict=True))

    @property
    def frame_layers(self) -> tuple[int, ...]:
        """Layers whose frames are kept; with :meth:`add` and :meth:`drop` what the pipeline hands frames to."""
        return () if self.store is None else self.store.frame_layers

    def add(self, key: str, first_frame: int, frames: Half) -> None:
        """Take frames of a clip."""
        with _writing():
            self._open_writer().add_half(key, first_frame, frames)

    def drop(self, key: str) -> None:
        """Forget the frames of a clip that failed."""
        with _writing():
            self._open_writer().drop(key)

    def _settle(self, clips: Sequence[Clip], same: Mapping[int, str]) -> None:
        """Give clips that were not encoded themselves what the store has for them by now."""
        for row, key in same.items():
            if self.store is not None and key in self.store:
                self.keys[row] = key
                self.reused += 1
            elif self.stopped is None:
                file = clips[row].file
                self.failed.append(Failure(file, f"{file}: holds the same audio as a clip that failed"))

    def check_some(self) -> None:
        """Raise if not one clip could be used."""
        if self.keys:
            return
        if not self.failed:
            raise StoreError("there are no clips to extract; give at least one")
        shown = "; ".join(failure.message for failure in self.failed[:NAMED])
        more = f"; and {len(self.failed) - NAMED} more" if len(self.failed) > NAMED else ""
        raise StoreError(f"none of {len(self.failed)} clips could be used: {shown}{more}")
