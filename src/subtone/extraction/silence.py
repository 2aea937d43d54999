"""Leaving out long silences before the encoder: what is kept of a clip, and where its speech is then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from subtone.speech import SpeechSegments

Span = tuple[int, int]
"""Samples ``[start, end)`` of a clip."""


def kept_spans(speech: SpeechSegments, longest_s: float) -> list[Span]:
    """Return what is kept of a clip when every stretch without speech is shortened to ``longest_s``.

    Half of what is left of a pause stays with the speech before it and half with the speech behind it; before the first
    and behind the last speech, as much as half a pause stays. A clip without speech is kept whole: which part of it to
    leave out nobody can say.

    Examples
    --------
    >>> kept_spans(SpeechSegments([40_000, 100_000], [60_000, 120_000], 200_000), 1.0)
    [(32000, 68000), (92000, 128000)]
    >>> kept_spans(SpeechSegments([40_000, 70_000], [60_000, 80_000], 80_000), 1.0)
    [(32000, 80000)]
    """
    if not len(speech):
        return [(0, speech.num_samples)]
    half = round(longest_s * speech.sample_rate_hz / 2)
    spans: list[Span] = []
    for start, end in zip(speech.starts.tolist(), speech.ends.tolist(), strict=True):
        start, end = max(0, start - half), min(speech.num_samples, end + half)
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def speech_of(speech: SpeechSegments, spans: Iterable[Span]) -> SpeechSegments:
    """Return where speech is once only ``spans`` of the clip are left, laid end to end."""
    return SpeechSegments.concatenate([speech.clip(start, end) for start, end in spans])


def samples_of(
    blocks: Iterable[npt.NDArray[np.float32]], spans: Iterable[Span]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield what of a clip, given in blocks, lies within ``spans``; memory is that of one block."""
    left = list(spans)
    at = 0
    for block in blocks:
        behind = at + len(block)
        for start, end in left:
            if start >= behind:
                break
            piece = block[max(0, start - at) : end - at]
            if len(piece):
                yield piece
        left = [span for span in left if span[1] > behind]
        at = behind
