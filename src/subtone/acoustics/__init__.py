"""What rooms, lines and recorders do to a clip, and what may lie around it: waves in, waves out, by seed alone.

All waves are ``(samples,)`` float32 at 16 kHz. What a model makes of them is left to the rooms above; nothing here
knows of torch.
"""

from __future__ import annotations

from subtone.acoustics.codecs import CODECS, Codec, transcode
from subtone.acoustics.conditions import CONDITIONS, Condition, available, condition
from subtone.acoustics.dilution import FILLERS, Diluted, Filler, dilute
from subtone.acoustics.sounds import Sounds, load_sounds
from subtone.acoustics.trimming import trim

__all__ = [
    "CODECS",
    "CONDITIONS",
    "FILLERS",
    "Codec",
    "Condition",
    "Diluted",
    "Filler",
    "Sounds",
    "available",
    "condition",
    "dilute",
    "load_sounds",
    "transcode",
    "trim",
]
