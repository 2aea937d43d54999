"""A folder of features on disk, found by content address: shards that appear whole, and how they were made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from subtone.errors import StoreError, UsageError, nearest
from subtone.extraction.features import PooledFeatures
from subtone.extraction.fingerprint import SCHEMA, fingerprint
from subtone.extraction.frames import FramePlace, Half, of_layers, places_of, read_runs
from subtone.extraction.manifest import MANIFEST, claim, read_manifest
from subtone.extraction.scratch import alone_with, sweep_scratch
from subtone.extraction.shards import COUNTS, Shard, ShardWriter, telling_damage
from subtone.extraction.tensors import TensorPlace, open_tensors, tensor_places
from subtone.speech import SpeechSegments

__all__ = ["FeatureStore", "fingerprint"]


class FeatureStore:
    """Pooled features on disk, and frames on request.

    A run killed at any moment leaves no half shard behind, and the same run again ends in the same bytes. Several
    processes may fill one store at a time, and others read it meanwhile: a reader sees what was there when it opened
    the store, or called :meth:`refresh` last.

    Parameters
    ----------
    folder : path
        Made when missing.
    made_by : mapping, optional
        The :func:`~subtone.extraction.fingerprint.fingerprint` that the features must have. Without it the store is
        opened for reading only, see :meth:`open`.

    Raises
    ------
    StoreError
        If the folder holds features made otherwise (the message names what differs, with both values), is no store,
        or a shard is damaged.

    Examples
    --------
    Whoever has a store needs neither its recordings nor its upstream:

    >>> import tempfile
    >>> from subtone import upstreams
    >>> from subtone.extraction import extract_to_store
    >>> from subtone.speech import get_detector
    >>> folder = tempfile.mkdtemp()
    >>> fbank, energy = upstreams.load("fbank:40"), get_detector("energy")
    >>> _ = extract_to_store(fbank, folder, ["examples/statement.wav"], detector=energy)

    >>> store = FeatureStore.open(folder)
    >>> store.table[["file", "num_frames", "too_short"]]
                            file  num_frames  too_short
    0  examples/statement.wav         ...      False
    >>> store.get(store.keys(), ["sap_mean", "sap_std"]).matrix(["sap_mean", "sap_std"]).shape
    (1, 1, 80)
    >>> store.verify()
    """

    def __init__(self, folder: str | Path, made_by: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self._writable = made_by is not None
        if made_by is not None:
            found = claim(self.folder, json.loads(json.dumps({"schema": SCHEMA, **made_by})))
        else:
            found = self.how(self.folder) or {}
            if not found:
                raise StoreError(f"{self.folder}: holds no {MANIFEST}, so it is no feature store")
        self.made_by: dict[str, Any] = found
        self._shards: dict[str, Shard] = {}
        self._at: dict[str, tuple[str, int]] = {}
        self._num_samples: dict[str, int] = {}
        self.refresh()
        if self._writable:
            sweep_scratch(self.folder)
            self._sweep()

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Open a store for reading, without what made it.

        Raises
        ------
        StoreError
            If the folder is no store, or a shard is damaged.
        """
        return cls(folder)

    @staticmethod
    def how(folder: str | Path) -> dict[str, Any] | None:
        """Return how the features in a folder were made, without opening them; None where there is no store.

        Raises
        ------
        StoreError
            If its manifest is damaged or of another schema.
        """
        return read_manifest(Path(folder))

    @property
    def frame_layers(self) -> tuple[int, ...]:
        """Numbers of the layers whose frames are kept; empty when none are."""
        return tuple(self.made_by.get("frames") or ())

    @property
    def table(self) -> pd.DataFrame:
        """A row a clip: key, file (as it was called), num_samples, num_frames, speech_frames, too_short."""
        parts = []
        for name in sorted(self._shards):
            with telling_damage(self._shards[name].table):
                parts.append(pd.DataFrame(self._shards[name].read(["key", "file", *COUNTS])))
                parts[-1] = parts[-1][[self._at[key] == (name, i) for i, key in enumerate(parts[-1]["key"])]]
        if not parts:
            return pd.DataFrame({name: [] for name in ("key", "file", *COUNTS)})
        return pd.concat(parts, ignore_index=True)

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: str) -> bool:
        return key in self._at

    def keys(self) -> list[str]:
        """Return the content addresses of all clips, in the order of :attr:`table`."""
        return sorted(self._at, key=self._at.__getitem__)

    def num_samples(self, key: str) -> int:
        """Return the length of a clip in samples at 16 kHz, without reading its features."""
        return self._num_samples[key]

    def refresh(self) -> None:
        """Take notice of shards that other processes have put in place since.

        Raises
        ------
        StoreError
            If one is damaged; all of them are named.
        """
        damaged = []
        for path in sorted(self.folder.glob("shard-*.parquet")):
            if path.stem in self._shards:
                continue
            try:
                shard, columns = Shard.open(path)
            except StoreError as error:
                damaged.append(error)
                continue
            self._shards[path.stem] = shard
            for row, (key, samples) in enumerate(zip(columns["key"], columns["num_samples"], strict=True)):
                self._at[key], self._num_samples[key] = (path.stem, row), int(samples)
        _raise_all(damaged)

    def shard(self) -> ShardWriter:
        """Begin a shard; see :class:`~subtone.extraction.shards.ShardWriter`.

        Raises
        ------
        StoreError
            If the store was opened for reading, or cannot be written.
        """
        if not self._writable:
            raise StoreError(f"{self.folder}: was opened for reading; it takes no more clips")
        return ShardWriter(self.folder, self.frame_layers or None, self.refresh)

    def add(self, keys: Sequence[str], files: Sequence[str], features: PooledFeatures) -> None:
        """Write one shard of pooled features; it is on disk, whole, when this returns.

        Raises
        ------
        StoreError
            If it cannot be written, e.g. on a full disk; nothing half written stays.
        """
        with self.shard() as shard:
            shard.finish(keys, files, features)

    def get(self, keys: Sequence[str], names: Sequence[str] | None = None) -> PooledFeatures:
        """Return the features of clips, in the order of ``keys``; checked on the way by their checksums.

        Parameters
        ----------
        keys : sequence of str
            Content addresses.
        names : sequence of str, optional
            Statistics wanted; no other is read off the disk. All by default.

        Raises
        ------
        StoreError
            If a key is not there or a shard is damaged.
        UsageError
            If the store does not hold a statistic.
        """
        kept = tuple(self.made_by["statistics"])
        names = kept if names is None else tuple(names)
        for name in names:
            if name not in kept:
                raise UsageError(f"{self.folder}: holds no statistic {name!r}; {nearest(name, kept)}")
        places: dict[str, list[tuple[int, int]]] = {}  # shard → (row in it, row of the result)
        for i, (shard, row) in enumerate(self._places(keys)):
            places.setdefault(shard, []).append((row, i))
        arrays = {name: np.empty((len(keys), *self._shape()), np.float32) for name in names}
        counts = {c: np.empty(len(keys), bool if c == "too_short" else np.int64) for c in COUNTS}
        for shard in sorted(places):
            # In the order of the disk: read out of order, it would fetch what lies around each clip as well.
            rows, at = zip(*sorted(places[shard]), strict=True)
            with telling_damage(self._shards[shard].table):
                for column, values in self._shards[shard].read(COUNTS).items():
                    counts[column][list(at)] = np.array(values)[list(rows)]
                self._shards[shard].copy_rows(rows, arrays, at)
        return PooledFeatures(arrays, **counts)

    def frames(self, key: str, layers: Sequence[int] | None = None) -> Half:
        """Return the frames of a clip: ``(layers, frames, dim)`` float16, read-only.

        They are memory-mapped, so that only what is looked at is read, and one layer is one stretch of the disk. A
        clip that is longer than a piece of frames (64 MB, a minute of 13 layers of 768) is joined in memory: see
        :meth:`frame_blocks` for clips of hours. Checksums are not checked here but by :meth:`verify`.

        Parameters
        ----------
        key : str
            Content address.
        layers : sequence of int, optional
            Numbers of layers, in the order wanted; all that are kept by default.

        Raises
        ------
        StoreError
            If the clip is not there, or its frames are damaged.
        UsageError
            If the frames of a layer are not kept.
        """
        blocks = [block for _, block in self.frame_blocks(key, layers)]
        if len(blocks) == 1:
            return blocks[0]
        joined: Half = np.concatenate(blocks, axis=1)
        joined.flags.writeable = False
        return joined

    def frame_blocks(self, key: str, layers: Sequence[int] | None = None) -> Iterator[tuple[int, Half]]:
        """Yield the frames of a clip a piece at a time, each with its first frame; memory stays flat for any length.

        Takes and raises what :meth:`frames` does.
        """
        kept = self.frame_layers
        wanted = kept if layers is None else tuple(layers)
        if not wanted:
            raise UsageError(f"{self.folder}: keeps no frames" if not kept else "no layer is named")
        for layer in wanted:
            if layer not in kept:
                held = f"those of layers {', '.join(map(str, kept))}" if kept else "none at all"
                raise UsageError(f"{self.folder}: keeps no frames of layer {layer}, but {held}")
        ((name, row),) = self._places([key])
        shard = self._shards[name]
        with telling_damage(shard.table):
            for first, run in read_runs(shard.pieces_of(row), key):
                yield first, of_layers(run, [kept.index(layer) for layer in wanted])

    def speech(self, keys: Sequence[str]) -> list[SpeechSegments]:
        """Return where clips hold speech, in the order of ``keys``, as the store's detector found it.

        In the time of their frames: where silence was left out, without it.

        Raises
        ------
        StoreError
            If a key is not there, a shard is damaged, or the store was filled by a Subtone that did not keep it.
        """
        found: dict[str, list[SpeechSegments]] = {}
        for name in dict.fromkeys(name for name, _ in self._places(keys)):
            with telling_damage(self._shards[name].table):
                try:
                    found[name] = self._shards[name].speech()
                except LookupError as error:
                    raise StoreError(
                        f"{self.folder}: {name} does not say where its clips hold speech, as none of earlier "
                        "versions does; extract into another folder"
                    ) from error
        return [found[name][row] for name, row in self._places(keys)]

    def frame_places(self, keys: Sequence[str]) -> list[list[FramePlace]]:
        """Return where the frames of clips lie on disk, run by run; see :mod:`subtone.extraction.maps`.

        Raises
        ------
        StoreError
            If a clip is not there, its frames are damaged, or the store keeps none.
        """
        if not self.frame_layers:
            raise StoreError(f"{self.folder}: keeps no frames; extract into another folder with --frames")
        headers: dict[Path, Mapping[str, TensorPlace]] = {}  # clips share pieces: each is opened once
        found = []
        for key, (name, row) in zip(keys, self._places(keys), strict=True):
            shard = self._shards[name]
            with telling_damage(shard.table):
                pieces = shard.pieces_of(row)
                headers |= {path: tensor_places(path) for path in pieces if path not in headers}
                found.append(list(places_of({path: headers[path] for path in pieces}, key)))
        return found

    def verify(self) -> None:
        """Read every file and compare it with its checksum.

        Raises
        ------
        StoreError
            If shards are damaged; each is named with the way out.
        """
        damaged = []
        for name in sorted(self._shards):
            try:
                self._shards[name].check()
            except StoreError as error:
                damaged.append(error)
        _raise_all(damaged)

    def _places(self, keys: Sequence[str]) -> list[tuple[str, int]]:
        missing = [key for key in keys if key not in self._at]
        if missing:
            raise StoreError(
                f"{self.folder}: {len(missing)} of {len(keys)} clips are not in this store, e.g. {missing[0]}"
            )
        return [self._at[key] for key in keys]

    def _shape(self) -> tuple[int, int]:
        """Layers and width of a statistic."""
        for shard in self._shards.values():
            with telling_damage(shard.table):
                _, layers, dim = next(iter(open_tensors(shard.pooled).values())).shape
                return layers, dim
        return 0, 0

    def _sweep(self) -> None:
        """Delete what killed runs had put in place before its table: it does not count, and nobody waits for it."""
        if not self._without_table():
            return
        with alone_with(self.folder / MANIFEST) as alone:
            if alone:
                self.refresh()
                for path in self._without_table():
                    with contextlib.suppress(OSError):  # a store that may only be read is fine to read
                        path.unlink()

    def _without_table(self) -> list[Path]:
        known = {path for shard in self._shards.values() for path in shard.files()}
        found = [*self.folder.glob("pooled-*.safetensors"), *self.folder.glob("frames-*.safetensors")]
        return [path for path in found if path not in known]


def _raise_all(damaged: Sequence[StoreError]) -> None:
    if damaged:
        raise StoreError("; ".join(map(str, damaged)))
