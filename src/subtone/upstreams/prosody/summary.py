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


@dataclass(frozen=True, eq=False)
class ProsodySurvey(Survey):
    """What a clip's frames are measured against.

    Attributes
    ----------
    level
        Mean power of its frames, each weighed by its power: neither gain nor silence moves frames against it.
    loud, voiced
        ``(measures,)`` float64, means weighted by loudness, and by loudness and voicing.
    loud_spread, voiced_spread
        Root mean squares of the weights over frames, by which departures from these means are divided: the mean
        and the standard deviation over all frames are then weighted ones.
    """

    level: float
    loud: Tensor
    voiced: Tensor
    loud_spread: float
    voiced_spread: float


def weights_of(measures: Measures) -> tuple[Tensor, Tensor]:
    """Return what frames weigh as sound and as voice, ``(frames,)`` each, in the recording's own unit."""
    loud = measures.energy.pow(EXPONENT)
    return loud, loud * measures.voicing


@torch.no_grad()
def summarise(blocks: Iterable[Measures]) -> ProsodySurvey:
    """Gather the survey of a clip from its measures, block by block."""
    energy = squared = count = 0.0
    sums: list[list[Tensor]] = []
    for block in blocks:
        power = block.energy.double()
        energy, squared = energy + float(power.sum()), squared + float(power.square().sum())
        count += len(power)
        row = []
        for weight, values in zip(weights_of(block), (block.loud, block.voiced), strict=True):
            w = weight.double()
            row += [w.sum(), w.square().sum(), w @ values.double()]
        sums = [row] if not sums else [[a + b for a, b in zip(sums[0], row, strict=True)]]
    loud_sum, loud_square, loud, voiced_sum, voiced_square, voiced = sums[0]
    level = max(squared / energy if energy > 0 else 0.0, 1e-20)
    unit = level**EXPONENT
    return ProsodySurvey(
        level,
        (loud / loud_sum.clamp(min=1e-12)).cpu(),
        (voiced / voiced_sum.clamp(min=1e-12)).cpu(),
        max(float((loud_square / count).sqrt()) / unit, 0.1),
        max(float((voiced_square / count).sqrt()) / unit, 0.1),
    )
