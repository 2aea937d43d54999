"""From recordings to a frame corpus: each decoded once, in processes of their own, in a run that may be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from subtone.audio import expand
from subtone.errors import AudioError, StoreError
from subtone.extraction.backends import cores
from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.progress import Meter, OnProgress
from subtone.extraction.readers import Failure, Readers, Reading
from subtone.extraction.scratch import alone_in_turn, sweep_scratch
from subtone.pretraining.frames.corpus import FrameCorpus
from subtone.pretraining.frames.manifest import LONGEST_FRAMES, SHORTEST_FRAMES, claim, made_by
from subtone.pretraining.frames.shards import Recording, Single, Utterance, sweep, write_shard
from subtone.pretraining.intensity.ready import ReadyScores
from subtone.upstreams import kaldi, passes

#: Recordings to a shard, and frames from which on a shard is closed: what a killed run loses at most.
SHARD_RECORDINGS = 512
SHARD_FRAMES = 120_000
_LOCK = ".lock"


class IntensityScorer(Protocol):
    """What gives every frame its emotional intensity; see `subtone.pretraining.intensity`."""

    def from_banks(self, log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return ``(frames,)`` in [0, 1] of ``(frames, 80)``."""

    def fingerprint(self) -> str:
        """Return what tells models apart."""


def prepare(
    sources: pd.DataFrame | pd.Index | str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    intensity: IntensityScorer | ReadyScores | None = None,
    num_mel: int = 80,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> FrameCorpus:
    """Turn recordings into log-mel frames on disk; what is there already, by content, is not read again.

    A run that was killed at any moment goes on where it stopped when it is given again. Several processes may prepare
    one folder: they take turns. A recording longer than 20 s is cut into utterances of equal length, none of them
    longer than that; those of fewer than 20 frames (0.2 s) are left out.

    Parameters
    ----------
    sources
        Files, folders and patterns, or a table with audformat's segmented index.
    folder
        Of the corpus; made if new. It may hold other recordings beside these.
    intensity
        Scores every frame, or has scores that are ready: then a recording without one fails. Without it only the
        masking strategies that need none can be used.
    num_mel
        Mel bands.
    on_progress
        Told after each recording how far it is.
    on_wait
        Told in a sentence, once, when another process prepares the folder and this one waits for it.

    Returns
    -------
    FrameCorpus
        Of these recordings alone. A file that fails is named in its ``failed`` and the others go on.

    Raises
    ------
    StoreError
        If the folder holds frames made otherwise or cannot be written, or if not one recording could be used.
    UsageError
        If the ready scores do not tell two of the recordings apart.
    """
    folder, clips = Path(folder), _clips(sources)
    wanted = made_by(num_mel, None if intensity is None else intensity.fingerprint())
    if isinstance(intensity, ReadyScores):
        intensity.check(clips)

    def waiting() -> None:
        if on_wait is not None:
            on_wait(f"{folder}: another process prepares frames there; waiting for it")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in_turn(folder / _LOCK, waiting):
            claim(folder, wanted)
            sweep_scratch(folder)
            found = FrameCorpus.open(folder)
            sweep(folder, found.shards)
            keys, failed = _add_missing(found, clips, intensity, num_mel, on_progress)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be prepared: {error.strerror or error}") from error
    if not any(keys):
        raise StoreError(_nothing(failed))
    names: dict[str, str] = {}
    for clip, key in zip(clips, keys, strict=True):
        if key is not None:
            names[clip.file] = key.partition(":")[0]
    return FrameCorpus.open(folder).of_keys({key for key in keys if key}, names, tuple(failed))


def _clips(sources: pd.DataFrame | pd.Index | str | Path | Iterable[str | Path]) -> list[Clip]:
    if isinstance(sources, (pd.DataFrame, pd.Index)):
        return clips_of(sources)
    return clips_of(expand(sources, missing="keep"))


def _add_missing(
    found: FrameCorpus,
    clips: list[Clip],
    intensity: IntensityScorer | ReadyScores | None,
    num_mel: int,
    on_progress: OnProgress | None,
) -> tuple[list[str | None], list[Failure]]:
    """Write shards of what is not there; return the key of each clip (None: it failed) and what failed."""
    there = set(found.recordings)
    keys: list[str | None] = []
    failed: list[Failure] = []
    recordings: list[Recording] = []
    utterances: list[Utterance] = []
    meter = Meter(clips)
    # The readers find speech as well, whether it is wanted or not: the energy detector costs next to nothing.
    with Readers({"name": "energy"}, cores()) as readers:
        # By a copy: what is known must not depend on how far this thread has come.
        for outcome in readers.read(clips, frozenset(there).__contains__):
            made: list[Utterance] | Failure | None = None
            if isinstance(outcome, Failure):
                made = outcome
            elif not outcome.reused and outcome.key not in there:
                _check_can_add(found, intensity)
                made = _utterances(outcome, intensity, num_mel)
            if isinstance(made, Failure):
                failed.append(made)
                keys.append(None)
                state = meter.failed()
            else:
                assert isinstance(outcome, Reading)
                keys.append(outcome.key)
                if made is None:
                    state = meter.reused()
                else:
                    there.add(outcome.key)
                    utterances += made
                    lengths = tuple(len(one.features) for one in made)
                    recordings.append(Recording(outcome.key, outcome.clip.file, outcome.num_samples, lengths))
                    state = meter.encoded(outcome.num_samples / kaldi.SAMPLE_RATE_HZ)
            frames = sum(len(one.features) for one in utterances)
            if len(recordings) >= SHARD_RECORDINGS or frames >= SHARD_FRAMES:
                write_shard(found.folder, recordings, utterances)
                recordings, utterances = [], []
            if on_progress is not None:
                on_progress(state)
    if recordings:
        write_shard(found.folder, recordings, utterances)
    return keys, failed


def _check_can_add(found: FrameCorpus, intensity: IntensityScorer | ReadyScores | None) -> None:
    if intensity is None and found.has_intensity:
        raise StoreError(
            f"{found.folder}: holds frames with intensities, and some of these recordings are not among them; give "
            "what scored them too, or name another folder for the frames"
        )


def _utterances(
    reading: Reading, intensity: IntensityScorer | ReadyScores | None, num_mel: int
) -> list[Utterance] | Failure:
    """Return the utterances of a recording, or why there are none; silence and noise count as speech."""
    frames = (reading.num_samples - kaldi.WINDOW) // kaldi.HOP + 1
    if frames < SHORTEST_FRAMES:
        return []
    try:
        banks = _cut(_banks(reading, num_mel), frames)
        if isinstance(intensity, ReadyScores):
            curves = _cut(iter([intensity.of(reading.clip, frames)]), frames)
            return [Utterance.of(*both) for both in zip(banks, curves, strict=True)]
        return [
            Utterance.of(one, None if intensity is None else np.clip(intensity.from_banks(one), 0.0, 1.0))
            for one in banks
        ]
    except AudioError as error:  # changed meanwhile, damaged further in, or without a score
        return Failure(reading.clip.file, str(error))


def _banks(reading: Reading, num_mel: int) -> Iterator[Single]:
    parts = passes.stretches(passes.pieces(reading.blocks()), kaldi.WINDOW, kaldi.HOP)
    with torch.no_grad():
        for part in parts:
            yield kaldi.filter_bank(part, num_mel).numpy()  # (frames, num_mel)


def _cut(blocks: Iterable[Single], frames: int) -> Iterator[Single]:
    """Regroup the frames of a recording into as few equal utterances as its length allows.

    >>> [len(one) for one in _cut(iter([np.zeros((3000, 1)), np.zeros((1001, 1))]), 4001)]
    [1333, 1334, 1334]
    """
    count = -(-frames // LONGEST_FRAMES)
    ends = [frames * (i + 1) // count for i in range(count)]
    held: list[Single] = []
    at = start = 0
    for block in blocks:
        held.append(block)
        at += len(block)
        while ends and at >= ends[0]:
            joined = np.concatenate(held)
            size = ends.pop(0) - start
            yield joined[:size]
            held, start = [joined[size:]], start + size


def _nothing(failed: list[Failure]) -> str:
    shown = "; ".join(failure.message for failure in failed[:10])
    more = f"; and {len(failed) - 10} more" if len(failed) > 10 else ""
    return (
        f"none of {len(failed)} recordings could be used: {shown}{more}" if failed else "no recordings given"
    )
