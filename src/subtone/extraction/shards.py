"""A shard of a store: some clips' features, their frames if kept, and a table that is put in place last.

``shard-X.parquet`` names the clips, their lengths, and for every clip and statistic the CRC-32 of its numbers; its
footer names the other files with size and SHA-256: ``pooled-X.safetensors`` with one array a statistic, and pieces of
frames. Each X is the beginning of the SHA-256 of the file: the same content is the same file, whoever writes it and how
often, and other content never takes its place. A shard without its table does not count.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from subtone.errors import StoreError
from subtone.extraction.features import PooledFeatures
from subtone.extraction.frames import FrameWriter, Half
from subtone.extraction.manifest import MANIFEST
from subtone.extraction.scratch import Scratch, fsync_folder, holding
from subtone.extraction.tensors import Array, digest_file, open_tensors, whole, write_tensors
from subtone.speech import SpeechSegments

#: Columns of a table that say how long a clip is, and of what.
COUNTS = ("num_samples", "num_frames", "speech_frames", "too_short")
#: Column that says where a clip holds speech, in the time of its frames: its samples, then from and to, run by run.
SPEECH = "speech"
_FOOTER = b"subtone"
_DIGITS = 16  # of a SHA-256 in the name of a file


def crc32(values: Array) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).data.cast("B"))


class ShardWriter:
    """Shards in the making, one after the other, in a hidden folder that vanishes when they are not finished.

    Made by :meth:`subtone.extraction.store.FeatureStore.shard`. Pooled features are held by the caller until
    :meth:`finish`; frames go to disk as they come. Clips that have not ended when a shard is finished go into one
    of the next, so that nobody has to wait at the end of a shard.

    Examples
    --------
    ``with store.shard() as shard:`` add frames of clips, each followed by ``shard.end_clip(key)`` in the order of the
    clips; then ``shard.finish(keys, files, features)``, and so on with the next clips. What is not finished when the
    block is left leaves nothing behind.
    """

    def __init__(self, folder: Path, layers: Sequence[int] | None, on_done: Callable[[], None]) -> None:
        self._folder = folder
        self._on_done = on_done
        self._scratch: Scratch | None = None
        self._lost: OSError | None = None  # why nothing more can be taken
        self._making_scratch = threading.Lock()
        self._frames = None if layers is None else FrameWriter(self._hidden, layers)

    def add_frames(self, key: str, first_frame: int, frames: npt.NDArray[np.floating] | Tensor) -> None:
        """Take the next frames of a clip, in half precision; may be called from several threads.

        Parameters
        ----------
        key : str
            Of the clip.
        first_frame : int
            How many frames of this clip came before.
        frames : ndarray or Tensor
            ``(layers, n, dim)``, all layers of the upstream, on any device; those that the store keeps are taken.

        Raises
        ------
        UsageError
            If a number is not finite in half precision. The clip is dropped; others are not touched.
        StoreError
            If the disk is full, among others. Clips that are in no shard are lost, nothing of them stays, and no
            more are taken.
        ValueError
            If the frames do not follow those that came before.
        """
        if self._frames is None:
            raise ValueError("this store keeps no frames")
        with self._told():
            self._frames.add(key, first_frame, frames)

    def add_half(self, key: str, first_frame: int, half: Half) -> None:
        """Take the next frames of a clip as :func:`~subtone.extraction.frames.half_of` gives them; see `add_frames`."""
        if self._frames is None:
            raise ValueError("this store keeps no frames")
        with self._told():
            self._frames.add_half(key, first_frame, half)

    def end_clip(self, key: str) -> None:
        """Say that all frames of a clip have come: it need not be held any longer.

        Called in the order of the clips, so that the files do not depend on which thread was first.
        """
        if self._frames is not None:
            with self._told():
                self._frames.end(key)

    def drop(self, key: str) -> None:
        """Forget the frames of a clip that failed halfway."""
        if self._frames is not None:
            self._frames.drop(key)

    def finish(
        self,
        keys: Sequence[str],
        files: Sequence[str],
        features: PooledFeatures,
        speech: Sequence[SpeechSegments] | None = None,
    ) -> None:
        """Put the shard in place; it is on disk, whole, when this returns.

        Parameters
        ----------
        keys, files, features
            Of the clips, in their order.
        speech
            Where each clip holds speech, in the time of its frames; None leaves it open.

        Raises
        ------
        StoreError
            If it cannot be written, e.g. on a full disk; nothing half written stays.
        ValueError
            If the frames of a clip are not as many as its features say, or a clip has ended that is not named.
        """
        with self._told():
            self._finish(keys, files, features, speech)
        if self._frames is None or self._frames.is_empty:
            self.close()
        self._on_done()

    def _hidden(self) -> Path:
        with self._making_scratch:
            if self._lost is not None:  # pieces that came before are gone
                raise self._lost
            if self._scratch is None:
                self._scratch = Scratch(self._folder)
            return self._scratch.folder

    def _finish(
        self,
        keys: Sequence[str],
        files: Sequence[str],
        features: PooledFeatures,
        speech: Sequence[SpeechSegments] | None,
    ) -> None:
        folder = self._hidden()
        footer: dict[str, Any] = {}
        # A name that is no Unicode (Linux allows any bytes) is told as it can be.
        names = [file.encode("utf-8", "backslashreplace").decode() for file in files]
        rows: dict[str, list[Any]] = {"key": list(keys), "file": names}
        rows |= {name: getattr(features, name).tolist() for name in COUNTS}
        if speech is not None:
            rows[SPEECH] = [
                [one.num_samples, *np.stack([one.starts, one.ends], axis=1).ravel().tolist()]
                for one in speech
            ]
        moves: dict[str, Path] = {}
        if self._frames is not None:
            pieces = self._frames.finish(dict(zip(keys, rows["num_frames"], strict=True)))
            distinct = list(dict.fromkeys(piece for clip in pieces for piece in clip))
            numbers = {piece: i for i, piece in enumerate(distinct)}
            footer["frames"] = [[piece.name, piece.size, piece.sha256] for piece in distinct]
            rows["frames"] = [[numbers[piece] for piece in clip] for clip in pieces]
            moves = {piece.name: piece.path for piece in distinct}
        arrays = {s: np.ascontiguousarray(features.statistics[s], "<f4") for s in sorted(features.statistics)}
        for name, values in arrays.items():
            rows[f"crc32_{name}"] = [crc32(one) for one in values]
        layouts = {name: whole(values) for name, values in arrays.items()}
        written = write_tensors(folder / "pooled", layouts)
        footer["pooled"] = [f"pooled-{written.sha256[:_DIGITS]}.safetensors", written.size, written.sha256]
        moves[footer["pooled"][0]] = folder / "pooled"
        table = _table(rows, footer)
        with (folder / "table").open("xb") as file:
            file.write(table)
            file.flush()
            os.fsync(file.fileno())
        moves[_name(table)] = folder / "table"
        self._put_in_place(moves)

    def _put_in_place(self, moves: Mapping[str, Path]) -> None:
        """Rename files to where they belong, the table, which is the last, once the others are safe."""
        placed = []
        *_, table = moves
        # Whoever finds a file without a table under this lock knows that its writer is dead.
        with holding(self._folder / MANIFEST):
            try:
                for name, path in moves.items():
                    if name == table:
                        fsync_folder(self._folder)
                    target = self._folder / name
                    if not target.exists():
                        placed.append(target)
                    path.replace(target)
                fsync_folder(self._folder)
            except BaseException:
                for target in reversed(placed):  # the table first
                    target.unlink(missing_ok=True)
                raise

    def close(self) -> None:
        """Delete what was not put in place; may be called again."""
        with self._making_scratch:
            if self._scratch is not None:
                self._scratch.close()
            self._scratch = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lost = error
            self.close()
            raise StoreError(
                f"{self._folder}: a shard could not be written: {error.strerror or error}; make room, or name another "
                "folder"
            ) from error


def _table(rows: Mapping[str, Sequence[Any]], footer: Mapping[str, Any]) -> memoryview:
    types = {
        "key": pa.string(),
        "file": pa.string(),
        "too_short": pa.bool_(),
        SPEECH: pa.list_(pa.int64()),
        "frames": pa.list_(pa.int32()),
    }
    fields = [
        (name, types.get(name, pa.uint32() if name.startswith("crc32_") else pa.int64())) for name in rows
    ]
    # No pandas on the way: it would write its own version into the file.
    schema = pa.schema(fields, {_FOOTER: json.dumps(footer, sort_keys=True).encode()})
    content = io.BytesIO()
    pq.write_table(pa.table(dict(rows), schema), content)
    return content.getbuffer()


def _name(table: bytes | memoryview) -> str:
    return f"shard-{hashlib.sha256(table).hexdigest()[:_DIGITS]}.parquet"


@dataclass(frozen=True)
class Shard:
    """A shard that is in place.

    Parameters
    ----------
    table
        Its Parquet file.
    footer
        What its table says of the other files.
    clip_pieces
        For each clip, which pieces in the footer hold its frames; empty when the store keeps none.
    """

    table: Path
    footer: Mapping[str, Any]
    clip_pieces: Sequence[Sequence[int]] = ()

    @property
    def pooled(self) -> Path:
        """The file with one array a statistic."""
        return self.table.with_name(str(self.footer["pooled"][0]))

    def files(self) -> dict[Path, tuple[int, str]]:
        """Return the files beside the table, each with its size and SHA-256."""
        listed = [self.footer["pooled"], *self.footer.get("frames", [])]
        return {self.table.with_name(str(name)): (int(size), str(sha256)) for name, size, sha256 in listed}

    def pieces_of(self, row: int) -> list[Path]:
        """Return the pieces that hold the frames of a clip, in order."""
        return [self.table.with_name(str(self.footer["frames"][i][0])) for i in self.clip_pieces[row]]

    @staticmethod
    def open(table: Path) -> tuple[Shard, dict[str, Any]]:
        """Return a shard and its columns ``key`` and ``num_samples``, once the sizes of all files fit.

        Raises
        ------
        StoreError
            If a file is not there or is damaged.
        """
        with telling_damage(table):
            opened = _opened(table)
            footer = json.loads(opened.schema_arrow.metadata[_FOOTER])
            wanted = ["key", "num_samples", *(["frames"] if "frames" in footer else [])]
            columns = opened.read(wanted, use_threads=False).to_pydict()
            shard = Shard(table, footer, columns.pop("frames", ()))
            for path, (size, _) in shard.files().items():
                if path.stat().st_size != size:
                    raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {size}")
            return shard, columns

    def read(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return columns of the table, whose checksum is checked on the way."""
        return dict(_opened(self.table).read(list(columns), use_threads=False).to_pydict())

    def speech(self) -> list[SpeechSegments]:
        """Return where each clip holds speech.

        Raises
        ------
        LookupError
            If the table does not say.
        """
        opened = _opened(self.table)
        if SPEECH not in opened.schema_arrow.names:
            raise LookupError(SPEECH)
        column = opened.read([SPEECH], use_threads=False).to_pydict()[SPEECH]
        return [SpeechSegments(one[1::2], one[2::2], one[0]) for one in column]

    def copy_rows(
        self, rows: Sequence[int], into: Mapping[str, npt.NDArray[np.float32]], at: Sequence[int]
    ) -> None:
        """Copy statistics of some clips to ``into[name][at]``; nothing else is read. Checked by their CRC-32."""
        arrays = open_tensors(self.pooled, dict.fromkeys(into, (min(rows), max(rows) + 1)))
        sums = self.read([f"crc32_{name}" for name in into])
        for name, values in into.items():
            for row, place in zip(rows, at, strict=True):
                values[place] = arrays[name][row]
                if crc32(values[place]) != sums[f"crc32_{name}"][row]:
                    raise ValueError(f"{name} of its clip {row} fails its checksum")

    def check(self) -> None:
        """Read all files and compare them with their checksums.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        with telling_damage(self.table):
            _opened(self.table)
            for path, (_, sha256) in self.files().items():
                if digest_file(path).sha256 != sha256:
                    raise ValueError(f"{path.name} fails its checksum")


def _opened(table: Path) -> pq.ParquetFile:
    content = table.read_bytes()
    if _name(content) != table.name:
        raise ValueError(f"{table.name} fails its checksum")
    return pq.ParquetFile(pa.BufferReader(content))


@contextmanager
def telling_damage(table: Path) -> Iterator[None]:
    """Turn what libraries raise on a broken file into one error with the way out."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError):
            why = f"{Path(str(error.filename)).name} is not there"
        elif isinstance(error, OSError) and error.errno:  # the system's: pyarrow's own have no number
            raise StoreError(f"{table.parent}: {table.stem} cannot be read: {error.strerror}") from error
        else:
            why = " ".join(str(error).split())[:200]  # some libraries tell it in many lines
        raise StoreError(
            f"{table.parent}: {table.stem} is damaged ({why}); delete {table.name} and extract again"
        ) from error
