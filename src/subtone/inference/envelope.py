"""The outline of a recording of any length, for drawing: lowest, highest and effective value a column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Envelope:
    """The outline of a wave in columns of equal length.

    Attributes
    ----------
    edges
        ``(columns + 1,)`` int64: column ``c`` holds the samples ``[edges[c], edges[c + 1])``.
    low, high, rms
        ``(columns,)`` float64.
    """

    edges: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    rms: npt.NDArray[np.float64]


def envelope(
    blocks: Iterable[npt.NDArray[np.float32]], first: int, num_samples: int, columns: int
) -> Envelope:
    """Take the outline of the samples ``[first, first + num_samples)`` of a stream of blocks.

    Parameters
    ----------
    blocks
        Consecutive ``(samples,)`` blocks; what lies beyond the part is passed over, what is missing counts as 0.
    first, num_samples
        The part.
    columns
        At most this many; a shorter wave has one a sample.

    Examples
    --------
    >>> outline = envelope([np.array([0.0, 1.0, -3.0]), np.array([2.0])], 0, 4, 2)
    >>> outline.low.tolist(), outline.high.tolist()
    ([0.0, -3.0], [1.0, 2.0])
    """
    columns = max(1, min(columns, num_samples))
    edges = np.arange(columns + 1, dtype=np.int64) * num_samples // columns
    low, high, power = np.full(columns, np.inf), np.full(columns, -np.inf), np.zeros(columns)
    at = -first  # of the next block, counted from the beginning of the part
    for block in blocks:
        wave = block[max(0, -at) : max(0, num_samples - at)].astype(np.float64)
        start = max(0, at)
        at += len(block)
        if len(wave):
            touched = np.arange(
                np.searchsorted(edges, start, side="right") - 1, np.searchsorted(edges, start + len(wave))
            )
            cuts = np.maximum(edges[touched] - start, 0)
            low[touched] = np.minimum(low[touched], np.minimum.reduceat(wave, cuts))
            high[touched] = np.maximum(high[touched], np.maximum.reduceat(wave, cuts))
            power[touched] += np.add.reduceat(wave**2, cuts)
        if at >= num_samples:
            break
    low[np.isinf(low)] = 0.0
    high[np.isinf(high)] = 0.0
    return Envelope(edges, low, high, np.sqrt(power / np.diff(edges)))
