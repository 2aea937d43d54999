"""The energy detector: what is loud against the recording's own loud and quiet parts; needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from subtone.errors import SpeechError
from subtone.speech.base import Detector, Wave, in_frames
from subtone.speech.rules import Lengths

_FRAME = 320
_PEAK_FRAMES = 10  # 0.2 s: one click makes no peak, one short word in an hour does.
_HEARD_DB = 60.0  # Padding with digital or nearly digital silence is not the noise that speech stands in.


@dataclass(frozen=True, kw_only=True)
class EnergyOptions(Lengths):
    """Options of the energy detector, in decibels.

    Attributes
    ----------
    range_db
        Speech is at most this far below the recording's peak level.
    margin_db
        Speech is at least this far above the recording's noise floor, as far as its range allows.
    hysteresis_db
        Speech ends this far below the level at which it begins.
    silence_db
        A recording whose peak is below this level (0 dB = a full-scale square wave) is silent.
    """

    range_db: float = 30.0
    margin_db: float = 6.0
    hysteresis_db: float = 3.0
    silence_db: float = -80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("range_db", "margin_db", "hysteresis_db"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SpeechError(f"{name} must be 0 dB or more, got {getattr(self, name)!r}")
        if not float("-inf") < self.silence_db <= 0:
            raise SpeechError(f"silence_db must be 0 dB or less, got {self.silence_db!r}")


class EnergyDetector(Detector):
    r"""Frames of 20 ms whose level stands out of the recording's own noise floor.

    With the level of frame ``t``, free of any constant offset,

        L_t = 10 log10 (variance of its 320 samples),

    let the peak ``P`` be the level that 0.2 s of the recording exceed (5 % of it, if that is shorter), and
    the floor ``N`` the 10th percentile of the levels within 60 dB of the loudest. Speech begins at

        T = max(P - range_db,  min(N + margin_db,  (P + N) / 2))

    and ends below ``T - hysteresis_db``: within ``range_db`` of the peak and ``margin_db`` above the floor,
    or half way up where floor and peak are closer together than twice the margin. A recording whose peak is
    below ``silence_db`` has no speech.

    All levels but that last one are relative, so a gain leaves the segments as they are. In steady sound
    (a hum, a trimmed word) floor and peak meet, and all of it counts as speech. Over blocks, levels are
    collected first: peak and floor are those of the whole recording.
    """

    name: ClassVar[str] = "energy"
    options: EnergyOptions

    def __init__(self, options: EnergyOptions | None = None) -> None:
        self.options = options or EnergyOptions()

    @property
    def frame(self) -> int:
        return _FRAME

    def _scores(self, pieces: Iterable[Wave]) -> Iterator[npt.NDArray[np.float64]]:
        for piece in pieces:
            frames = in_frames(piece, _FRAME).astype(np.float64)  # (frames, 320)
            variance = frames.var(axis=1)
            whole, rest = divmod(len(piece), _FRAME)
            if rest:  # The wave's last frame: only the samples that are there count, not the zeros added.
                variance[whole] = frames[whole, :rest].var()
            with np.errstate(divide="ignore"):
                yield 10.0 * np.log10(variance)  # (frames,), -inf for digital silence

    def _thresholds(self, scores: npt.NDArray[np.floating]) -> tuple[float, float]:
        loudest = scores.max()
        heard = np.sort(scores[scores >= loudest - _HEARD_DB]) if np.isfinite(loudest) else scores[:0]
        options = self.options
        if not len(heard):
            return np.inf, np.inf
        exceeding = min(_PEAK_FRAMES, len(scores) // 20)
        peak = float(heard[max(0, len(heard) - 1 - exceeding)])
        if peak < options.silence_db:
            return np.inf, np.inf
        floor = float(np.percentile(heard, 10.0))
        enter = max(peak - options.range_db, min(floor + options.margin_db, (peak + floor) / 2.0))
        return enter, enter - options.hysteresis_db
