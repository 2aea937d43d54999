"""Arrays in safetensors files: written as they come, without a second copy in memory; read where they lie on disk.

The library's own writer wants whole contiguous arrays, and its reader copies. The format is simple and public (an
eight-byte length, a JSON header, the bytes), so both directions are done here; the library reads these files as well.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_LONGEST_HEADER = 100_000_000  # bytes, as in the library


@dataclass(frozen=True)
class Written:
    """A file as it was written.

    Parameters
    ----------
    size
        Bytes.
    sha256
        Of all of them, in hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Layout:
    """One array of a file to come, in pieces that are never joined in memory.

    Parameters
    ----------
    shape
        Of the whole.
    dtype
        ``float32`` or ``float16``.
    parts
        C-contiguous arrays whose bytes, one after the other, are those of the whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: Iterable[Array]


@dataclass(frozen=True)
class TensorPlace:
    """Where an array lies in its file: shape, kind of number, first byte."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int


def write_tensors(path: Path, arrays: Mapping[str, Layout]) -> Written:
    """Write a safetensors file in the order given, and flush it to disk.

    Raises
    ------
    OSError
        If the disk is full, among others; what was written so far stays.
    ValueError
        If parts and shape disagree.
    """
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, object] = {}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + math.prod(array.shape) * array.dtype.itemsize
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that every array starts where its numbers are aligned
    digest, size = hashlib.sha256(), 0
    with path.open("xb", buffering=0) as file:

        def put(content: bytes | memoryview) -> None:
            nonlocal size
            digest.update(content)
            rest = memoryview(content)
            while rest:  # the system may take less than it was given, e.g. just before a disk is full
                rest = rest[file.write(rest) :]
            size += len(content)

        put(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            for part in array.parts:
                put(np.ascontiguousarray(part, array.dtype).data.cast("B"))
        if size != 8 + len(text) + end:
            raise ValueError(f"{path}: parts of {size} bytes do not fill shapes of {8 + len(text) + end}")
        os.fsync(file.fileno())
    return Written(size, digest.hexdigest())


def open_tensors(path: Path, rows: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Array]:
    """Return the arrays of a safetensors file, memory-mapped and read-only: nothing is read until it is looked at.

    The file stays mapped as long as one of the arrays lives.

    Parameters
    ----------
    path : Path
        The file.
    rows : mapping, optional
        Of the arrays that will be read, the first row and the one after the last. The system then fetches these at
        once, and not the many megabytes behind them that some are set up to read ahead.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is no safetensors file, or is cut short.
    """
    places = tensor_places(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    views: dict[str, Array] = {
        name: np.frombuffer(mapped, place.dtype, math.prod(place.shape), place.offset).reshape(place.shape)
        for name, place in places.items()
    }
    if rows is not None and hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_RANDOM)
        for name, (first, end) in rows.items():
            start, each = places[name].offset, views[name][0].nbytes
            page = (start + first * each) // mmap.PAGESIZE * mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, start + end * each - page)
    return views


def tensor_places(path: Path) -> dict[str, TensorPlace]:
    """Return where the arrays of a safetensors file lie in it; nothing but its header is read.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is no safetensors file, or is cut short.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise ValueError("it is cut short")
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LONGEST_HEADER, size - 8):
            raise ValueError("it is no safetensors file, or is cut short")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: _place(8 + length, size, spec) for name, spec in header.items()}


def _place(base: int, size: int, spec: Mapping[str, Any]) -> TensorPlace:
    try:
        dtype, shape = _DTYPES[spec["dtype"]], tuple(int(n) for n in spec["shape"])
        start, end = (int(n) for n in spec["data_offsets"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"its header holds {spec!r}") from error
    count = math.prod(shape)
    if start < 0 or count < 0 or end - start != count * dtype.itemsize or base + end > size:
        raise ValueError("its header does not fit its length")
    return TensorPlace(shape, dtype, base + start)


def digest_file(path: Path) -> Written:
    """Read a file once and return what it holds; memory stays flat."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = 0
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return Written(size, digest.hexdigest())


def whole(array: Array) -> Layout:
    """Return the layout of an array that is in memory anyway."""
    return Layout(array.shape, array.dtype, (array,))


def stacked(blocks: Sequence[Array]) -> Layout:
    """Return the layout of ``(layers, n, dim)`` blocks joined along the second axis, a layer at a time."""
    layers, _, dim = blocks[0].shape
    frames = sum(block.shape[1] for block in blocks)
    parts = (block[layer] for layer in range(layers) for block in blocks)
    return Layout((layers, frames, dim), blocks[0].dtype, parts)
