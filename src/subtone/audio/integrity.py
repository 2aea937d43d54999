"""Signs in a container that its end is missing, where libsndfile would silently return a shorter clip."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_OGG_PAGE_MAX = 65_307
# Sizes that mean "not known when the header was written": a stream from a pipe, read to its end.
_UNKNOWN_FROM = 0x7FFF_0000
_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"fact", b"bext", b"cue ", b"smpl", b"JUNK", b"PAD ", b"iXML", b"PEAK")
_SLACK_BYTES = 2  # Some writers count a pad byte that they never wrote.


@dataclass(frozen=True)
class Damage:
    """Why a recording must have been longer; ``share`` (0–1) of it is there, None if not known."""

    why: str
    share: float | None = None


def look_for_damage(handle: BinaryIO, format_name: str) -> Damage | None:
    """Return what is missing at the end of a WAV, AIFF or Ogg file, or None if nothing is known to be."""
    size = handle.seek(0, os.SEEK_END)
    if format_name in ("WAV", "WAVEX"):
        return _chunked(handle, size, b"data")
    if format_name == "AIFF":
        return _chunked(handle, size, b"SSND")
    if format_name == "OGG":
        return _ogg(handle, size)
    return None


def _chunked(handle: BinaryIO, size: int, wanted: bytes) -> Damage | None:
    handle.seek(0)
    order = ">" if handle.read(4) in (b"FORM", b"RIFX") else "<"
    at = 12
    while at + 8 <= size:
        handle.seek(at)
        name, length = struct.unpack(f"{order}4sI", handle.read(8))
        if name == wanted:
            there = size - at - 8
            if length == 0 or length >= _UNKNOWN_FROM or there + _SLACK_BYTES >= length:
                return None
            return Damage(f"{there} of {length} bytes of samples are there", there / length)
        at += 8 + length + length % 2
    return None


def has_samples_behind_empty_data(handle: BinaryIO) -> bool:
    """Tell whether a WAV's "data" chunk of declared length 0 is followed by anything but another chunk.

    A recorder that was killed leaves such a file.
    """
    handle.seek(0)
    start = handle.read(4096)
    at = start.find(b"data\0\0\0\0", 12)
    behind = start[at + 8 : at + 12]
    return at >= 0 and len(behind) == 4 and behind not in _CHUNKS


def _ogg(handle: BinaryIO, size: int) -> Damage | None:
    tail_at = max(0, size - _OGG_PAGE_MAX - 27)
    handle.seek(tail_at)
    tail = handle.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return None
    page = tail[at:]
    cut = Damage("its last Ogg page is incomplete")
    if len(page) < 27 or len(page) < 27 + page[26]:
        return cut
    return cut if len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]) else None
