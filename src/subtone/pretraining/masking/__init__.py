"""Masking: which frames of an utterance pre-training hides, and what stands in their place."""

from subtone.pretraining.masking.corruption import Corruption, corruption
from subtone.pretraining.masking.noise import draw_keys
from subtone.pretraining.masking.spans import Hidden, Masking, check_intensity
from subtone.pretraining.masking.strategies import (
    STRATEGIES,
    MaskingError,
    Room,
    highest,
    spaced,
    strategy,
)

__all__ = [
    "STRATEGIES",
    "Corruption",
    "Hidden",
    "Masking",
    "MaskingError",
    "Room",
    "check_intensity",
    "corruption",
    "draw_keys",
    "highest",
    "spaced",
    "strategy",
]
