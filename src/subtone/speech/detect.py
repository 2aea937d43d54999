"""Detectors by name: one call for a wave, and reading back what a bundle has saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from subtone.errors import SpeechError, nearest
from subtone.speech.base import Detector, Wave
from subtone.speech.energy import EnergyDetector, EnergyOptions
from subtone.speech.rules import Lengths
from subtone.speech.segments import SpeechSegments
from subtone.speech.silero import SileroDetector, SileroOptions
from subtone.speech.webrtc import WebRtcDetector, WebRtcOptions

_KINDS: dict[str, tuple[type[Detector], type[Lengths]]] = {
    "silero": (SileroDetector, SileroOptions),
    "webrtc": (WebRtcDetector, WebRtcOptions),
    "energy": (EnergyDetector, EnergyOptions),
}
DETECTORS: tuple[str, ...] = tuple(_KINDS)
"""Names of the detectors, the default first."""


def get_detector(name: str = "silero", **options: Any) -> Detector:
    """Make a detector.

    Parameters
    ----------
    name
        One of `DETECTORS`.
    **options
        Fields of its options, e.g. ``threshold=0.6`` or ``min_silence_s=0.3``; see `SileroOptions`,
        `WebRtcOptions` and `EnergyOptions`.

    Raises
    ------
    SpeechError
        Unknown name or option, a value out of range, or a package that is not installed.

    Examples
    --------
    >>> get_detector("energy", min_speech_s=0.1).options.min_speech_s
    0.1
    >>> get_detector("slero")
    Traceback (most recent call last):
    subtone.errors.SpeechError: no detector 'slero'; did you mean 'silero'?
    """
    if name not in _KINDS:
        raise SpeechError(f"no detector {name!r}; {nearest(str(name), DETECTORS)}")
    kind, options_kind = _KINDS[name]
    known = [field.name for field in fields(options_kind)]
    for key, value in options.items():
        if key not in known:
            raise SpeechError(f"detector {name!r} has no option {key!r}; {nearest(key, known)}")
        if isinstance(value, (str, bool)) or (value is None and key != "neg_threshold"):
            raise SpeechError(f"option {key!r} of detector {name!r} must be a number, got {value!r}")
    return kind(options_kind(**options))  # type: ignore[call-arg]


def load_detector(config: Mapping[str, Any]) -> Detector:
    """Make the detector that `Detector.config` has described.

    Raises
    ------
    SpeechError
        As `get_detector`; also when ``name`` is missing.

    Examples
    --------
    >>> load_detector(get_detector("energy", range_db=40.0).config()).options.range_db
    40.0
    """
    if "name" not in config:
        raise SpeechError(f"a detector's configuration needs a 'name'; {nearest('', DETECTORS)}")
    return get_detector(**config)


def detect(wave: Wave, detector: str | Detector = "silero", **options: Any) -> SpeechSegments:
    """Find the speech in a wave.

    Parameters
    ----------
    wave
        ``(samples,)`` float in [-1, 1], 16 kHz mono; what `subtone.load_audio` returns.
    detector
        A name from `DETECTORS`, or a detector.
    **options
        Options of the named detector, see `get_detector`.

    Returns
    -------
    Segments in samples; none for silence.

    Raises
    ------
    SpeechError
        Unknown detector or option.
    AudioError
        The wave is not one-dimensional, or holds NaN or infinite samples.

    Examples
    --------
    >>> import numpy as np
    >>> len(detect(np.zeros(16_000, dtype=np.float32)))
    0
    """
    if isinstance(detector, Detector):
        if options:
            raise SpeechError("options belong to a detector's name; this detector has its own already")
        return detector.detect(wave)
    return get_detector(detector, **options).detect(wave)
