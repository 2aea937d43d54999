"""What of a clip its frames are measured against: its level, and where its voice lies on the average.

All of it follows from weighted sums, gathered in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from subtone.upstreams.prosody.measures import EXPONENT, Measures
from subtone.upstreams.surveys import Survey

LEAST_SPREAD = 0.1
"""Floor of `Weighted.spread`, so that a clip with hardly a voice gives no huge numbers."""
_SILENCE = 1e-20


@dataclass(frozen=True, eq=False)
class Weighted:
    """A clip's measures of one kind.

    Attributes
    ----------
    mean
        ``(measures,)`` float64, each frame weighed as `weighted` says.
    spread
        Root mean square of the weights over frames: departures from the mean are weighed and divided by it, so
        that mean and standard deviation over all frames are weighted ones.
    """

    mean: Tensor
    spread: float


@dataclass(frozen=True, eq=False)
class ProsodySurvey(Survey):
    """What a clip's frames are measured against.

    Attributes
    ----------
    level
        Mean power of its frames, each weighed by its power: neither gain nor silence moves frames against it.
    kinds
        Of measures where there is sound, where it is voiced, and where it is not.
    """

    level: float
    kinds: tuple[Weighted, ...]


def weighted(measures: Measures) -> list[tuple[Tensor, Tensor]]:
    """Return measures ``(frames, …)`` of each kind with their weights ``(frames,)``, loudness times probability.

    Loudness is in the recording's own unit.
    """
    loud = measures.energy.pow(EXPONENT)  # (frames,)
    voiced = loud * measures.voicing
    return [(measures.loud, loud), (measures.voiced, voiced), (measures.unvoiced, loud - voiced)]


@torch.no_grad()
def summarise(blocks: Iterable[Measures]) -> ProsodySurvey:
    """Gather the survey of a clip of at least one frame from its measures, block by block."""
    count = 0
    sums: list[Tensor] = []
    for block in blocks:
        energy = block.energy.double()
        count += len(energy)
        found = [energy.sum(), energy.square().sum()]
        for values, weights in weighted(block):
            w = weights.double()
            found += [w.sum(), w.square().sum(), w @ values.double()]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    energy_sum, energy_square, *rest = sums
    level = max(float(energy_square / energy_sum.clamp(min=_SILENCE)), _SILENCE)
    kinds = []
    for total, square, weighed in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        spread = float((square / count).sqrt()) / level**EXPONENT
        kinds.append(Weighted(weighed / total.clamp(min=_SILENCE), max(spread, LEAST_SPREAD)))
    return ProsodySurvey(level, tuple(kinds))
