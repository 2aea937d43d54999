"""Which stretches of a recording are scored: the whole, its speech segments, or a grid of windows."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError, nearest
from subtone.inference.judge import MIN_CLIP_S
from subtone.speech import SpeechSegments

Per: TypeAlias = Literal["file", "segment", "window"]
PER: tuple[Per, ...] = ("file", "segment", "window")

Span: TypeAlias = tuple[int, int]
"""Samples ``[start, end)``."""

LONGEST_CLIP_S = 30.0
"""A recording up to this long is scored as one clip; a longer one in equal parts of at most this length."""
LONGEST_SEGMENT_S = 10.0
"""A longer run of speech is cut into equal parts of at most this length: an emotion seldom lasts longer."""
LONGEST_WINDOW_S = 60.0
SHORTEST_HOP_S = 0.01
DEFAULT_WINDOW_S = 4.0
"""About the length of an utterance in the corpora that models are trained on."""
DEFAULT_HOP_S = 1.0


def check_grid(per: str, window_s: float, hop_s: float) -> Per:
    """Return ``per`` when it is known and the grid can be laid, or say what is wrong.

    Raises
    ------
    UsageError
        Unknown ``per``, or a window or hop out of range.

    Examples
    --------
    >>> check_grid("windw", 4.0, 1.0)
    Traceback (most recent call last):
    subtone.errors.UsageError: per='windw' is unknown; did you mean 'window'?
    """
    known: dict[str, Per] = {name: name for name in PER}
    if per not in known:
        raise UsageError(f"per={per!r} is unknown; {nearest(str(per), PER)}")
    ranges = (
        ("window_s", window_s, MIN_CLIP_S, LONGEST_WINDOW_S),
        ("hop_s", hop_s, SHORTEST_HOP_S, math.inf),
    )
    for name, value, low, high in ranges:
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            most = "" if high == math.inf else f" and at most {high:g}"
            raise UsageError(f"{name} must be at least {low:g}{most} seconds, got {value!r}")
    return known[per]


def equal_parts(start: int, end: int, longest: int) -> list[Span]:
    """Cut ``[start, end)`` into the fewest parts of at most ``longest`` samples, equal to within one sample.

    >>> equal_parts(10, 35, 10)
    [(10, 18), (18, 26), (26, 35)]
    """
    parts = max(1, -(-(end - start) // longest))
    bounds = [start + (end - start) * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def segment_spans(speech: SpeechSegments) -> list[Span]:
    """Return the runs of speech, long ones in equal parts of at most `LONGEST_SEGMENT_S`."""
    longest = round(LONGEST_SEGMENT_S * SAMPLE_RATE_HZ)
    runs = zip(speech.starts.tolist(), speech.ends.tolist(), strict=True)
    return [part for start, end in runs for part in equal_parts(start, end, longest)]


def window_spans(num_samples: int, window_s: float, hop_s: float) -> list[Span]:
    """Lay windows over a recording: window ``k`` begins at ``k * hop_s``, to the nearest sample.

    All windows that fit, then the next one, cut off at the recording's end, if something is still uncovered and at
    least half a window is left for it, or if it is the only one. With ``hop_s <= window_s / 2`` every sample is in
    a window; otherwise up to half a window at the end may be in none.

    Parameters
    ----------
    num_samples
        Length of the recording, 16 kHz.
    window_s, hop_s
        Seconds.

    Examples
    --------
    >>> [(start / 16_000, end / 16_000) for start, end in window_spans(88_000, 4.0, 1.0)]
    [(0.0, 4.0), (1.0, 5.0), (2.0, 5.5)]
    """
    window = round(window_s * SAMPLE_RATE_HZ)
    spans: list[Span] = []
    start = 0
    while start + window <= num_samples:
        spans.append((start, start + window))
        start = round(
            len(spans) * hop_s * SAMPLE_RATE_HZ
        )  # from the beginning each time, so that nothing drifts
    left = num_samples - start
    uncovered = not spans or spans[-1][1] < num_samples
    if left > 0 and uncovered and (2 * left >= window or not spans):
        spans.append((start, num_samples))
    return spans


def plan(per: Per, speech: SpeechSegments, window_s: float, hop_s: float) -> list[Span]:
    """Return the stretches to score; for ``"file"`` the parts whose scores are averaged into its one answer.

    A recording without speech has no segments: it gets one stretch, itself, so that it has its line with the
    reason.
    """
    num_samples = speech.num_samples
    if per == "window":
        return window_spans(num_samples, window_s, hop_s)
    if per == "segment":
        return segment_spans(speech) or [(0, num_samples)]
    return equal_parts(0, num_samples, round(LONGEST_CLIP_S * SAMPLE_RATE_HZ))
