"""The options of support vector machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from subtone.errors import nearest
from subtone.training.options import STRICT, ClassWeights, OptionError

Kernel = Literal["rbf", "linear"]


@dataclass(frozen=True)
class SvmOptions:
    """How a support vector machine is found on standardised features.

    Both kernels are measured by the number of features ``dim``, so that one grid suits 88 and 6373 of them:

        linear: k(a, b) = a · b / dim,    rbf: k(a, b) = exp(-gamma / dim · |a - b|²).

    Parameters
    ----------
    kernels
        Those that are tried.
    costs
        The ``C`` that are tried: how much a clip on the wrong side costs; small ones make simple boundaries. With the
        linear kernel, what others call C is a ``dim``-th of it.
    gammas
        Those that are tried, of the rbf kernel.
    class_weights
        ``"balanced"`` weighs each class by the inverse of its share of the training rows.
    refit
        Fit the standardisation and the machine once more on training and development rows together, with what
        development chose.
    """

    __pydantic_config__ = STRICT

    kernels: tuple[Kernel, ...] = ("rbf", "linear")
    costs: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    gammas: tuple[float, ...] = (0.1, 0.3, 1.0)
    class_weights: ClassWeights = "balanced"
    refit: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("kernels", "costs", "gammas"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not values or len(set(values)) < len(values):
                raise OptionError(f"{name} = {values!r} must be a list of at least one, each of them once")
        for name in ("costs", "gammas"):
            for value in getattr(self, name):
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                    raise OptionError(f"{name}: {value!r} must be a number above 0")
        _among("kernels", self.kernels, get_args(Kernel))
        _among("class_weights", (self.class_weights,), get_args(ClassWeights))


def _among(name: str, values: Sequence[Any], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise OptionError(f"{name}: {value!r} is not known; {nearest(str(value), known)}")
