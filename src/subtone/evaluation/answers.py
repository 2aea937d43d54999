"""What systems answered, in one form: the predicted class number of every clip under every seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from subtone.errors import UsageError
from subtone.evaluation.metrics import Codes, Floats, class_numbers


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The classes as a tuple.

    Raises
    ------
    UsageError
        If there are none, or one is named twice.
    """
    if isinstance(labels, str) or not len(labels):
        raise UsageError(f"labels must be a list of class names, got {labels!r}")
    names = tuple(str(label) for label in labels)
    if len(set(names)) < len(names):
        raise UsageError(f"labels names a class twice: {', '.join(names)}")
    return names


def predicted_classes(answers: Any, labels: Sequence[str], clips: int, what: str = "predictions") -> Codes:
    """Predictions of one or several seeds as class numbers.

    Parameters
    ----------
    answers
        Floats are scores (probabilities, logits): ``(clips, classes)`` or ``(seeds, clips, classes)``; the
        highest wins, the first of equals. Text and integers are decided classes: ``(clips,)`` or ``(seeds,
        clips)``.
    labels
        Classes, in the order of the score columns.
    clips
        How many clips the truth has.
    what
        How errors call the answers.

    Returns
    -------
    NDArray of int64
        ``(seeds, clips)``.

    Raises
    ------
    UsageError
        If shapes disagree, a score is NaN, or a label is unknown.
    """
    array = np.asarray(answers)
    if array.dtype.kind == "f":
        if array.ndim == 2:
            array = array[None]  # (seeds, clips, classes)
        if array.ndim != 3 or array.shape[1:] != (clips, len(labels)):
            raise UsageError(
                f"{what}: scores have the shape {np.shape(answers)}, expected "
                f"({clips} clips, {len(labels)} classes) or (seeds, clips, classes)"
            )
        bad = np.isnan(array).any(axis=(0, 2))
        if bad.any():
            raise UsageError(
                f"{what}: {int(bad.sum())} clips have NaN scores, first clip {int(np.flatnonzero(bad)[0])}; "
                "drop failed clips from truth and scores alike"
            )
        return np.asarray(array.argmax(-1), dtype=np.int64)
    codes = class_numbers(answers, labels, what)
    if codes.ndim == 1:
        codes = codes[None]  # (seeds, clips)
    if codes.ndim != 2 or codes.shape[1] != clips:
        raise UsageError(
            f"{what}: shape {np.shape(answers)} does not fit {clips} clips; expected (clips,) "
            "or (seeds, clips)"
        )
    return codes


def soft_vote(scores: Any) -> Floats:
    """Join several seeds (or systems) into one: the mean of their probabilities.

    Parameters
    ----------
    scores
        ``(seeds, clips, classes)`` probabilities.

    Returns
    -------
    NDArray of float64
        ``(clips, classes)``, to be evaluated as one system.

    Examples
    --------
    >>> soft_vote([[[1.0, 0.0]], [[0.5, 0.5]]])
    array([[0.75, 0.25]])
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 3:
        raise UsageError(f"soft_vote joins scores of shape (seeds, clips, classes), got {array.shape}")
    return np.asarray(array.mean(axis=0), dtype=np.float64)
