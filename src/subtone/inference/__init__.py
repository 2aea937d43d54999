"""From recordings to answers: one a file, a speech segment or a window, in bounded memory and with honest gaps.

What a model is, is left to the rooms above: here it is anything that scores waves (`Scorer`).
"""

from __future__ import annotations

from subtone.inference.judge import MIN_CLIP_S, SILENCE_LEVEL
from subtone.inference.plot import timeline_plot
from subtone.inference.prediction import Failure, FileResult, Prediction
from subtone.inference.run import iterate, run
from subtone.inference.scorer import Scorer, Scores
from subtone.inference.sources import Source, Sources, name_sources
from subtone.inference.spans import (
    DEFAULT_HOP_S,
    DEFAULT_WINDOW_S,
    LONGEST_CLIP_S,
    LONGEST_SEGMENT_S,
    LONGEST_WINDOW_S,
    Per,
)

__all__ = [
    "DEFAULT_HOP_S",
    "DEFAULT_WINDOW_S",
    "LONGEST_CLIP_S",
    "LONGEST_SEGMENT_S",
    "LONGEST_WINDOW_S",
    "MIN_CLIP_S",
    "SILENCE_LEVEL",
    "Failure",
    "FileResult",
    "Per",
    "Prediction",
    "Scorer",
    "Scores",
    "Source",
    "Sources",
    "iterate",
    "name_sources",
    "run",
    "timeline_plot",
]
