"""One pass over a clip that comes in blocks: windows regrouped, moments collected, nothing held for long.

Every sum is in float64, and where blocks are cut changes nothing beyond its rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from subtone.upstreams.base import Wave
from subtone.upstreams.clips import as_clips
from subtone.upstreams.surveys import Moments

_PIECE = (
    60 * 16_000
)  # samples looked at together, so that a block of hours needs no more memory than a minute


def pieces(blocks: Iterable[Wave], shortest: int = 0) -> Iterator[Tensor]:
    """Yield the samples of the blocks as float32 on the CPU, a minute at most at once.

    Parameters
    ----------
    blocks
        The samples of a clip in order, in blocks of any sizes.
    shortest
        A clip of fewer samples ends in as many zeros as it lacks.

    Raises
    ------
    UpstreamError
        If a block is not one-dimensional float, or holds NaN or infinity.
    """
    count = 0
    for block in blocks:
        (samples,) = as_clips([block], torch.device("cpu"))
        count += len(samples)
        yield from torch.split(samples.detach(), _PIECE)
    if count < shortest:
        yield torch.zeros(shortest - count)


def stretches(parts: Iterable[Tensor], window: int, hop: int) -> Iterator[Tensor]:
    """Regroup samples into stretches whose windows, one stretch after the other, are the windows of the whole.

    A stretch ends with its last window; samples that further windows need come again in the next stretch.
    Samples after the last whole window are left out.

    Parameters
    ----------
    parts
        ``(samples,)`` each, in order.
    window, hop
        Length and distance of the windows, in samples; the hop is at most the window.

    Examples
    --------
    >>> [s.tolist() for s in stretches([torch.arange(2), torch.arange(2, 4), torch.arange(4, 9)], 3, 2)]
    [[0, 1, 2], [2, 3, 4, 5, 6, 7, 8]]
    """
    rest = torch.zeros(0)
    for part in parts:
        samples = torch.cat([rest.to(part.dtype), part])
        num_windows = max(0, (len(samples) - window) // hop + 1)
        if num_windows:
            yield samples[: (num_windows - 1) * hop + window]
        rest = samples[num_windows * hop :]


class MomentsSum:
    """Count, mean and centred second moments of rows, block by block (Chan, Golub & LeVeque 1983).

    Parameters
    ----------
    width
        Numbers in a row.

    Examples
    --------
    >>> found = MomentsSum(1)
    >>> for block in ([[1.0], [2.0]], [[6.0]]):
    ...     found.add(torch.tensor(block))
    >>> found.mean.tolist(), found.covariance().tolist()
    ([3.0], [[4.666666666666667]])
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)  # (width,)
        self._second = torch.zeros(width, width, dtype=torch.float64)  # (width, width)

    def add(self, rows: Tensor) -> None:
        """Take in ``(rows, width)``."""
        if len(rows) == 0:
            return
        rows = rows.double()
        mean = rows.mean(dim=0)  # (width,)
        centred, apart, total = rows - mean, mean - self.mean, self.count + len(rows)
        self._second += centred.T @ centred + torch.outer(apart, apart) * (self.count * len(rows) / total)
        self.mean = self.mean + apart * (len(rows) / total)
        self.count = total

    def covariance(self, correction: int = 0) -> Tensor:
        """Return ``(width, width)``, the second moments over the count less ``correction``; zero of nothing."""
        return self._second / max(1, self.count - correction)

    def moments(self) -> Moments:
        """Return mean and covariance."""
        return Moments(self.mean.numpy(), self.covariance().numpy())
