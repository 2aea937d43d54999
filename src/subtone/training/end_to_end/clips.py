"""Decoded clips on disk, each with where it holds speech: read once, then mapped into memory epoch after epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subtone.errors import StoreError
from subtone.extraction import Clip, Failure, OnProgress
from subtone.extraction.backends import cores
from subtone.extraction.progress import Meter
from subtone.extraction.readers import Readers
from subtone.extraction.scratch import alone_in_turn, fsync_folder
from subtone.files import appears_whole, sweep_partial
from subtone.speech import Detector, SpeechSegments

_LENGTH = "num_samples"


@dataclass(frozen=True)
class DecodedClips:
    """Clips that can be read at once.

    Parameters
    ----------
    paths
        One file a clip: ``wave (samples,)`` float32 at 16 kHz, ``speech (segments, 2)`` samples from and to.
    lengths
        ``(clips,)`` samples of each.
    failed
        Clips that could not be decoded.
    rows
        Which of the clips asked for these are, in order.
    """

    paths: tuple[Path, ...]
    lengths: npt.NDArray[np.int64]
    failed: tuple[Failure, ...]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, which: npt.NDArray[np.int64]) -> DecodedClips:
        """Return some of these clips, in the order asked for."""
        paths = tuple(self.paths[i] for i in which.tolist())
        return DecodedClips(paths, self.lengths[which], self.failed, self.rows[which])

    def digest(self, rows: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> str:
        """Return what tells some of these clips, and what they are called, from others."""
        content = "\n".join(f"{self.paths[row].name}|{targets[row]}" for row in rows.tolist())
        return hashlib.sha256(content.encode()).hexdigest()

    def speech(self, clip: int) -> SpeechSegments:
        """Return where a clip holds speech."""
        with self._open(clip) as file:
            segments = file.get_tensor("speech")
        return SpeechSegments(segments[:, 0], segments[:, 1], int(self.lengths[clip]))

    def read(
        self, clip: int, start: int = 0, stop: int | None = None
    ) -> tuple[npt.NDArray[np.float32], SpeechSegments]:
        """Return the samples ``[start, stop)`` of a clip, ``(samples,)``, and where they hold speech."""
        stop = int(self.lengths[clip]) if stop is None else stop
        with self._open(clip) as file:
            wave: npt.NDArray[np.float32] = file.get_slice("wave")[start:stop]
        return wave, self.speech(clip).clip(start, stop)

    @contextmanager
    def _open(self, clip: int) -> Iterator[Any]:
        path = self.paths[clip]
        try:
            with safe_open(path, framework="np") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{path}: is damaged ({error}); delete it and give the same command again"
            ) from error


def decode(
    clips: Sequence[Clip], folder: Path, detector: Detector, *, on_progress: OnProgress | None = None
) -> DecodedClips:
    """Decode clips and find their speech; what is there already, by content, is not read again.

    May be killed at any moment; of several processes with one folder, each waits for its turn.

    Parameters
    ----------
    clips
        In any number. One of over ten minutes fails: what is trained end to end are utterances.
    folder
        Where the decoded clips lie; made if new. Those of another detector lie in another folder of it.
    detector
        Finds the speech.
    on_progress
        Told after each clip.

    Returns
    -------
    DecodedClips
        Of these clips. One that fails is named, and the others go on.

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    described = json.dumps(detector.config(), sort_keys=True)
    place = folder / f"clips-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with alone_in_turn(place / ".lock"):
            sweep_partial(place)
            return _decoded(clips, place, detector, on_progress)
    except OSError as error:
        raise StoreError(
            f"{place}: cannot be written: {error.strerror or error}; make room, or name another folder"
        ) from error


def _decoded(
    clips: Sequence[Clip], place: Path, detector: Detector, on_progress: OnProgress | None
) -> DecodedClips:
    paths: list[Path] = []
    rows: list[int] = []
    failed: list[Failure] = []
    meter = Meter(clips)
    with Readers(detector.config(), cores()) as readers:
        for row, outcome in enumerate(readers.read(clips, lambda key: _path(place, key).exists())):
            if isinstance(outcome, Failure):
                failed.append(outcome)
                state = meter.failed()
            elif outcome.reused:
                paths.append(_path(place, outcome.key))
                rows.append(row)
                state = meter.reused()
            elif outcome.wave is None:
                message = f"{outcome.clip.file}: is longer than ten minutes; cut it into utterances"
                failed.append(Failure(outcome.clip.file, message))
                state = meter.failed()
            else:
                path = _path(place, outcome.key)
                _write(path, outcome.wave, outcome.speech)
                paths.append(path)
                rows.append(row)
                state = meter.encoded(outcome.num_samples / outcome.speech.sample_rate_hz)
            if on_progress is not None:
                on_progress(state)
    fsync_folder(place)
    lengths = np.array([_length(path) for path in paths], np.int64)
    return DecodedClips(tuple(paths), lengths, tuple(failed), np.array(rows, np.int64))


def _path(place: Path, key: str) -> Path:
    return place / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def _write(path: Path, wave: npt.NDArray[np.float32], speech: SpeechSegments) -> None:
    segments = np.stack([speech.starts, speech.ends], axis=1)  # (segments, 2)
    with appears_whole(path) as partial:
        save_file(
            {"wave": np.ascontiguousarray(wave), "speech": segments}, partial, {_LENGTH: str(len(wave))}
        )


def _length(path: Path) -> int:
    try:
        with safe_open(path, framework="np") as file:
            return int(file.metadata()[_LENGTH])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: is damaged ({error}); delete it and give the same command again"
        ) from error
