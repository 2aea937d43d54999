"""A support vector machine between several classes: scikit-learn finds it on a kernel, NumPy scores with it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError
from subtone.training.options import ClassWeights
from subtone.training.svm.options import Kernel

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

#: How far the score of a class that was never trained on lies below the lowest other one: e^-20.
_UNKNOWN = 20.0


@dataclass(frozen=True)
class Setting:
    """A kernel with its numbers, as in `SvmOptions`; ``gamma`` is None where the kernel has none."""

    kernel: Kernel
    cost: float
    gamma: float | None = None


class Products:
    """Inner products of standardised rows with others, of which any kernel is made.

    Memory: ``8 · rows · others`` bytes here, and as much again for each kernel made of it.

    Parameters
    ----------
    rows, others
        ``(rows, dim)`` and ``(others, dim)`` float64.
    """

    def __init__(self, rows: Floats, others: Floats) -> None:
        self._dim = rows.shape[1]
        self._products = rows @ others.T  # (rows, others); NumPy halves the work where both are the same
        self._squares = np.einsum("nd,nd->n", rows, rows)[:, None], np.einsum("nd,nd->n", others, others)

    def kernel(self, kernel: Kernel, gamma: float | None) -> Floats:
        """Return ``(rows, others)`` values of a kernel; see `SvmOptions`."""
        if kernel == "linear":
            return np.asarray(self._products / self._dim, np.float64)
        assert gamma is not None
        values: Floats = -2 * self._products
        for squares in self._squares:
            values += squares
        np.maximum(values, 0, out=values)  # |a - b|², which rounding may take below zero
        values *= -gamma / self._dim
        np.exp(values, out=values)
        return values


@dataclass(frozen=True, eq=False)
class Boundaries:
    """What was learned on a kernel: one boundary between each two classes that were trained on.

    Parameters
    ----------
    known
        ``(known classes,)`` their numbers.
    support
        ``(vectors,)`` positions of the support vectors among the rows trained on.
    weights
        ``(vectors, pairs)``; pairs in the order (0, 1), (0, 2), …, (1, 2), …
    offsets
        ``(pairs,)``.
    """

    known: Codes
    support: Codes
    weights: Floats
    offsets: Floats

    def scores(self, kernel: Floats) -> Floats:
        """Return what each known class has for it; the highest wins.

        Of two classes it is half the distance to the boundary between them, with either sign. Of more it is the
        number of classes that a class beats, and the sum of its distances, squeezed into ±1/3, to tell equals apart:
        the one-against-rest ``decision_function`` of scikit-learn.

        Parameters
        ----------
        kernel
            ``(clips, vectors)`` of clips with the support vectors.

        Returns
        -------
        ndarray
            ``(clips, known classes)``.
        """
        first = kernel @ self.weights + self.offsets  # (clips, pairs) above 0: the first of the two
        pairs = list(itertools.combinations(range(len(self.known)), 2))
        if len(pairs) == 1:
            return np.concatenate([first, -first], axis=1) / 2
        votes = np.zeros((len(first), len(self.known)))
        sums = np.zeros_like(votes)
        for pair, (a, b) in enumerate(pairs):
            ahead = first[:, pair]
            votes[:, a] += ahead >= 0
            votes[:, b] += ahead < 0
            sums[:, a] += ahead
            sums[:, b] -= ahead
        votes += sums / (3 * (np.abs(sums) + 1))
        return votes


def learn(kernel: Floats, targets: Codes, cost: float, class_weights: ClassWeights) -> Boundaries:
    """Learn on the kernel ``(rows, rows)`` of training rows; ``targets (rows,)`` hold at least two classes."""
    from sklearn.svm import SVC

    machine = SVC(
        C=cost, kernel="precomputed", class_weight="balanced" if class_weights == "balanced" else None
    )
    machine.fit(kernel, targets)
    known = len(machine.classes_)
    of = np.repeat(np.arange(known), machine.n_support_)  # (vectors,) class of each, ascending
    # For a vector of class c, row r of scikit-learn's coefficients is of the pair with the r-th of the other classes.
    coefficients = machine.dual_coef_  # (known - 1, vectors)
    pairs = list(itertools.combinations(range(known), 2))
    weights = np.zeros((len(of), len(pairs)))
    for pair, (a, b) in enumerate(pairs):
        weights[of == a, pair] = coefficients[b - 1, of == a]
        weights[of == b, pair] = coefficients[a, of == b]
    offsets = np.array(machine.intercept_, np.float64)
    if len(pairs) == 1:  # the sign of two classes alone is turned: above 0 is the second
        weights, offsets = -weights, -offsets
    return Boundaries(machine.classes_.astype(np.int64), machine.support_.astype(np.int64), weights, offsets)


@dataclass(frozen=True, eq=False)
class FittedSvm:
    """A support vector machine that scores clips; needs nothing but NumPy.

    Parameters
    ----------
    setting
        Its kernel.
    classes
        How many there are.
    mean, scale
        ``(dim,)`` of the rows it was fitted on; a feature that never varied has scale 1.
    vectors
        ``(vectors, dim)`` features of the clips that it stands on, as they were given.
    boundaries
        What it has learned.
    temperature
        Its scores are divided by it, so that their softmax gives probabilities.
    """

    setting: Setting
    classes: int
    mean: Floats
    scale: Floats
    vectors: npt.NDArray[np.floating]
    boundaries: Boundaries
    temperature: float

    def logits(self, features: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Score clips.

        Parameters
        ----------
        features
            ``(clips, dim)``, not standardised, finite.

        Returns
        -------
        ndarray
            ``(clips, classes)`` float32: what `Boundaries.scores` says, over the temperature; the highest is the class
            that scikit-learn's ``SVC(break_ties=True)`` predicts. One that was not trained on lies far below.

        Raises
        ------
        UsageError
            If the shape does not fit, or a feature is not finite.
        """
        x = check_features(features)
        if x.shape[1] != len(self.mean):
            raise UsageError(
                f"features have {x.shape[1]} columns, but this SVM was fitted on {len(self.mean)}"
            )
        products = Products(self._standardised(x), self._standardised(self.vectors))
        kernel = products.kernel(self.setting.kernel, self.setting.gamma)  # (clips, vectors)
        scores = self.boundaries.scores(kernel) / self.temperature  # (clips, known classes)
        logits = np.full((len(x), self.classes), scores.min(1, keepdims=True) - _UNKNOWN)
        logits[:, self.boundaries.known] = scores
        return logits.astype(np.float32)

    def _standardised(self, features: npt.NDArray[np.floating]) -> Floats:
        return np.asarray((features - self.mean) / self.scale, np.float64)


def standardise(rows: Floats) -> tuple[Floats, Floats]:
    """Bring ``rows (rows, dim)`` to mean 0 and standard deviation 1, in place; return the two, ``(dim,)`` each.

    A feature that varies no more than rounding would make it has scale 1, as in scikit-learn's ``StandardScaler``.
    """
    mean = rows.mean(0)
    rows -= mean
    variance = np.einsum("nd,nd->d", rows, rows) / len(rows)
    rounding = np.finfo(np.float64).eps * len(rows)
    scale = np.sqrt(np.where(variance <= rounding * variance + (rounding * mean) ** 2, 1.0, variance))
    rows /= scale
    return mean, scale


def check_features(features: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Return features ``(clips, dim)``, or raise `UsageError` if they are no table of finite numbers."""
    x = np.asarray(features)
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    if x.ndim != 2 or not x.shape[1]:
        raise UsageError(f"features must be (clips, dim), got {x.shape}")
    wrong = ~np.isfinite(x).all(1)
    if wrong.any():
        raise UsageError(
            f"{int(wrong.sum())} of {len(x)} clips have features that are not finite, clip {int(wrong.argmax())} the "
            "first; leave them out"
        )
    return x
