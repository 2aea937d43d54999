"""A folder of pooled features on disk: shards that appear whole, and a fingerprint of how they were made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from subtone.errors import StoreError
from subtone.extraction.features import PooledFeatures
from subtone.speech import Detector
from subtone.upstreams import Upstream
from subtone.upstreams.files import appears_whole

SCHEMA = 1
MANIFEST = "store.json"
#: A hidden file so old is no longer being written: a run was killed.
STALE_S = 3600.0
_COUNTS = ("num_samples", "num_frames", "speech_frames", "too_short")
_LIBRARIES = ("numpy", "onnxruntime", "soxr", "torch", "transformers")


def fingerprint(upstream: Upstream, detector: Detector, statistics: Sequence[str]) -> dict[str, Any]:
    """Return all that features depend on beside the audio: two stores fit when these are equal."""
    return {
        "schema": SCHEMA,
        "upstream": upstream.fingerprint(),
        "detector": detector.config(),
        "statistics": sorted(statistics),
        "sample_rate_hz": upstream.grid.sample_rate_hz,
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


class FeatureStore:
    """Pooled features on disk, found by content address.

    Each shard is a safetensors file with one array a statistic, and a Parquet table of its clips, which is renamed
    into place last: a shard without its table does not count, so that a run killed at any moment leaves no half
    shard behind.

    Parameters
    ----------
    folder : Path
        Made when missing.
    made_by : mapping
        The :func:`fingerprint` that the features must have.

    Raises
    ------
    StoreError
        If the folder holds features of another fingerprint (the message names what differs), or is no store.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.made_by = json.loads(json.dumps(made_by))
        self._open()
        self._at: dict[str, tuple[str, int]] = {}
        self._num_samples: dict[str, int] = {}
        for path in sorted(self.folder.glob("shard-*.parquet")):
            try:
                table = pd.read_parquet(path, columns=["key", "num_samples"])
            except Exception as error:  # pyarrow has many types for a file that is none of its own
                raise _damaged(self.folder, path.stem, error) from error
            self._know(path.stem, table["key"], table["num_samples"])

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: str) -> bool:
        return key in self._at

    def num_samples(self, key: str) -> int:
        """Return the length of a clip in samples at 16 kHz, without reading its features."""
        return self._num_samples[key]

    def add(self, keys: Sequence[str], files: Sequence[str], features: PooledFeatures) -> None:
        """Write one shard; it is on disk, whole, when this returns.

        Raises
        ------
        StoreError
            If it cannot be written, e.g. on a full disk; nothing half written stays.
        """
        # Named by what it holds, so that two runs that fill one store at a time never write one shard together.
        name = "shard-" + hashlib.sha256("|".join(keys).encode()).hexdigest()[:16]
        counts = {c: getattr(features, c) for c in _COUNTS}
        table = pd.DataFrame({"key": list(keys), "file": list(files), **counts})
        arrays = {s: np.ascontiguousarray(values) for s, values in features.statistics.items()}
        _write(self.folder / f"{name}.safetensors", lambda path: save_file(arrays, path))
        _write(self.folder / f"{name}.parquet", lambda path: table.to_parquet(path, index=False))
        self._know(name, keys, features.num_samples)

    def get(self, keys: Sequence[str]) -> PooledFeatures:
        """Return the features of clips, in the order of ``keys``; each shard is read once.

        Raises
        ------
        StoreError
            If a key is not there or a shard is damaged.
        """
        missing = [key for key in keys if key not in self._at]
        if missing:
            raise StoreError(f"{self.folder}: {len(missing)} of {len(keys)} clips are not in this store")
        places = [self._at[key] for key in keys]
        parts, order = [], []
        for shard in sorted({name for name, _ in places}):
            wanted = [i for i, (name, _) in enumerate(places) if name == shard]
            parts.append(self._read(shard).select(np.array([places[i][1] for i in wanted])))
            order += wanted
        return PooledFeatures.concatenate(parts).select(np.argsort(order))

    def _know(self, shard: str, keys: Iterable[str], num_samples: Iterable[int]) -> None:
        for row, (key, samples) in enumerate(zip(keys, num_samples, strict=True)):
            self._at[key], self._num_samples[key] = (shard, row), int(samples)

    def _read(self, shard: str) -> PooledFeatures:
        try:
            arrays = load_file(self.folder / f"{shard}.safetensors")
            table = pd.read_parquet(self.folder / f"{shard}.parquet")
            counts = [table[name].to_numpy() for name in _COUNTS]
        except Exception as error:  # each library has types of its own for a broken file
            raise _damaged(self.folder, shard, error) from error
        rows = {len(values) for values in arrays.values()}
        if sorted(arrays) != self.made_by["statistics"] or rows != {len(table)}:
            raise _damaged(self.folder, shard, "its two files do not belong together")
        return PooledFeatures(arrays, *counts)

    def _open(self) -> None:
        manifest = self.folder / MANIFEST
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise StoreError(f"{self.folder}: is a file; a store is a folder, name another one")
            if not manifest.exists():
                if self.folder.is_dir() and any(p.name[0] != "." for p in self.folder.iterdir()):
                    raise StoreError(
                        f"{self.folder}: holds other files and no {MANIFEST}; name an empty folder"
                    )
                self.folder.mkdir(parents=True, exist_ok=True)
                text = json.dumps(self.made_by, indent=2, sort_keys=True)
                _write(manifest, lambda path: path.write_text(text, encoding="utf-8"))
                return
            found = json.loads(manifest.read_text(encoding="utf-8"))
            self._sweep()
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be opened: {error.strerror or error}") from error
        except ValueError as error:
            raise StoreError(f"{manifest}: is damaged ({error}); extract into another folder") from error
        if not isinstance(found, dict):
            raise StoreError(f"{manifest}: is damaged (no JSON object); extract into another folder")
        differs = [_difference(k, found.get(k), value) for k, value in self.made_by.items()]
        if any(differs):
            raise StoreError(
                f"{self.folder}: was made with another {', '.join(filter(None, differs))}; its features would not "
                "fit. Name another --store folder, or delete this one"
            )

    def _sweep(self) -> None:
        """Delete what killed runs left half written; a file that another run is writing now is younger."""
        for path in self.folder.glob(".shard-*"):
            with contextlib.suppress(OSError):  # a store that may only be read is fine to read
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()


def _difference(name: str, found: Any, wanted: Any) -> str:
    """Say in what a setting differs; nothing when it does not."""
    if found == wanted:
        return ""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return name
    inner = [k for k in sorted({*found, *wanted}) if found.get(k) != wanted.get(k)]
    return f"{name} ({', '.join(f'{k} {found.get(k)}, now {wanted.get(k)}' for k in inner)})"


def _damaged(folder: Path, shard: str, why: object) -> StoreError:
    return StoreError(f"{folder}: {shard} is damaged ({why}); delete its two files and extract again")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name, flush to disk, rename: the file appears whole or not at all."""
    try:
        with appears_whole(path) as partial:
            write(partial)
    except Exception as error:  # safetensors and pyarrow have error types of their own for a full disk
        raise StoreError(
            f"{path}: could not be written: {error}; make room, or name another folder"
        ) from error
