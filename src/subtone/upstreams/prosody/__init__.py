"""Prosody: pitch, loudness and voice quality as a stream of frames beside a speech encoder's.

`pitch` and `spectrum` measure, `measures` puts them on the frame grid, `summary` gathers what they are measured
against in a clip, `upstream` makes frames of them.
"""

from __future__ import annotations

from subtone.upstreams.prosody.standardisation import Standardisation
from subtone.upstreams.prosody.summary import ProsodySurvey, summarise
from subtone.upstreams.prosody.upstream import DIMS, MODEL_TYPE, NAME, VERSION, ProsodyUpstream, measured

__all__ = [
    "DIMS",
    "MODEL_TYPE",
    "NAME",
    "VERSION",
    "ProsodySurvey",
    "ProsodyUpstream",
    "Standardisation",
    "measured",
    "summarise",
]
