"""What a clip's frames depend on over the whole clip: taken in one pass, so that a chunk of it can be encoded alone.

Every statistic is collected in float64 from blocks of any size; where blocks are cut changes nothing beyond
rounding. Which statistic a family needs, the family says (`Upstream.survey`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.errors import UpstreamError
from subtone.upstreams.base import Survey, Wave
from subtone.upstreams.clips import as_clips

_Values = npt.NDArray[np.float64]
_PIECE = 60 * 16_000  # samples looked at together: a block of hours needs no more memory than a minute


@dataclass(frozen=True, eq=False)
class WaveSurvey(Survey):
    """Mean and variance of the samples; for group-norm encoders also those of what the first convolution sees.

    Attributes
    ----------
    mean, variance
        Over all samples of the clip.
    patch_mean, patch_covariance
        ``(kernel,)`` and ``(kernel, kernel)`` over all positions of the first convolution; None where its
        output is not normalised over time. From these follow mean and variance of every channel: an output is
        a weighted sum of its patch.
    """

    mean: float
    variance: float
    patch_mean: _Values | None = None
    patch_covariance: _Values | None = None


@dataclass(frozen=True, eq=False)
class BandSurvey(Survey):
    """Mean and variance of each filter-bank feature over the clip, ``(features,)``."""

    mean: _Values
    variance: _Values


@dataclass(frozen=True)
class LevelSurvey(Survey):
    """The level of a clip, in the unit of its features: logarithms."""

    level: float


class Moments:
    """Count, mean and centred second moments of rows, collected block by block (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros((), dtype=torch.float64)
        self._second: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Take in ``(rows, width)``."""
        if len(rows) == 0:
            return
        values = rows.double()
        mean = values.mean(dim=0)  # (width,)
        centred = values - mean
        second = centred.T @ centred  # (width, width)
        total = self.count + len(rows)
        apart = mean - self.mean
        between = torch.outer(apart, apart) if self.count else torch.zeros_like(second)
        self._second = self._second + second + between * (self.count * len(rows) / total)
        self.mean = self.mean + apart * (len(rows) / total) if self.count else mean
        self.count = total

    def covariance(self, correction: int = 0) -> Tensor:
        """Return ``(width, width)``, divided by the count less ``correction``."""
        return self._second / (self.count - correction)


def pieces(blocks: Iterable[Wave]) -> Iterator[Tensor]:
    """Yield the samples of the blocks as float32 tensors of at most a minute, on the CPU.

    Raises
    ------
    UpstreamError
        If a block is not one-dimensional float, or holds NaN or infinity.
    """
    for block in blocks:
        (samples,) = as_clips([block], torch.device("cpu"))
        yield from torch.split(samples.detach(), _PIECE)


def strides(parts: Iterable[Tensor], window: int, hop: int) -> Iterator[Tensor]:
    """Regroup samples into stretches whose windows, put end to end, are the windows of the whole.

    Each stretch is as long as its last window needs; the samples of further windows come again in the next
    stretch. Samples after the last whole window are left out.

    Examples
    --------
    >>> [s.tolist() for s in strides([torch.arange(3), torch.arange(3, 8)], window=3, hop=2)]
    [[0, 1, 2], [2, 3, 4, 5, 6]]
    """
    rest: Tensor | None = None
    for part in parts:
        samples = part if rest is None else torch.cat([rest, part])
        num_windows = (len(samples) - window) // hop + 1
        if num_windows < 1:
            rest = samples
            continue
        yield samples[: (num_windows - 1) * hop + window]
        rest = samples[num_windows * hop :]


def survey_wave(
    blocks: Iterable[Wave], *, shortest: int, patch: tuple[int, int] | None, pad_with_mean: bool
) -> WaveSurvey:
    """Return the moments of a clip's samples and of the patches that its first convolution sees.

    Parameters
    ----------
    blocks
        As for `Upstream.survey`.
    shortest
        Samples to which a shorter clip is padded before its patches are taken.
    patch
        Kernel and stride of the first convolution, at most the kernel; None for no patches.
    pad_with_mean
        Whether that padding is the mean of the samples, which is zero once they are normalised, instead of
        zero.
    """
    samples, patches = Moments(), Moments()
    counted, kernel, stride = 0, *(patch or (1, 1))

    def padded() -> Iterator[Tensor]:
        nonlocal counted
        for piece in pieces(blocks):
            counted += len(piece)
            samples.add(piece[:, None])
            yield piece
        if counted < shortest:
            value = float(samples.mean) if pad_with_mean and counted else 0.0
            yield torch.full((shortest - counted,), value)

    for stretch in strides(padded(), kernel, stride):
        if patch is not None:
            patches.add(stretch.unfold(0, kernel, stride))
    return WaveSurvey(
        mean=float(samples.mean),
        variance=float(samples.covariance()) if counted else 0.0,
        patch_mean=None if patch is None else patches.mean.numpy(),
        patch_covariance=None if patch is None else patches.covariance().numpy(),
    )


_Kind = TypeVar("_Kind", bound=Survey)


def of_kind(survey: Survey | None, kind: type[_Kind]) -> _Kind | None:
    """Return the survey if it is of the kind that an upstream makes.

    Raises
    ------
    UpstreamError
        If it is of another kind.
    """
    if survey is None or isinstance(survey, kind):
        return survey
    raise UpstreamError(
        f"a {type(survey).__name__} is no survey of this upstream, which makes a {kind.__name__}; "
        "pass what its own survey(...) returned"
    )
