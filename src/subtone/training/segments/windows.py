"""Which stretches of its clips a network is shown: fixed in length, overlapping, with enough speech or any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from subtone.errors import nearest
from subtone.training.options import STRICT, OptionError

Rows = npt.NDArray[np.int64]
Context = Literal["clip", "segment"]


@dataclass(frozen=True)
class SegmentOptions:
    """How clips are cut into segments: fixed stretches, which the rest of Subtone calls windows.

    Parameters
    ----------
    length_s
        Of a segment, in seconds. A clip that is shorter is repeated until it fills one.
    overlap
        Share of a segment that the next one repeats, in [0, 1).
    min_speech
        Least share of a segment's frames that must be speech, in [0, 1]; null takes segments whatever they hold. A clip
        without any such segment keeps the one with the most speech; one without any speech keeps all.
    shift
        In training, begin each segment up to half a step earlier or later, drawn anew in every epoch.
    context
        What the upstream hears of a segment: ``"clip"``, feature maps are cut from those of the whole clip, whose
        attention has heard all of it; ``"segment"``, each segment is encoded by itself, as it would be where nothing
        else is there. The latter is encoded once a length and overlap, and shifts nothing.
    """

    __pydantic_config__ = STRICT

    length_s: float = 1.0
    overlap: float = 0.5
    min_speech: float | None = 0.5
    shift: bool = True
    context: Context = "clip"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0.05 <= self.length_s <= 60:
            raise OptionError(f"length_s = {self.length_s} must lie between 0.05 and 60 seconds")
        if not 0 <= self.overlap < 1:
            raise OptionError(f"overlap = {self.overlap} must lie in [0, 1)")
        if self.min_speech is not None and not 0 <= self.min_speech <= 1:
            raise OptionError(f"min_speech = {self.min_speech} must lie in [0, 1], or be null")
        if self.context not in get_args(Context):
            raise OptionError(
                f"context {self.context!r} is not known; {nearest(self.context, get_args(Context))}"
            )

    def frames(self, hop_s: float) -> int:
        """Return the frames of a segment, at least one."""
        return max(1, round(self.length_s / hop_s))

    def step(self, hop_s: float) -> int:
        """Return the frames from one segment to the next, at least one."""
        return max(1, round(self.frames(hop_s) * (1 - self.overlap)))


@dataclass(frozen=True, eq=False)
class Windows:
    """The segments of clips, clip by clip.

    Parameters
    ----------
    clips, starts
        ``(segments,)`` clip of each segment, and its first frame there.
    firsts
        ``(clips + 1,)`` where the segments of each clip begin among all.
    frames
        Of a segment.
    step
        Frames from one segment to the next.
    hop_s
        Seconds from frame to frame.
    """

    clips: Rows
    starts: Rows
    firsts: Rows
    frames: int
    step: int
    hop_s: float

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def counts(self) -> Rows:
        """``(clips,)`` segments of each clip, at least one."""
        return np.diff(self.firsts)

    def of(self, clips: Rows) -> Rows:
        """Return the numbers of the segments of some clips, clip by clip: none of another's is among them."""
        return np.concatenate(
            [np.arange(self.firsts[clip], self.firsts[clip + 1]) for clip in clips.tolist()] or [clips]
        ).astype(np.int64)


def cut(
    lengths: Sequence[int], speech: Sequence[npt.NDArray[np.bool_]], hop_s: float, options: SegmentOptions
) -> Windows:
    """Cut clips into segments.

    Segments begin a step apart; one more ends with the clip where the last would leave frames unheard. What is cut of a
    clip depends on that clip alone.

    Parameters
    ----------
    lengths
        Frames of each clip.
    speech
        ``(frames,)`` of each clip, True where a frame is speech.
    hop_s
        Seconds from frame to frame.
    options
        How.

    Examples
    --------
    >>> half = SegmentOptions(length_s=0.4, overlap=0.5, min_speech=0.5)
    >>> found = cut([9, 2], [np.arange(9) > 3, np.array([False, True])], 0.1, half)
    >>> found.clips.tolist(), found.starts.tolist()
    ([0, 0, 0, 1], [2, 4, 5, 0])
    """
    frames, step = options.frames(hop_s), options.step(hop_s)
    starts = [
        _starts(int(length), frames, step, spoken, options.min_speech)
        for length, spoken in zip(lengths, speech, strict=True)
    ]
    counts = [len(one) for one in starts]
    return Windows(
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([*starts, np.empty(0, np.int64)]),
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        frames,
        step,
        hop_s,
    )


def _starts(
    length: int, frames: int, step: int, speech: npt.NDArray[np.bool_], min_speech: float | None
) -> Rows:
    last = max(0, length - frames)
    starts = np.arange(0, last + 1, step, dtype=np.int64)
    if starts[-1] < last:
        starts = np.append(starts, last)
    if min_speech is None or not speech.any():
        return starts
    spoken = np.concatenate([[0], np.cumsum(speech, dtype=np.int64)])  # (frames + 1,)
    here = spoken[np.minimum(starts + frames, length)] - spoken[starts]  # (segments,)
    enough = here >= math.ceil(min_speech * min(frames, length) - 1e-9)
    return starts[enough] if enough.any() else starts[[int(here.argmax())]]
