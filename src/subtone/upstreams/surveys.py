"""What a clip's frames depend on over the whole clip, as found in one pass, so that a chunk can be encoded alone.

Which of these a family makes and uses, the family says (`Upstream.survey`); how they are collected is in `passes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from subtone.errors import UpstreamError

_Values = npt.NDArray[np.float64]


class Survey:
    """What a clip's frames depend on over the whole clip, beyond their surroundings; see `Upstream.survey`."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean ``(width,)`` and covariance ``(width, width)`` of rows of numbers, float64."""

    mean: _Values
    covariance: _Values

    def scaled(self, offset: float, scale: float) -> Moments:
        """Return the moments of ``(rows - offset) * scale``."""
        return Moments((self.mean - offset) * scale, self.covariance * scale**2)


@dataclass(frozen=True, eq=False)
class WaveSurvey(Survey):
    """Moments of the samples of a clip and, for group-norm encoders, of what the first convolution sees.

    Attributes
    ----------
    mean, variance
        Over all samples.
    patches
        Over all positions of the first convolution, as wide as its kernel; None where its output is not
        normalised over time. From these follow mean and variance of every channel: an output is a weighted
        sum of its patch.
    """

    mean: float
    variance: float
    patches: Moments | None = None


@dataclass(frozen=True, eq=False)
class BandSurvey(Survey):
    """Mean and variance of each filter-bank feature over the clip, ``(features,)`` float64."""

    mean: _Values
    variance: _Values


@dataclass(frozen=True)
class LevelSurvey(Survey):
    """One level of the clip in the unit of its features, logarithms: what is taken off, or floored below."""

    level: float


_Kind = TypeVar("_Kind", bound=Survey)


def of_kind(survey: Survey | None, kind: type[_Kind]) -> _Kind | None:
    """Return the survey if it is of the kind that an upstream makes, or None for None.

    Raises
    ------
    UpstreamError
        If it is of another kind.
    """
    if survey is None or isinstance(survey, kind):
        return survey
    raise UpstreamError(
        f"a {type(survey).__name__} is no survey of this upstream, which makes a {kind.__name__}; pass what its "
        "own survey(...) returned for the clip"
    )


def one_each(surveys: Sequence[Survey | None] | None, num_waves: int) -> Sequence[Survey | None]:
    """Return as many surveys as waves; None stands for none at all.

    Raises
    ------
    UpstreamError
        If there are more or fewer.
    """
    if surveys is None:
        return [None] * num_waves
    if len(surveys) != num_waves:
        raise UpstreamError(
            f"{len(surveys)} surveys for {num_waves} waves; give one a wave, None for a whole clip"
        )
    return surveys
