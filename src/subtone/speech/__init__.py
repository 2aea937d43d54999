"""Where somebody speaks: voice activity detectors behind one small interface, and their result.

`SpeechSegments` knows how to lie on an upstream's frame grid; nothing here knows of torch or of emotions.
"""

from __future__ import annotations

from subtone.speech.base import Detector, Wave
from subtone.speech.detect import DETECTORS, detect, get_detector, load_detector
from subtone.speech.energy import EnergyDetector, EnergyOptions
from subtone.speech.segments import Grid, SpeechSegments
from subtone.speech.silero import SileroDetector, SileroOptions
from subtone.speech.webrtc import WebRtcDetector, WebRtcOptions

__all__ = [
    "DETECTORS",
    "Detector",
    "EnergyDetector",
    "EnergyOptions",
    "Grid",
    "SileroDetector",
    "SileroOptions",
    "SpeechSegments",
    "Wave",
    "WebRtcDetector",
    "WebRtcOptions",
    "detect",
    "get_detector",
    "load_detector",
]
