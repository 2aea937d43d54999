"""A folder of pooled features on disk: shards that appear whole, and a fingerprint of how they were made."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
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

SCHEMA = 1
MANIFEST = "store.json"
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
        for table in sorted(self.folder.glob("shard-*.parquet")):
            keys = pd.read_parquet(table, columns=["key"])["key"]
            self._at.update({key: (table.stem, row) for row, key in enumerate(keys)})

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: str) -> bool:
        return key in self._at

    def add(self, keys: Sequence[str], files: Sequence[str], features: PooledFeatures) -> None:
        """Write one shard; it is on disk, whole, when this returns.

        Raises
        ------
        StoreError
            If it cannot be written, e.g. on a full disk; nothing half written stays.
        """
        name = f"shard-{len(list(self.folder.glob('shard-*.parquet'))):05d}"
        counts = {c: getattr(features, c) for c in _COUNTS}
        table = pd.DataFrame({"key": list(keys), "file": list(files), **counts})
        arrays = {s: np.ascontiguousarray(values) for s, values in features.statistics.items()}
        _write(self.folder / f"{name}.safetensors", lambda path: save_file(arrays, path))
        _write(self.folder / f"{name}.parquet", lambda path: table.to_parquet(path, index=False))
        self._at.update({key: (name, row) for row, key in enumerate(keys)})

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

    def _read(self, shard: str) -> PooledFeatures:
        try:
            arrays = load_file(self.folder / f"{shard}.safetensors")
            table = pd.read_parquet(self.folder / f"{shard}.parquet")
        except Exception as error:
            raise StoreError(
                f"{self.folder}: {shard} is damaged ({error}); delete its two files and extract again"
            ) from error
        return PooledFeatures(arrays, *(table[c].to_numpy() for c in _COUNTS))

    def _open(self) -> None:
        manifest = self.folder / MANIFEST
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"{self.folder}: is a file; a store is a folder, name another one")
        if not manifest.exists():
            if self.folder.is_dir() and any(p.name[0] != "." for p in self.folder.iterdir()):
                raise StoreError(f"{self.folder}: holds other files and no {MANIFEST}; name an empty folder")
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{self.folder}: cannot be made: {error.strerror}") from error
            text = json.dumps(self.made_by, indent=2, sort_keys=True)
            _write(manifest, lambda path: path.write_text(text, encoding="utf-8"))
            return
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{manifest}: cannot be read ({error}); extract into another folder") from error
        differs = [k for k in self.made_by if found.get(k) != self.made_by[k]]
        if differs:
            raise StoreError(
                f"{self.folder}: was made with another {', '.join(differs)}; its features would not fit. Name "
                "another --store folder, or delete this one"
            )


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name, flush to disk, rename: the file appears whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except Exception as error:  # safetensors and pyarrow have error types of their own for a full disk
        raise StoreError(f"{path}: could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
