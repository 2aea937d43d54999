"""The feature maps of segments, read a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.extraction import Clip, FeatureMaps
from subtone.training.segments.windows import Rows, Windows
from subtone.upstreams import FrameGrid

Half = npt.NDArray[np.float16]


class Source(Protocol):
    """The segments of clips, and what their feature maps hold."""

    @property
    def windows(self) -> Windows:
        """The segments."""

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and width of the maps."""

    def read(self, windows: Rows, shifts: Sequence[float] | None = None) -> Tensor:
        """Return maps ``(segments, layers, frames, dim)`` float32.

        ``shifts`` moves each segment by a share of a step, from -0.5 to 0.5, as far as its clip reaches.
        """

    def moments(self, clips: Rows) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each feature over the frames of some clips, ``(layers, dim)`` each."""


@dataclass(frozen=True, eq=False)
class WithinClips:
    """Segments cut from the feature maps of whole clips.

    Parameters
    ----------
    maps
        Of the clips.
    windows
        Their segments.
    """

    maps: FeatureMaps
    windows: Windows

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and width of the maps."""
        return len(self.maps.layers), self.maps.dim

    def read(self, windows: Rows, shifts: Sequence[float] | None = None) -> Tensor:
        """Return maps; see :class:`Source`."""
        found = _room(self, len(windows))
        for place, window in enumerate(windows.tolist()):
            clip, start = int(self.windows.clips[window]), int(self.windows.starts[window])
            length = int(self.maps.lengths[clip])
            if shifts is not None:
                start += round(shifts[place] * self.windows.step)
            start = min(max(0, start), max(0, length - self.windows.frames))
            stop = min(length, start + self.windows.frames)
            _fill(found[place], self.maps.read(clip, start, stop))
        return torch.from_numpy(found).float()

    def moments(self, clips: Rows) -> tuple[Tensor, Tensor]:
        """Return mean and deviation; see :class:`Source`."""
        return _tensors(self.maps.moments(clips))


@dataclass(frozen=True, eq=False)
class EachAlone:
    """Segments that were encoded each by itself.

    Parameters
    ----------
    maps
        One clip a segment.
    windows
        The segments, as they were cut.
    """

    maps: FeatureMaps
    windows: Windows

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and width of the maps."""
        return len(self.maps.layers), self.maps.dim

    def read(self, windows: Rows, shifts: Sequence[float] | None = None) -> Tensor:
        """Return maps; they lie where they were encoded, so nothing is shifted. See :class:`Source`."""
        del shifts
        found = _room(self, len(windows))
        for place, window in enumerate(windows.tolist()):
            stop = min(self.windows.frames, int(self.maps.lengths[window]))
            _fill(found[place], self.maps.read(window, 0, stop))
        return torch.from_numpy(found).float()

    def moments(self, clips: Rows) -> tuple[Tensor, Tensor]:
        """Return mean and deviation; see :class:`Source`."""
        return _tensors(self.maps.moments(self.windows.of(clips)))


class InParts:
    """The feature maps of many segments, read a part at a time: those of a long clip are more than memory should hold.

    Parameters
    ----------
    source
        Whose.
    windows
        Numbers of the segments.
    size
        Segments in a part.
    """

    def __init__(self, source: Source, windows: Rows, size: int) -> None:
        self._source, self._windows, self._size = source, windows, max(1, size)
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> InParts:
        """Return the same, read onto a device."""
        moved = InParts(self._source, self._windows, self._size)
        moved._device = device
        return moved

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(0, len(self._windows), self._size):
            yield self._source.read(self._windows[first : first + self._size]).to(self._device)


def parts_of(
    windows: Windows, clips: Sequence[Clip], lengths_s: npt.NDArray[np.float64], grid: FrameGrid
) -> list[Clip]:
    """Return each segment as a clip of its own, to be encoded by itself.

    Parameters
    ----------
    windows
        The segments.
    clips
        That they were cut from.
    lengths_s
        ``(clips,)`` seconds of each.
    grid
        Of the upstream: where a frame sees more than a hop, a segment needs a little more audio than its hops.
    """
    shortest = grid.window if grid.shortest is None else grid.shortest
    needed = max(windows.frames * grid.hop, shortest + (windows.frames - 1) * grid.hop)
    parts = []
    for number, start in zip(windows.clips.tolist(), windows.starts.tolist(), strict=True):
        clip, length_s = clips[number], float(lengths_s[number])
        begins = start * windows.hop_s
        ends = begins + needed / grid.sample_rate_hz
        if start == 0 and ends >= length_s:
            parts.append(clip)
        else:
            parts.append(Clip(clip.file, clip.start_s + begins, clip.start_s + min(ends, length_s)))
    return parts


def _tensors(found: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> tuple[Tensor, Tensor]:
    mean, deviation = found
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


def _room(source: WithinClips | EachAlone, segments: int) -> Half:
    layers, dim = source.shape
    return np.empty((segments, layers, source.windows.frames, dim), np.float16)


def _fill(into: Half, frames: Half) -> None:
    """Copy ``frames (layers, n, dim)``, again and again where they are fewer than there is room for."""
    n, room = frames.shape[1], into.shape[1]
    for start in range(0, room, n):
        into[:, start : start + n] = frames[:, : room - start]
