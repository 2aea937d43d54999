"""A frame corpus: utterances of log-mel frames, memory-mapped, in an order that depends on their content alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.errors import StoreError, UsageError, nearest
from subtone.extraction.readers import Failure
from subtone.pretraining.frames.deltas import add_normalised_deltas
from subtone.pretraining.frames.manifest import MANIFEST, read_manifest
from subtone.pretraining.frames.shards import Recording, Shard, Single, Utterance

Array = npt.NDArray[Any]


class FrameCorpus:
    """Utterances in frames of 10 ms; made by :func:`~subtone.pretraining.frames.prepare.prepare`.

    The order of utterances depends on what the recordings hold, not on their names, nor on when they were added, so
    that two trainings on the same recordings see the same.

    Attributes
    ----------
    folder
        Where it lies.
    made_by
        How the frames were made.
    failed
        Recordings that could not be used; known to the one who has just prepared it.
    num_frames
        In all utterances together.
    """

    def __init__(
        self,
        folder: Path,
        made_by: Mapping[str, Any],
        shards: tuple[Shard, ...],
        places: Iterable[tuple[str, int, int, int, int]],
        recordings: Mapping[str, Recording],
        names: Mapping[str, str],
        failed: tuple[Failure, ...] = (),
    ) -> None:
        self.folder, self.made_by, self.shards = folder, made_by, shards
        self.recordings, self.failed = recordings, failed
        self._names = names  # file → SHA-256 of its bytes
        self._places = list(places)  # of utterances: key, shard, its number there, first frame there, frames
        self.lengths: npt.NDArray[np.int64] = np.array([place[-1] for place in self._places], np.int64)
        self.num_frames = int(self.lengths.sum())
        self._opened: dict[int, dict[str, Array]] = {}

    @classmethod
    def open(cls, folder: str | Path) -> FrameCorpus:
        """Open all that a folder holds.

        Raises
        ------
        StoreError
            If it is no frame corpus, or is damaged.
        """
        folder = Path(folder)
        made_by = read_manifest(folder)
        if made_by is None:
            raise StoreError(
                f"{folder}: holds no {MANIFEST}, so it is no frame corpus; see 'subtone pretrain'"
            )
        shards = tuple(Shard.open(table) for table in sorted(folder.glob("table-*.parquet")))
        recordings: dict[str, Recording] = {}
        places: list[tuple[str, int, int, int, int]] = []
        for number, shard in enumerate(shards):
            utterance = first = 0
            for recording in shard.recordings:
                for frames in recording.frames:
                    if recording.key not in recordings:
                        places.append((recording.key, number, utterance, first, frames))
                    utterance, first = utterance + 1, first + frames
                recordings.setdefault(recording.key, recording)
        places.sort(key=lambda place: (place[0], place[3]))
        names = {one.file: one.key.partition(":")[0] for one in recordings.values()}
        return cls(folder, made_by, shards, places, recordings, names)

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self._places)

    def __contains__(self, file: object) -> bool:
        """Whether frames of a file, or of a stretch of it, are here."""
        return str(file) in self._names

    def __repr__(self) -> str:
        """Name the folder and the size."""
        return f"FrameCorpus({str(self.folder)!r}, {len(self)} utterances, {self.hours:.2f} h)"

    @property
    def num_mel(self) -> int:
        """Mel bands of a frame."""
        return int(self.made_by["num_mel"])

    @property
    def has_intensity(self) -> bool:
        """Whether each frame has an intensity."""
        return self.made_by["intensity"] is not None

    @property
    def hours(self) -> float:
        """Of audio, in all utterances."""
        return self.num_frames / 360_000

    @property
    def num_left_out(self) -> int:
        """Recordings that are too short for an utterance."""
        return sum(not one.frames for one in self.recordings.values())

    @property
    def files(self) -> list[str]:
        """The recording of each utterance, by the name under which it was read first."""
        return [self.recordings[place[0]].file for place in self._places]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of which recordings these are and how their frames were made; not of where they lie."""
        content = [sorted({place[0] for place in self._places}), self.lengths.tolist()]
        made_by = {key: value for key, value in self.made_by.items() if key != "libraries"}
        return hashlib.sha256(json.dumps([made_by, content], sort_keys=True).encode()).hexdigest()

    def utterance(self, number: int, *, deltas: int = 0) -> tuple[Single, Single | None]:
        """Return what enters an upstream over filter banks with utterance CMVN.

        Parameters
        ----------
        number
            Of the utterance, from 0.
        deltas
            Highest time derivative appended to each frame, 0 to 2; normalised over the utterance like the bands.

        Returns
        -------
        ``(frames, num_mel * (deltas + 1))`` float32, and the intensity ``(frames,)`` float32 in [0, 1], None if the
        corpus has none.
        """
        stored = self.stored(number)
        features = add_normalised_deltas(stored.features.astype(np.float32), stored.deviation, deltas)
        return features, None if stored.intensity is None else stored.intensity.astype(np.float32)

    def stored(self, number: int) -> Utterance:
        """Return an utterance as it lies on disk, memory-mapped."""
        _, shard, row, first, frames = self._places[number]
        arrays = self._opened.get(shard)
        if arrays is None:
            arrays = self._opened[shard] = self.shards[shard].arrays()
        intensity = arrays.get("intensity")
        return Utterance(
            arrays["features"][first : first + frames],
            arrays["mean"][row],
            arrays["deviation"][row],
            None if intensity is None else intensity[first : first + frames],
        )

    def select(self, chosen: Collection[str | Path] | npt.NDArray[np.bool_]) -> FrameCorpus:
        """Return the utterances of some files, or where a mask ``(utterances,)`` is True.

        Raises
        ------
        UsageError
            If a file is not in the corpus, or the mask has another length.
        """
        if not isinstance(chosen, np.ndarray):
            wanted = self._contents(chosen)
            return self._where(place[0].partition(":")[0] in wanted for place in self._places)
        if chosen.dtype != np.bool_ or chosen.shape != (len(self),):
            raise UsageError(
                f"a mask of {chosen.shape} {chosen.dtype} does not choose from {len(self)} utterances"
            )
        return self._where(chosen.tolist())

    def without(self, files: Collection[str | Path]) -> FrameCorpus:
        """Return all utterances but those of some files, and of files of the same content.

        Raises
        ------
        UsageError
            If a file is not in the corpus: what is left out by mistake of a name would be trained on.
        """
        unwanted = self._contents(files)
        return self._where(place[0].partition(":")[0] not in unwanted for place in self._places)

    def of_keys(
        self, keys: Collection[str], names: Mapping[str, str], failed: tuple[Failure, ...]
    ) -> FrameCorpus:
        """Return the utterances of recordings by their content address, with the names they go by."""
        chosen = set(keys)
        places = [place for place in self._places if place[0] in chosen]
        recordings = {key: one for key, one in self.recordings.items() if key in chosen}
        return FrameCorpus(self.folder, self.made_by, self.shards, places, recordings, names, failed)

    def _contents(self, files: Collection[str | Path]) -> set[str]:
        names = [str(file) for file in files]
        for name in names:
            if name not in self._names:
                raise UsageError(
                    f"{self.folder}: holds no recording {name!r}; {nearest(name, self._names)[:200]}"
                )
        return {self._names[name] for name in names}

    def _where(self, mask: Iterable[bool]) -> FrameCorpus:
        places = [place for place, kept in zip(self._places, mask, strict=True) if kept]
        kept = {place[0] for place in places}
        recordings = {key: one for key, one in self.recordings.items() if key in kept}
        return FrameCorpus(
            self.folder, self.made_by, self.shards, places, recordings, self._names, self.failed
        )
