"""From the rows of a result to what can be drawn: cells of time that tile, each with its probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.inference.prediction import FileResult

MOST_CELLS = 600
"""More cells than this can't be told apart in a picture; they are averaged to this many."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Probabilities over time, ready to draw.

    Attributes
    ----------
    starts, ends
        ``(cells,)`` seconds; sorted, disjoint.
    values
        ``(cells, labels)``; NaN where nothing was guessed.
    level
        True where a cell's values hold for all of it (segments, files), False where they are samples of a curve at its
        middle (windows).
    averaged_s
        Seconds that a cell averages over, when there were too many to draw; else 0.
    """

    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    level: bool
    averaged_s: float = 0.0

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """``(cells,)``: cells with an answer."""
        known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(self.values).all(axis=1))
        return known

    def runs(self) -> list[slice]:
        """Return the answered cells, in runs that touch."""
        found: list[slice] = []
        for cell in np.flatnonzero(self.answered).tolist():
            touches = found and found[-1].stop == cell and self.starts[cell] - self.ends[cell - 1] < 1e-6
            if touches:
                found[-1] = slice(found[-1].start, cell + 1)
            else:
                found.append(slice(cell, cell + 1))
        return found

    def gaps(self, first_s: float, last_s: float) -> list[tuple[float, float]]:
        """Return the stretches of ``[first_s, last_s]`` without an answer."""
        found: list[tuple[float, float]] = []
        at = first_s
        for run in self.runs():
            start, end = float(self.starts[run.start]), float(self.ends[run.stop - 1])
            if start - at > 1e-6:
                found.append((at, start))
            at = end
        return [*found, (at, last_s)] if last_s - at > 1e-6 else found

    def winners(self) -> list[tuple[float, float, int]]:
        """Return stretches of the same likeliest label, as start and end in seconds and the label's number."""
        found: list[tuple[float, float, int]] = []
        for run in self.runs():
            best = self.values[run].argmax(axis=1)
            turns = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
            for begin, stop in pairwise(turns):
                start, end = self.starts[run.start + begin], self.ends[run.start + stop - 1]
                found.append((float(start), float(end), int(best[begin])))
        return found


def curves(result: FileResult) -> Curves:
    """Lay the rows of a result out in time.

    Segments and whole files are cells as they are. Windows overlap: each takes the time that is nearer to its middle
    than to another's, the first and the last reach to their own ends. More than `MOST_CELLS` are averaged.
    """
    starts, ends = result.starts / SAMPLE_RATE_HZ, result.ends / SAMPLE_RATE_HZ
    values = result.probabilities
    level = result.per != "window"
    if not level and len(starts) > 1:
        middles = (starts + ends) / 2
        between = (middles[:-1] + middles[1:]) / 2
        # A hop longer than the window leaves gaps: no cell reaches beyond its window.
        starts = np.maximum(starts, np.concatenate([starts[:1], between]))
        ends = np.minimum(ends, np.concatenate([between, ends[-1:]]))
    if len(starts) <= MOST_CELLS:
        return Curves(starts, ends, values, level)
    return _averaged(starts, ends, values)


def _averaged(
    starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> Curves:
    """Average cells into `MOST_CELLS` equal ones, weighted by overlap; one is answered where any part of it is."""
    edges = np.linspace(starts[0], ends[-1], MOST_CELLS + 1)
    known = ~np.isnan(values).any(axis=1)
    total = np.zeros((MOST_CELLS, values.shape[1]))
    weight = np.zeros(MOST_CELLS)
    width = edges[1] - edges[0]
    for start, end, row in zip(starts[known], ends[known], values[known], strict=True):
        first = int((start - edges[0]) / width)
        last = min(int((end - edges[0]) / width), MOST_CELLS - 1)
        cells = np.arange(min(first, last), last + 1)
        overlap = np.maximum(np.minimum(end, edges[cells + 1]) - np.maximum(start, edges[cells]), 0)
        weight[cells] += overlap
        total[cells] += overlap[:, None] * row
    means = np.full_like(total, np.nan)
    np.divide(total, weight[:, None], out=means, where=weight[:, None] > 0)
    return Curves(edges[:-1], edges[1:], means, level=False, averaged_s=float(width))
