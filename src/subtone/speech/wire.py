"""Messages between a process that reads recordings and the one that asked: JSON, then raw numbers; never pickles."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_SIZES = struct.Struct("<IQ")  # bytes of JSON, bytes of raw numbers behind it
_MOST_JSON = 1 << 18


class Broken(Exception):
    """The other side is gone, or sends what is no message."""


class Out(Protocol):
    """A raw stream to write to; it may take a part only."""

    def write(self, data: memoryview, /) -> int | None:
        """Write, and return how many bytes were taken."""
        ...


class In(Protocol):
    """A stream to read from."""

    def readinto(self, data: memoryview, /) -> int | None:
        """Fill, and return with how many bytes; 0 at the end."""
        ...


def send(out: Out, header: Mapping[str, Any], *arrays: npt.NDArray[Any]) -> None:
    """Write a header and the bytes of contiguous arrays, without copying them.

    Raises
    ------
    Broken
        When the other side is gone.
    """
    text = json.dumps(header).encode("ascii")
    if len(text) > _MOST_JSON:
        raise ValueError(f"a header of {len(text)} bytes; numbers belong behind it")
    parts = [array.data.cast("B") for array in arrays if array.size]
    for part in (memoryview(_SIZES.pack(len(text), sum(map(len, parts))) + text), *parts):
        at = 0
        while at < len(part):
            try:
                at += out.write(part[at:]) or 0
            except OSError as error:
                raise Broken(str(error)) from error


def receive(source: In) -> tuple[dict[str, Any], int]:
    """Read a header; returns it and how many bytes of numbers follow, for `receive_array`.

    Raises
    ------
    Broken
        At the end of the stream, or when it holds no message.
    """
    sizes = bytearray(_SIZES.size)
    _fill(source, memoryview(sizes))
    length, following = _SIZES.unpack(sizes)
    if length > _MOST_JSON:
        raise Broken(f"a header of {length} bytes")
    text = bytearray(length)
    _fill(source, memoryview(text))
    try:
        header = json.loads(text)
    except ValueError as error:
        raise Broken(f"no JSON: {error}") from error
    if not isinstance(header, dict):
        raise Broken("no JSON object")
    return header, following


def receive_array(source: In, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Read ``count`` numbers straight into an array ``(count,)``.

    Raises
    ------
    Broken
        When the stream ends before.
    """
    array = np.empty(count, dtype=dtype)
    if count:
        _fill(source, array.data.cast("B"))
    return array


def _fill(source: In, into: memoryview) -> None:
    at = 0
    while at < len(into):
        try:
            got = source.readinto(into[at:])
        except (OSError, ValueError) as error:  # ValueError: closed by another thread
            raise Broken(str(error)) from error
        if not got:
            raise Broken("the stream ended")
        at += got
