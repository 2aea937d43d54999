"""UA, WA, macro-F1, recalls and the confusion matrix on class numbers; NumPy only, equal to scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError, nearest

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def class_numbers(values: Any, labels: Sequence[str], what: str = "truth") -> Codes:
    """Turn labels into their positions in ``labels``; integers are taken as positions.

    Parameters
    ----------
    values
        Array-like of any shape, label text or integer positions.
    labels
        The classes, in the order of the score columns.
    what
        How errors call the values.

    Returns
    -------
    NDArray of int64
        Same shape, 0 .. classes − 1.

    Raises
    ------
    UsageError
        If a value is missing or no label.

    Examples
    --------
    >>> class_numbers(["sadness", "anger"], ["anger", "sadness"])
    array([1, 0])
    """
    array = np.asarray(values)
    if array.size == 0:
        raise UsageError(f"{what} is empty; there is nothing to evaluate")
    if array.dtype.kind in "iu":
        wrong = (array < 0) | (array >= len(labels))
        if wrong.any():
            raise UsageError(
                f"{what} holds class number {array[wrong][0]}, but there are {len(labels)} labels "
                f"(0 to {len(labels) - 1})"
            )
        return array.astype(np.int64)
    number = {label: code for code, label in enumerate(labels)}
    codes = np.empty(array.shape, dtype=np.int64)
    for position, value in enumerate(array.ravel().tolist()):
        code = number.get(value) if isinstance(value, str) else None
        if code is None:
            if isinstance(value, str):
                raise UsageError(f"{what}, clip {position}: {value!r} is no label; {nearest(value, labels)}")
            raise UsageError(f"{what}, clip {position}: expected a label, got {value!r}")
        codes.flat[position] = code
    return codes


def confusion(truth: Codes, predictions: Codes, num_classes: int) -> Codes:
    """Count clips by true class (rows) and predicted class (columns).

    Examples
    --------
    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    cells = np.bincount(truth * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def recalls(hits: npt.ArrayLike, support: npt.ArrayLike) -> Floats:
    """Share of each class's clips that were recognised; NaN for a class without clips.

    Parameters
    ----------
    hits, support
        ``(..., classes)`` correct clips and all clips of each class.
    """
    support = np.asarray(support, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(support > 0, np.asarray(hits, dtype=np.float64) / support, np.nan)


def unweighted_accuracy(hits: npt.ArrayLike, support: npt.ArrayLike) -> Floats:
    """UA: mean of the recalls of the classes that occur, ``mean_c hits_c / support_c`` (balanced accuracy).

    Examples
    --------
    >>> float(unweighted_accuracy([3, 1, 0], [4, 4, 0]))
    0.5
    """
    found = recalls(hits, support)
    present = ~np.isnan(found)
    return np.asarray(np.where(present, found, 0.0).sum(-1) / present.sum(-1), dtype=np.float64)


def weighted_accuracy(hits: npt.ArrayLike, support: npt.ArrayLike) -> Floats:
    """WA: share of all clips that were recognised (plain accuracy)."""
    return np.asarray(
        np.asarray(hits, dtype=np.float64).sum(-1) / np.asarray(support, dtype=np.float64).sum(-1),
        dtype=np.float64,
    )


def macro_f1(matrix: npt.ArrayLike) -> float:
    """Mean over all labels of F1 = 2 tp / (2 tp + fp + fn), 0 for a label that neither occurs nor is
    predicted.

    Examples
    --------
    >>> macro_f1([[1, 1], [0, 1]])
    0.6666666666666666
    """
    counts = np.asarray(matrix, dtype=np.float64)
    whole = counts.sum(0) + counts.sum(1)
    return float(np.mean(2.0 * np.diag(counts) / np.maximum(whole, 1.0)))
