"""A shard of a frame corpus: the frames of some recordings, and a table that is put in place last.

``table-X.parquet`` has a row a recording and names the other file with size and SHA-256: ``frames-X.safetensors`` with
the frames of all utterances one after the other. Each X is the beginning of the SHA-256 of the file. A file of frames
without its table does not count.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from subtone.errors import StoreError
from subtone.extraction.scratch import Scratch, fsync_folder
from subtone.extraction.tensors import Layout, open_tensors, write_tensors

Half = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]
#: Added to variances, as in the filter banks of `subtone.upstreams`.
VARIANCE_FLOOR = 1e-7
_FOOTER = b"subtone"
_DIGITS = 16
_COLUMNS = {
    "key": pa.string(),
    "file": pa.string(),
    "num_samples": pa.int64(),
    "frames": pa.list_(pa.int32()),
}


@dataclass(frozen=True, eq=False)
class Utterance:
    """The frames of an utterance as they lie on disk.

    They are normalised first and rounded to half precision then: log energies lie around 15, where half precision
    has steps of 0.01, normalised ones around 0.

    Parameters
    ----------
    features
        ``(frames, num_mel)`` float16, each band with mean 0 and variance 1.
    mean, deviation
        ``(num_mel,)`` float32, what was taken off each band and what it was divided by.
    intensity
        ``(frames,)`` float16 in [0, 1]; None where there is none.
    """

    features: Half
    mean: Single
    deviation: Single
    intensity: Half | None

    @classmethod
    def of(cls, log_mel: Single, intensity: Single | None) -> Utterance:
        """Normalise the filter banks of an utterance, ``(frames, num_mel)``, over its frames."""
        exact = log_mel.astype(np.float64)
        mean = exact.mean(axis=0)  # (num_mel,)
        deviation = np.sqrt(exact.var(axis=0) + VARIANCE_FLOOR)  # (num_mel,)
        return cls(
            ((exact - mean) / deviation).astype(np.float16),
            mean.astype(np.float32),
            deviation.astype(np.float32),
            None if intensity is None else intensity.astype(np.float16),
        )

    def log_mel(self) -> Single:
        """Return the filter banks before normalisation, ``(frames, num_mel)``, to the precision of what is kept."""
        restored: Single = self.features.astype(np.float32) * self.deviation + self.mean
        return restored


@dataclass(frozen=True)
class Recording:
    """A row of a table.

    Parameters
    ----------
    key
        Content address, as in feature stores.
    file
        As it was called when it was read.
    num_samples
        Length at 16 kHz.
    frames
        Frames of each of its utterances; none when it is too short for one.
    """

    key: str
    file: str
    num_samples: int
    frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard that is in place.

    Parameters
    ----------
    table
        Its Parquet file.
    recordings
        In the order of their frames.
    frames
        The file of their frames; None when no recording has any.
    """

    table: Path
    recordings: tuple[Recording, ...]
    frames: Path | None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return features, intensity (if any), mean and deviation, memory-mapped; see :func:`write_shard`."""
        if self.frames is None:
            return {}
        try:
            return open_tensors(self.frames)
        except (OSError, ValueError) as error:
            raise damaged(self.table, error) from error

    @staticmethod
    def open(table: Path) -> Shard:
        """Read a table and check that its frames are there, whole.

        Raises
        ------
        StoreError
            If a file is not there or is damaged.
        """
        try:
            content = table.read_bytes()
            if _table_name(content) != table.name:
                raise ValueError("its table fails its checksum")
            parsed = pq.ParquetFile(pa.BufferReader(content))
            rows = parsed.read(use_threads=False).to_pylist()
            named = json.loads(parsed.schema_arrow.metadata[_FOOTER])["frames"]
            frames = None
            if named is not None:
                frames = table.with_name(str(named[0]))
                if frames.stat().st_size != named[1]:
                    raise ValueError(f"{frames.name} has {frames.stat().st_size} bytes instead of {named[1]}")
            recordings = (Recording(**{**row, "frames": tuple(row["frames"])}) for row in rows)
            return Shard(table, tuple(recordings), frames)
        except (OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
            raise damaged(table, error) from error


def damaged(table: Path, error: Exception) -> StoreError:
    """Return the error that tells of a broken shard, with the way out."""
    why = " ".join(str(error).split())[:200]
    return StoreError(
        f"{table.parent}: {table.stem} is damaged ({why}); delete {table.name} and give the same command again"
    )


def write_shard(folder: Path, recordings: Sequence[Recording], utterances: Sequence[Utterance]) -> Shard:
    """Put a shard in place; it is on disk, whole, when this returns.

    The file of frames holds ``features (frames, num_mel)`` and ``intensity (frames,)`` float16 of all utterances, one
    after the other, and ``mean`` and ``deviation (utterances, num_mel)`` float32.

    Raises
    ------
    StoreError
        If it cannot be written, e.g. on a full disk; nothing half written stays.
    """
    try:
        with Scratch(folder) as scratch:
            named: list[object] | None = None
            if utterances:
                written = write_tensors(scratch / "frames", _layouts(utterances))
                named = [f"frames-{written.sha256[:_DIGITS]}.safetensors", written.size, written.sha256]
                (scratch / "frames").replace(folder / str(named[0]))
            table = _table(recordings, {"frames": named})
            with (scratch / "table").open("xb") as file:
                file.write(table)
                file.flush()
                os.fsync(file.fileno())
            fsync_folder(folder)  # the frames are safe before a table names them
            (scratch / "table").replace(folder / _table_name(table))
            fsync_folder(folder)
    except OSError as error:
        raise StoreError(
            f"{folder}: a shard could not be written: {error.strerror or error}; make room, or name another folder"
        ) from error
    frames = None if named is None else folder / str(named[0])
    return Shard(folder / _table_name(table), tuple(recordings), frames)


def sweep(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete frames that a killed run left without a table. Only for one who has the folder alone."""
    known = {shard.frames for shard in shards}
    for path in folder.glob("frames-*.safetensors"):
        if path not in known:
            path.unlink()


def _layouts(utterances: Sequence[Utterance]) -> dict[str, Layout]:
    count, num_mel = sum(len(u.features) for u in utterances), utterances[0].features.shape[1]
    half, single = np.dtype(np.float16), np.dtype(np.float32)
    layouts = {"features": Layout((count, num_mel), half, [u.features for u in utterances])}
    intensity = [u.intensity for u in utterances if u.intensity is not None]
    if intensity:
        layouts["intensity"] = Layout((count,), half, intensity)
    for name in ("mean", "deviation"):
        rows = [getattr(u, name) for u in utterances]
        layouts[name] = Layout((len(rows), num_mel), single, rows)
    return layouts


def _table(recordings: Sequence[Recording], footer: dict[str, object]) -> bytes:
    schema = pa.schema(list(_COLUMNS.items()), {_FOOTER: json.dumps(footer, sort_keys=True).encode()})
    columns = {name: [getattr(one, name) for one in recordings] for name in _COLUMNS}
    # A name that is no Unicode (Linux allows any bytes) is told as it can be.
    columns["file"] = [file.encode("utf-8", "backslashreplace").decode() for file in columns["file"]]
    content = io.BytesIO()
    pq.write_table(pa.table(columns, schema), content)
    return content.getvalue()


def _table_name(content: bytes) -> str:
    return f"table-{hashlib.sha256(content).hexdigest()[:_DIGITS]}.parquet"
