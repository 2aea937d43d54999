"""What prediction asks of a model, and how its answer is checked before anyone sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from subtone.errors import BundleError
from subtone.speech import Detector, SpeechSegments


@dataclass(frozen=True, eq=False)
class Scores:
    """A model's answers on some clips.

    Attributes
    ----------
    probabilities
        ``(clips, classes)`` float64, in the order of the scorer's labels; rows sum to 1.
    embeddings
        ``(clips, dim)`` float32: what the model's head sees.
    """

    probabilities: npt.NDArray[np.float64]
    embeddings: npt.NDArray[np.float32]


class Scorer(Protocol):
    """A model as prediction sees it; `subtone.EmotionModel` is one."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Emotions, in the order of the columns of its scores."""
        ...

    @property
    def detector(self) -> Detector:
        """Finds the speech that the model was trained to look at."""
        ...

    def score(self, waves: Sequence[npt.NDArray[np.float32]], speech: Sequence[SpeechSegments]) -> Scores:
        """Score clips, each ``(samples,)`` float32 at 16 kHz, with the speech in each of them."""
        ...


def checked(scores: Scores, clips: int, classes: int) -> Scores:
    """Return scores whose rows sum to 1 in float64, or refuse what no model in order gives.

    Raises
    ------
    BundleError
        When shapes are not as promised, or a probability is negative, NaN or infinite.

    Examples
    --------
    >>> checked(Scores(np.array([[1.0, 3.0]]), np.zeros((1, 2), np.float32)), 1, 2).probabilities
    array([[0.25, 0.75]])
    """
    probabilities = np.asarray(scores.probabilities, dtype=np.float64)
    embeddings = np.asarray(scores.embeddings, dtype=np.float32)
    if probabilities.shape != (clips, classes):
        raise BundleError(
            f"the model gave scores of shape {probabilities.shape} for {clips} clip(s) and {classes} labels"
        )
    if embeddings.ndim != 2 or len(embeddings) != clips:
        raise BundleError(f"the model gave embeddings of shape {embeddings.shape} for {clips} clip(s)")
    total = probabilities.sum(axis=1, keepdims=True)  # (clips, 1)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (total > 0).all()):
        raise BundleError(
            "the model gave scores that are no probabilities (NaN, infinite, negative or all 0)"
        )
    return Scores(probabilities / total, embeddings)
