"""Frame-level emotion intensity: how strongly a voice is moved, 0 to 1, every 10 ms of any speech.

What pre-training masks by (`subtone.pretraining.masking`) comes from here, or from scores that are ready already.
"""

from __future__ import annotations

from subtone.pretraining.intensity.align import align, read_scores
from subtone.pretraining.intensity.model import IntensityModel
from subtone.pretraining.intensity.network import IntensityNetwork, IntensityOptions
from subtone.pretraining.intensity.ready import ReadyScores, open_intensity

__all__ = [
    "IntensityModel",
    "IntensityNetwork",
    "IntensityOptions",
    "ReadyScores",
    "align",
    "open_intensity",
    "read_scores",
]
