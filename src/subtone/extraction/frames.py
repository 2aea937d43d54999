"""Frames on disk, in half precision: streamed into pieces as they come, read one clip and one layer at a time.

A piece is a safetensors file with one array a clip, ``(layers, frames, dim)``, so that one layer of a clip is one
stretch of the file. Clips that fit into a piece share it and are never cut; a longer one has pieces of its own, all of
the same length. What a piece holds depends on the clips alone, not on the blocks and threads that they came in, and
its name is taken from its content.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.errors import UsageError
from subtone.extraction.tensors import TensorPlace, open_tensors, stacked, write_tensors

#: What a piece holds at most; also what a writer holds in memory for a clip, and for clips that share a piece.
PIECE_BYTES = 64_000_000
_ITEM = 2  # bytes of a half
_LARGEST = 65_504  # that a half can hold

Half = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Piece:
    """A file of frames: where it was written, the name it is to have, its bytes, and its SHA-256."""

    path: Path
    name: str
    size: int
    sha256: str


@dataclass
class _Clip:
    frames: int = 0  # that came so far,
    written: int = 0  # of which these are in pieces,
    blocks: list[Half] = field(default_factory=list)  # and these in memory
    pieces: list[Piece] = field(default_factory=list)
    ended: bool = False


class FrameWriter:
    """Streams frames of clips into pieces; safe to be called from several threads.

    Parameters
    ----------
    folder : callable
        Says where pieces are to be written; asked once for each, so that it need not be made before the first.
    layers : sequence of int
        Which of the upstream's layers to keep.
    """

    def __init__(self, folder: Callable[[], Path], layers: Sequence[int]) -> None:
        self._folder = folder
        self._layers = list(layers)
        self._clips: dict[str, _Clip] = {}
        self._together: list[tuple[str, _Clip]] = []  # ended clips that wait for the piece they share
        self._together_bytes = 0
        self._written = 0
        self._lock = threading.Lock()

    def add(self, key: str, first_frame: int, frames: npt.NDArray[np.floating] | Tensor) -> None:
        """Take the next frames of a clip; see :meth:`subtone.extraction.shards.ShardWriter.add_frames`."""
        try:
            half = half_of(frames, self._layers)
        except UsageError:
            self.drop(key)
            raise
        self.add_half(key, first_frame, half)

    def add_half(self, key: str, first_frame: int, half: Half) -> None:
        """Take the next frames of a clip, as :func:`half_of` gives them."""
        with self._lock:
            clip = self._clips.setdefault(key, _Clip())
            if clip.ended or first_frame != clip.frames:
                raise ValueError(f"{key}: frame {first_frame} cannot follow {clip.frames} frames")
            clip.blocks.append(half)
            clip.frames += half.shape[1]
            most = max(1, PIECE_BYTES // (_ITEM * half.shape[0] * half.shape[2]))
            while clip.frames - clip.written > most:
                clip.pieces.append(self._write({f"{key}@{clip.written}": _take(clip.blocks, most)}))
                clip.written += most

    def end(self, key: str) -> None:
        """Say that a clip has no more frames. Clips share pieces in the order in which they end."""
        with self._lock:
            self._end(key)

    def drop(self, key: str) -> None:
        """Forget a clip that has not ended; nothing happens when it is not known."""
        with self._lock:
            clip = self._clips.get(key)
            if clip is None or clip.ended:
                return
            del self._clips[key]
            for piece in clip.pieces:
                piece.path.unlink(missing_ok=True)

    def finish(self, clips: Mapping[str, int]) -> list[list[Piece]]:
        """End the clips named that have not ended, in this order, write them, and return each clip's pieces.

        Clips that have not ended are kept for the next time.

        Raises
        ------
        ValueError
            If a clip has not so many frames, or another one has ended.
        """
        with self._lock:
            for key, frames in clips.items():
                self._end(key)
                if self._clips[key].frames != frames:
                    raise ValueError(f"{key}: {self._clips[key].frames} frames came of {frames}")
            self._write_together()
            done = {key: clip for key, clip in self._clips.items() if clip.ended}
            if done.keys() != clips.keys():
                raise ValueError(f"clips have ended that are not in this shard: {done.keys() - clips.keys()}")
            self._clips = {key: clip for key, clip in self._clips.items() if not clip.ended}
            return [done[key].pieces for key in clips]

    @property
    def is_empty(self) -> bool:
        """Whether no frames of any clip wait for their shard."""
        return not self._clips

    def _end(self, key: str) -> None:
        if key not in self._clips:
            raise ValueError(f"{key}: no frames came of this clip")
        clip = self._clips[key]
        if clip.ended:
            return
        clip.ended = True
        size = sum(block.nbytes for block in clip.blocks)
        if self._together_bytes + size > PIECE_BYTES:
            self._write_together()
        self._together.append((key, clip))
        self._together_bytes += size

    def _write_together(self) -> None:
        if not self._together:
            return
        piece = self._write({f"{key}@{clip.written}": clip.blocks for key, clip in self._together})
        for _, clip in self._together:
            clip.pieces.append(piece)
            clip.blocks = []
        self._together, self._together_bytes = [], 0

    def _write(self, runs: Mapping[str, Sequence[Half]]) -> Piece:
        path = self._folder() / f"piece-{self._written}"
        self._written += 1
        written = write_tensors(path, {name: stacked(blocks) for name, blocks in runs.items()})
        return Piece(path, f"frames-{written.sha256[:16]}.safetensors", written.size, written.sha256)


def half_of(frames: npt.NDArray[np.floating] | Tensor, layers: Sequence[int]) -> Half:
    """Return the frames of some layers in half precision, ``(len(layers), frames, dim)``, in the host's memory.

    Raises
    ------
    UsageError
        If a number is not finite in half precision.
    """
    # torch converts ten times as fast as NumPy, and on the device where the frames are.
    half = torch.as_tensor(frames).detach()[list(layers)].to(torch.float16).cpu()  # (kept layers, n, dim)
    low, high = torch.aminmax(half)  # NaN when any is
    if not (torch.isfinite(low) and torch.isfinite(high)):
        bad = (~torch.isfinite(half)).nonzero()[0]
        raise UsageError(
            f"frame of layer {layers[int(bad[0])]} is not finite in half precision, which holds numbers "
            f"up to {_LARGEST}; keep the frames of other layers, or pooled features alone"
        )
    kept: Half = half.contiguous().numpy()
    return kept


def _take(blocks: list[Half], frames: int) -> list[Half]:
    """Take so many frames off the front of blocks."""
    taken = []
    while frames:
        block = blocks.pop(0)
        if block.shape[1] > frames:
            # A copy: a view would keep all of the block in memory.
            blocks.insert(0, block[:, frames:].copy())
            block = block[:, :frames]
        taken.append(block)
        frames -= block.shape[1]
    return taken


def read_runs(paths: Sequence[Path], key: str) -> Iterator[tuple[int, Half]]:
    """Yield the runs of a clip's frames, one a piece, each with its first frame: ``(layers, n, dim)``, memory-mapped.

    Raises
    ------
    OSError, ValueError
        If a piece is not there, is damaged, or does not hold what follows.
    """
    expected = 0
    for path in paths:
        for name, array in open_tensors(path).items():
            if name.rpartition("@")[0] == key:
                if name != f"{key}@{expected}" or array.ndim != 3 or array.dtype != np.float16:
                    raise ValueError(f"{path.name} does not hold frames from {expected} on")
                yield expected, array
                expected += array.shape[1]
                break
        else:
            raise ValueError(f"{path.name} does not hold this clip")


@dataclass(frozen=True)
class FramePlace:
    """Where a run of a clip's frames lies on disk.

    Parameters
    ----------
    path
        The piece.
    offset
        Its first byte; ``(layers, frames, dim)`` halves follow.
    first, frames
        Frame of the clip that the run begins with, and how many it holds.
    layers, dim
        Of the run.
    """

    path: Path
    offset: int
    first: int
    frames: int
    layers: int
    dim: int


def places_of(headers: Mapping[Path, Mapping[str, TensorPlace]], key: str) -> Iterator[FramePlace]:
    """Yield where the runs of a clip's frames lie, given the headers of its pieces in order.

    Raises
    ------
    ValueError
        If a piece does not hold what follows.
    """
    expected = 0
    for path, header in headers.items():
        place = header.get(f"{key}@{expected}")
        if place is None or len(place.shape) != 3 or place.dtype != np.float16:
            raise ValueError(f"{path.name} does not hold frames from {expected} on")
        layers, frames, dim = place.shape
        yield FramePlace(path, place.offset, expected, frames, layers, dim)
        expected += frames


def of_layers(run: Half, positions: Sequence[int]) -> Half:
    """Return layers of a run; without a copy when they follow each other."""
    if list(positions) == list(range(positions[0], positions[0] + len(positions))):
        return run[positions[0] : positions[0] + len(positions)]
    return run[list(positions)]
