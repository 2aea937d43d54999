"""Subtone: speech emotion recognition on self-supervised speech features.

The names below are imported when they are first used, so that ``import subtone`` costs a few milliseconds.

>>> import numpy as np, subtone
>>> segments = subtone.speech.detect(subtone.load_audio(np.zeros(16_000, dtype=np.float32)))
>>> segments.share
0.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subtone import (
        assessment,
        audio,
        bundle,
        corpora,
        errors,
        evaluation,
        extraction,
        heads,
        inference,
        pooling,
        protocols,
        recipes,
        speech,
        training,
        upstreams,
    )
    from subtone.audio import load_audio
    from subtone.bundle import load, predict
    from subtone.errors import SubtoneError
    from subtone.inference import Prediction
    from subtone.model import EmotionModel

__version__ = "0.1.0"

__all__ = [
    "EmotionModel",
    "Prediction",
    "SubtoneError",
    "__version__",
    "assessment",
    "audio",
    "bundle",
    "corpora",
    "errors",
    "evaluation",
    "extraction",
    "heads",
    "inference",
    "load",
    "load_audio",
    "pooling",
    "predict",
    "protocols",
    "recipes",
    "speech",
    "training",
    "upstreams",
]

# Name -> the module that defines it. The other names of `__all__` are modules themselves.
_HOMES = {
    "EmotionModel": "subtone.model",
    "Prediction": "subtone.inference",
    "SubtoneError": "subtone.errors",
    "load": "subtone.bundle",
    "load_audio": "subtone.audio",
    "predict": "subtone.bundle",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in __all__:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # The next use finds it without coming here.
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
