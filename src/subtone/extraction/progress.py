"""How far an extraction is, how fast it goes, and how long it will still take."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from subtone.extraction.clips import Clip


@dataclass(frozen=True)
class Progress:
    """The state of an extraction after a clip.

    Parameters
    ----------
    done, total
        Clips; ``done`` includes those that were there already and those that failed.
    reused, failed
        How many of ``done`` came out of the store, and how many could not be used.
    audio_s
        Seconds of audio encoded so far.
    elapsed_s
        Seconds since the beginning.
    remaining_s
        Estimate of what is still to come, in seconds; None until something has been encoded.
    """

    done: int
    total: int
    reused: int
    failed: int
    audio_s: float
    elapsed_s: float
    remaining_s: float | None

    @property
    def times_real_time(self) -> float:
        """Seconds of audio encoded in a second."""
        return self.audio_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def sentence(self) -> str:
        """Say it in a line.

        >>> Progress(30, 100, 10, 0, 7200.0, 360.0, 850.0).sentence()
        '30 of 100 clips, 2.00 h of audio, 20× real time, 14 min left'
        """
        parts = [f"{self.done} of {self.total} clips", f"{self.audio_s / 3600:.2f} h of audio"]
        if self.audio_s > 0:
            parts.append(f"{self.times_real_time:.3g}× real time")
        if self.remaining_s is not None and self.done < self.total:
            parts.append(f"{duration(self.remaining_s)} left")
        return ", ".join(parts)


OnProgress = Callable[[Progress], None]
"""Called after each clip."""


class Meter:
    """Counts clips as they come, and estimates the rest.

    What is left is weighed by what is known without decoding: the length of a part of a recording, else the size of
    the file. Seconds a byte are learned from the clips that are done.

    Parameters
    ----------
    clips
        All of them, in the order in which they will be done.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._weights = [_weight(clip) for clip in clips]
        self._left = sum(self._weights)
        self._began = time.perf_counter()
        self._done = self._reused = self._failed = 0
        self._audio_s = 0.0
        self._encoded_weight = 0.0

    def encoded(self, audio_s: float) -> Progress:
        """Count a clip that was encoded, of so many seconds."""
        self._audio_s += audio_s
        self._encoded_weight += self._weights[self._done]
        return self._next()

    def reused(self) -> Progress:
        """Count a clip that was there already."""
        self._reused += 1
        return self._next()

    def failed(self) -> Progress:
        """Count a clip that could not be used."""
        self._failed += 1
        return self._next()

    def _next(self) -> Progress:
        self._left -= self._weights[self._done]
        self._done += 1
        elapsed = time.perf_counter() - self._began
        remaining = None
        if self._encoded_weight > 0:
            remaining = max(0.0, elapsed / self._encoded_weight * self._left)
        return Progress(
            self._done,
            len(self._weights),
            self._reused,
            self._failed,
            self._audio_s,
            elapsed,
            remaining,
        )


def duration(seconds: float) -> str:
    """Say a time in the unit that fits it.

    >>> [duration(s) for s in (4.2, 90, 850, 3599, 20_000)]
    ['4 s', '90 s', '14 min', '60 min', '5.6 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


#: Bytes that a second of audio is taken for where parts of recordings and whole files are mixed: 16 bits at 16 kHz.
_BYTES_A_SECOND = 32_000.0


def _weight(clip: Clip) -> float:
    """Return what a clip will cost, in bytes of audio as they lie on disk."""
    if clip.end_s is not None:
        return max(0.0, clip.end_s - clip.start_s) * _BYTES_A_SECOND
    try:
        return float(os.stat(clip.file).st_size)
    except (OSError, ValueError):
        return 0.0  # it will fail at once
