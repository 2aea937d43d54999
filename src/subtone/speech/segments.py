"""The result of voice activity detection, exact to the sample, and its projection onto a frame grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import SpeechError


class Grid(Protocol):
    """What a frame grid must offer for projection; `subtone.upstreams` has it."""

    def cells(self, num_frames: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Return ``(frames, 2)``: the samples ``[start, end)`` that each frame stands for."""
        ...


@dataclass(frozen=True, eq=False)
class SpeechSegments:
    """Runs of speech in a wave of ``num_samples`` samples: sorted, disjoint, ``[start, end)`` in samples.

    Attributes
    ----------
    starts, ends
        ``(segments,)`` int64, ``0 <= start < end <= num_samples``, each start at or behind the last end.
    num_samples
        Length of the wave.
    sample_rate_hz
        Rate that the counts refer to.

    Raises
    ------
    SpeechError
        When the segments overlap, are out of order, empty, or reach beyond the wave.

    Examples
    --------
    >>> speech = SpeechSegments([4_000], [12_000], 16_000)
    >>> speech.share, speech.seconds.tolist()
    (0.5, [[0.25, 0.75]])
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    num_samples: int
    sample_rate_hz: int = SAMPLE_RATE_HZ

    def __post_init__(self) -> None:
        starts, ends = _counts(self.starts, "starts"), _counts(self.ends, "ends")
        if len(starts) != len(ends):
            raise SpeechError(f"segments need as many starts as ends, got {len(starts)} and {len(ends)}")
        if self.num_samples < 0:
            raise SpeechError(f"num_samples must be 0 or more, got {self.num_samples}")
        if len(starts):
            if starts[0] < 0 or ends[-1] > self.num_samples:
                raise SpeechError(
                    f"segments must lie within the wave's {self.num_samples} samples, "
                    f"got {starts[0]} to {ends[-1]}"
                )
            if (starts >= ends).any() or (starts[1:] < ends[:-1]).any():
                raise SpeechError("segments must be sorted, disjoint and of at least one sample")
        object.__setattr__(self, "starts", starts)
        object.__setattr__(self, "ends", ends)
        object.__setattr__(self, "num_samples", int(self.num_samples))

    @classmethod
    def whole(cls, num_samples: int) -> SpeechSegments:
        """Return one segment over all of a wave (none, if it has no samples)."""
        if num_samples <= 0:
            return cls.none(num_samples)
        return cls(np.zeros(1, dtype=np.int64), np.array([num_samples]), num_samples)

    @classmethod
    def none(cls, num_samples: int) -> SpeechSegments:
        """Return a wave without speech."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), num_samples)

    @classmethod
    def concatenate(cls, parts: Sequence[SpeechSegments]) -> SpeechSegments:
        """Lay waves end to end; segments that touch at a seam become one.

        >>> two = SpeechSegments.concatenate([SpeechSegments.whole(5), SpeechSegments([0, 4], [2, 6], 9)])
        >>> two.starts.tolist(), two.ends.tolist(), two.num_samples
        ([0, 9], [7, 11], 14)
        """
        rates = {part.sample_rate_hz for part in parts}
        if len(rates) > 1:
            raise SpeechError(f"segments of different sample rates cannot be joined: {sorted(rates)}")
        offsets = np.cumsum([0, *(part.num_samples for part in parts)])
        starts: list[int] = []
        ends: list[int] = []
        for part, offset in zip(parts, offsets, strict=False):
            for start, end in zip(
                (part.starts + offset).tolist(), (part.ends + offset).tolist(), strict=True
            ):
                if ends and start == offset == ends[-1]:
                    ends[-1] = end
                else:
                    starts.append(start)
                    ends.append(end)
        rate = rates.pop() if rates else SAMPLE_RATE_HZ
        return cls(np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64), int(offsets[-1]), rate)

    def shift(self, offset: int, num_samples: int) -> SpeechSegments:
        """Place this wave at sample ``offset`` of a longer one of ``num_samples``; inverse of `clip`."""
        return SpeechSegments(self.starts + offset, self.ends + offset, num_samples, self.sample_rate_hz)

    def clip(self, start: int, end: int) -> SpeechSegments:
        """Return the segments of the samples ``[start, end)`` of this wave, counted from ``start``.

        >>> SpeechSegments([4], [8], 10).clip(6, 10)
        SpeechSegments(1 segment, 2 of 4 samples)
        """
        start, end = max(0, start), min(end, self.num_samples)
        if end <= start:
            nothing = np.zeros(0, dtype=np.int64)
            return SpeechSegments(nothing, nothing, 0, self.sample_rate_hz)
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.starts, end, side="left"))
        starts = np.maximum(self.starts[first:last], start) - start
        ends = np.minimum(self.ends[first:last], end) - start
        return SpeechSegments(starts, ends, end - start, self.sample_rate_hz)

    @property
    def speech_samples(self) -> int:
        """Number of samples that lie in speech."""
        return int((self.ends - self.starts).sum())

    @property
    def share(self) -> float:
        """Share of the wave that is speech, 0–1; 0 for a wave without samples."""
        return self.speech_samples / self.num_samples if self.num_samples else 0.0

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """``(segments, 2)`` float64: start and end of each segment in seconds."""
        return np.stack([self.starts, self.ends], axis=1) / float(self.sample_rate_hz)

    def before(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many samples ahead of each position lie in speech: exact prefix sums, same shape."""
        if not len(self):
            return np.zeros(np.shape(positions), dtype=np.int64)
        total = np.concatenate([[0], np.cumsum(self.ends - self.starts)])  # (segments + 1,)
        entered = np.searchsorted(self.starts, positions, side="right")  # segments begun by then
        current = np.maximum(entered - 1, 0)
        overshoot = np.maximum(self.ends[current] - positions, 0)  # the part of the current one still to come
        counted: npt.NDArray[np.int64] = np.where(entered > 0, total[entered] - overshoot, 0)
        return counted

    def project(self, grid: Grid, num_frames: int) -> npt.NDArray[np.bool_]:
        """Tell for each frame whether it is speech, by the majority rule.

        A frame is speech if at least half of the samples that it stands for (its cell, cut to the wave) lie
        in speech segments. A cell that is cut to nothing is not speech. Counted in whole samples, without
        rounding.

        Parameters
        ----------
        grid
            The upstream's frame grid; its ``cells(num_frames, num_samples)`` gives each frame's samples.
        num_frames
            Number of frames.

        Returns
        -------
        ``(frames,)`` bool.

        Source
        ------
        Reading of Hyeon et al. 2024 (arXiv 2410.12416), whose abstract does not state the rule.

        Examples
        --------
        >>> class Hop4:
        ...     def cells(self, num_frames, num_samples):
        ...         edges = np.minimum(4 * np.arange(num_frames + 1), num_samples)
        ...         return np.stack([edges[:-1], edges[1:]], axis=1)
        >>> SpeechSegments([6], [9], 12).project(Hop4(), 3)
        array([False,  True, False])
        """
        cells = np.asarray(grid.cells(num_frames, self.num_samples), dtype=np.int64)  # (frames, 2)
        length = cells[:, 1] - cells[:, 0]
        inside = self.before(cells[:, 1]) - self.before(cells[:, 0])
        speech: npt.NDArray[np.bool_] = (length > 0) & (2 * inside >= length)  # (frames,)
        return speech

    def __len__(self) -> int:
        return len(self.starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpeechSegments):
            return NotImplemented
        return (
            (self.num_samples, self.sample_rate_hz) == (other.num_samples, other.sample_rate_hz)
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(self.ends, other.ends)
        )

    def __hash__(self) -> int:
        return hash((self.num_samples, self.sample_rate_hz, self.starts.tobytes(), self.ends.tobytes()))

    def __repr__(self) -> str:
        plural = "" if len(self) == 1 else "s"
        share = f"{self.speech_samples} of {self.num_samples} samples"
        return f"SpeechSegments({len(self)} segment{plural}, {share})"


def _counts(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    """Return a read-only int64 copy, refusing what is no whole number of samples."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise SpeechError(f"{name} must be one-dimensional, got shape {given.shape}")
    whole = given.dtype.kind in "iu" or (given.dtype.kind == "f" and bool((given == np.trunc(given)).all()))
    if not (whole and np.isfinite(given).all()):
        raise SpeechError(f"{name} must be whole numbers of samples")
    counts = given.astype(np.int64)
    counts.setflags(write=False)
    return counts
