"""Folds by support vector machines: development rows choose the kernel, test rows are scored and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.errors import RecipeError, UsageError
from subtone.evaluation.calibration import fit_temperature
from subtone.evaluation.metrics import unweighted_accuracy
from subtone.extraction.backends import cores
from subtone.protocols import Fold
from subtone.training.svm.machine import (
    Boundaries,
    Codes,
    FittedSvm,
    Floats,
    Products,
    Setting,
    check_features,
    learn,
    standardise,
)
from subtone.training.svm.options import Kernel, SvmOptions

#: Development rows that are all recognised ask for no temperature at all, and so for probabilities of 1.
COLDEST = 0.1


@dataclass(frozen=True)
class SvmChoice:
    """What a fold is scored with.

    Parameters
    ----------
    kernel, cost, gamma
        As in `SvmOptions`; ``gamma`` is None with the linear kernel.
    dev_ua
        Development UA in [0, 1] of the machine of the training rows; NaN without development rows.
    temperature
        That makes the development rows most probable to that machine; 1 without development rows.
    """

    kernel: Kernel
    cost: float
    gamma: float | None
    dev_ua: float
    temperature: float


@dataclass(frozen=True, eq=False)
class SvmRun:
    """What a run over folds gave.

    Parameters
    ----------
    logits
        ``(clips, classes)`` float32: each clip scored by the fold that tests it; NaN for a clip of no test fold.
    chosen
        One a fold.
    models
        One a fold.
    """

    logits: npt.NDArray[np.float32]
    chosen: tuple[SvmChoice, ...]
    models: tuple[FittedSvm, ...]


def train_svm(
    features: npt.ArrayLike,
    targets: npt.ArrayLike,
    folds: Sequence[Fold],
    classes: int,
    options: SvmOptions,
    *,
    on_fold: Callable[[int, int], None] | None = None,
) -> SvmRun:
    """Fit a support vector machine a fold.

    Features are standardised by the training rows. Each kernel, cost and gamma is fitted on these and measured by
    the UA of the development rows; of equals the smaller cost wins, then the kernel named first, then the smaller
    gamma. Without development rows nothing is searched: the kernel named first with cost 1 and gamma 1, or the ones
    named first where 1 is not among them.

    The answers are those of scikit-learn's ``make_pipeline(StandardScaler(), SVC(...))``; products of rows are taken
    once a fold for all kernels, and costs are tried in a thread a core. With ``n`` training rows memory peaks at about
    ``8 n dim + 24 n²`` bytes and 200 MB a core; the models keep at most the bytes of ``features`` each.

    Parameters
    ----------
    features
        ``(clips, dim)`` finite.
    targets
        ``(clips,)`` class numbers. Those of test rows are not looked at.
    folds
        Positions of the training, development and test clips.
    classes
        Number of classes. One that a fold does not train on gets the lowest scores there.
    options
        See there.
    on_fold
        Told after each fold how many are done, and of how many.

    Returns
    -------
    SvmRun
        The same for the same arguments on the same machine.

    Raises
    ------
    UsageError
        If shapes disagree, a feature is not finite, or a class number is out of range.
    RecipeError
        If a fold trains on fewer than two classes.
    """
    x, y = check_features(features), np.asarray(targets, np.int64)
    if y.shape != x.shape[:1]:
        raise UsageError(f"features {x.shape} and targets {y.shape} disagree: one row and one target a clip")
    heard = np.unique(
        np.concatenate([y[:0], *(y[rows] for fold in folds for rows in (fold.train, fold.dev))])
    )
    if len(heard) and not 0 <= heard[0] <= heard[-1] < classes:
        raise UsageError(f"targets must be class numbers 0 to {classes - 1}, got {heard[0]} to {heard[-1]}")
    logits = np.full((len(x), classes), np.nan, np.float32)
    chosen: list[SvmChoice] = []
    models: list[FittedSvm] = []
    for number, fold in enumerate(folds, 1):
        choice, model = _fit(x, y, fold, classes, options)
        if len(fold.test):
            logits[fold.test] = model.logits(x[fold.test])
        chosen.append(choice)
        models.append(model)
        if on_fold is not None:
            on_fold(number, len(folds))
    return SvmRun(logits, tuple(chosen), tuple(models))


def _fit(
    x: npt.NDArray[np.floating], y: Codes, fold: Fold, classes: int, options: SvmOptions
) -> tuple[SvmChoice, FittedSvm]:
    rows = _Rows(x, y, fold.train, fold.name, options)
    if len(fold.dev):
        found = _search(rows, rows.standardised(x[fold.dev]), y[fold.dev], options)
        setting, boundaries = found.setting, found.boundaries
        ua, temperature = found.ua, _temperature(found, y[fold.dev])
        if options.refit:
            del rows  # before the next ones: they are what takes the memory
            rows = _Rows(x, y, np.sort(np.concatenate([fold.train, fold.dev])), fold.name, options)
            boundaries = rows.learn(setting)
    else:
        setting, ua, temperature = _default(options), math.nan, 1.0
        boundaries = rows.learn(setting)
    choice = SvmChoice(setting.kernel, setting.cost, setting.gamma, ua, temperature)
    vectors = x[rows.rows[boundaries.support]]
    return choice, FittedSvm(setting, classes, rows.mean, rows.scale, vectors, boundaries, temperature)


class _Rows:
    """Standardised rows to train on, and their products."""

    def __init__(
        self, x: npt.NDArray[np.floating], y: Codes, rows: Codes, name: str, options: SvmOptions
    ) -> None:
        self.rows, self._targets, self._class_weights = rows, y[rows], options.class_weights
        if len(np.unique(self._targets)) < 2:
            raise RecipeError(
                f"fold {name!r} trains on clips of fewer than two classes; choose other folds or classes"
            )
        z = x[rows].astype(np.float64)  # (rows, dim), changed in place
        self.mean, self.scale = standardise(z)
        self.z = z
        self.products = Products(z, z)

    def standardised(self, x: npt.NDArray[np.floating]) -> Floats:
        """Return other rows as these are: ``(others, dim)`` float64."""
        return np.asarray((x - self.mean) / self.scale, np.float64)

    def learn(self, setting: Setting, kernel: Floats | None = None) -> Boundaries:
        """Learn on all rows; ``kernel (rows, rows)`` is that of the setting, if it is at hand."""
        if kernel is None:
            kernel = self.products.kernel(setting.kernel, setting.gamma)
        return learn(kernel, self._targets, setting.cost, self._class_weights)


@dataclass(frozen=True, eq=False)
class _Tried:
    setting: Setting
    boundaries: Boundaries
    scores: Floats  # (dev rows, known classes)
    ua: float


def _search(rows: _Rows, dev: Floats, truth: Codes, options: SvmOptions) -> _Tried:
    """Try all settings on ``dev (dev rows, dim)``, standardised, and return the best."""
    across = Products(dev, rows.z)

    def attempt(setting: Setting, kernel: Floats, dev_kernel: Floats) -> _Tried:
        boundaries = rows.learn(setting, kernel)
        scores = boundaries.scores(dev_kernel[:, boundaries.support])
        return _Tried(setting, boundaries, scores, _ua(boundaries.known[scores.argmax(1)], truth))

    def worth(tried: _Tried) -> tuple[float, ...]:
        setting = tried.setting
        # Rounded: the same UA may come out of different recalls a hair apart.
        simple = (setting.cost, options.kernels.index(setting.kernel), setting.gamma or 0.0)
        return (round(tried.ua, 12), *(-value for value in simple))

    best: _Tried | None = None
    with ThreadPoolExecutor(cores()) as threads:  # scikit-learn's solver lets go of Python's lock
        for name, gamma in _kernels(options):
            kernel, dev_kernel = rows.products.kernel(name, gamma), across.kernel(name, gamma)
            settings = [Setting(name, cost, gamma) for cost in options.costs]
            tried = list(threads.map(lambda s, k=kernel, d=dev_kernel: attempt(s, k, d), settings))
            best = max([*tried, best] if best else tried, key=worth)
    assert best is not None
    return best


def _kernels(options: SvmOptions) -> Iterator[tuple[Kernel, float | None]]:
    for kernel in options.kernels:
        if kernel == "rbf":
            yield from ((kernel, gamma) for gamma in options.gammas)
        else:
            yield kernel, None


def _default(options: SvmOptions) -> Setting:
    kernel = options.kernels[0]
    cost = 1.0 if 1.0 in options.costs else options.costs[0]
    gamma = 1.0 if 1.0 in options.gammas else options.gammas[0]
    return Setting(kernel, cost, gamma if kernel == "rbf" else None)


def _ua(predicted: Codes, truth: Codes) -> float:
    classes = int(max(predicted.max(), truth.max())) + 1
    hits = np.bincount(truth[predicted == truth], minlength=classes)
    return float(unweighted_accuracy(hits, np.bincount(truth, minlength=classes)))


def _temperature(found: _Tried, truth: Codes) -> float:
    """Fit on the development rows whose class was trained on: of the others no temperature makes anything."""
    known = found.boundaries.known
    able = np.isin(truth, known)
    if not able.any():
        return 1.0
    return max(COLDEST, fit_temperature(found.scores[able], np.searchsorted(known, truth[able])))
