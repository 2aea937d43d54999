"""Pooling a stretch of frames at a time: count, mean and spread of each stretch under each weighting, then merged.

Every statistic of :mod:`subtone.pooling` is a weighted mean or a weighted deviation, so nothing but these has to be
kept of frames that are gone. Sums are in float64: the order of merging and the length of a clip cost no precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.errors import nearest
from subtone.pooling import STATISTICS, WEIGHTINGS, PoolingError, weights

#: Numbers that are widened to float64 at a time: on a CPU what its second-level cache holds, elsewhere what keeps a
#: device busy.
_BLOCK = {"cpu": 1 << 17}
_LARGE_BLOCK = 1 << 24


@dataclass(frozen=True, eq=False)
class FrameWeights:
    """What each frame of a clip weighs in each pooling.

    Parameters
    ----------
    rows
        Each ``(frames,)`` bool or float64; poolings that weigh all frames alike share one.
    row_of
        Name of a weighting → its row.
    """

    rows: tuple[Tensor, ...]
    row_of: Mapping[str, int]

    def of(self, frames: slice) -> Tensor:
        """Return ``(rows, frames)`` float64 of a stretch of the clip."""
        return torch.stack([row[frames].double() for row in self.rows])


def weigh(names: Iterable[str], speech: npt.NDArray[np.bool_]) -> FrameWeights:
    """Weigh all frames of a clip before any of them is computed.

    Parameters
    ----------
    names : iterable of str
        Statistics, see :data:`subtone.pooling.STATISTICS`.
    speech : ndarray
        ``(frames,)`` bool, True where a frame is speech.

    Raises
    ------
    PoolingError
        If a statistic is unknown, is no mean or deviation under a weighting, or its weighting looks at frames.
    """
    stems = dict.fromkeys(_parts(name)[0] for name in names)
    rows: list[Tensor] = []
    row_of: dict[str, int] = {}
    for stem, row in weights(stems, torch.from_numpy(speech)[None]).items():
        same = [i for i, known in enumerate(rows) if torch.equal(known.double(), row[0].double())]
        row_of[stem] = same[0] if same else len(rows)
        if not same:
            rows.append(row[0] if row.dtype == torch.bool else row[0].double())
    return FrameWeights(tuple(rows), row_of)


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted moments of the frames ``[first_frame, end_frame)`` of a clip, on the device that the frames are on.

    Parameters
    ----------
    first_frame, end_frame
        Which frames.
    weight
        ``(rows,)`` float64: sum of the weights, a row a weighting.
    mean
        ``(layers, rows, dim)`` float64; anything finite where the weight is 0.
    spread
        ``(layers, rows, dim)`` float64: weighted sum of squared distances from the mean.
    """

    first_frame: int
    end_frame: int
    weight: Tensor
    mean: Tensor
    spread: Tensor


def moments(frames: Tensor, weights_of: FrameWeights, place: slice) -> Moments:
    """Take the moments of a stretch of frames, on the device that they are on.

    Parameters
    ----------
    frames : Tensor
        ``(layers, frames, dim)`` floating.
    weights_of : FrameWeights
        Of the whole clip.
    place : slice
        Which frames of the clip these are.

    Raises
    ------
    PoolingError
        If they are not as many frames as ``place`` says.
    """
    num_layers, num_frames, dim = frames.shape
    if num_frames != place.stop - place.start:
        raise PoolingError(f"frames {place.start} to {place.stop} of a clip cannot be {num_frames} frames")
    weight = weights_of.of(place).to(frames.device)  # (rows, frames)
    # Distances from one of the frames: sums of squares then keep their digits, and what is constant stays exactly so.
    centre = frames[:, :1].double()  # (layers, 1, dim)
    sums = frames.new_zeros(num_layers, len(weight), dim, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    block = _BLOCK.get(frames.device.type, _LARGE_BLOCK)
    high = max(1, block // (num_frames * dim))  # layers at a time
    long = max(1, block // (high * dim))  # frames at a time
    for layer in range(0, num_layers, high):
        layers = slice(layer, layer + high)
        for first in range(0, num_frames, long):
            distance = frames[layers, first : first + long].double() - centre[layers]  # (layers, frames, dim)
            here = weight[:, first : first + long]
            sums[layers] += here @ distance
            squares[layers] += here @ distance.square_()
    total = weight.sum(1)  # (rows,)
    apart = sums / total.clamp_min(torch.finfo(torch.float64).tiny)[:, None]  # (layers, rows, dim)
    spread = (squares - apart * sums).clamp_min_(0)
    return Moments(place.start, place.stop, total, centre + apart, spread)


def merge(parts: Iterable[Moments]) -> Moments:
    """Merge the moments of stretches that together are a clip; they may come in any order.

    They are merged in the order of their frames, each as soon as those before it are there, so that the result is the
    same to the bit whoever was first, and no more than what came too early is held.

    Raises
    ------
    PoolingError
        If there is none, or if frames are missing between them.

    Source
    ------
    Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", with weights for counts.
    """
    early: dict[int, Moments] = {}
    merged: Moments | None = None
    for part in parts:
        early[part.first_frame] = part
        while (following := 0 if merged is None else merged.end_frame) in early:
            after = early.pop(following)
            merged = after if merged is None else _join(merged, after)
    if merged is None or early:
        end = 0 if merged is None else merged.end_frame
        raise PoolingError(f"the frames of a clip from {end} on are missing")
    return merged


def statistics(
    merged: Moments, weights_of: FrameWeights, names: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return statistics of a clip, each ``(layers, dim)`` float32, in the order of ``names``."""
    mean = merged.mean.cpu().numpy()  # (layers, rows, dim)
    deviation = (merged.spread / merged.weight[:, None]).sqrt_().cpu().numpy()
    found = {}
    for name in names:
        stem, moment = _parts(name)
        values = (mean if moment == "mean" else deviation)[:, weights_of.row_of[stem]]
        found[name] = values.astype(np.float32)
    return found


def _join(one: Moments, two: Moments) -> Moments:
    weight = one.weight + two.weight  # (rows,)
    share = (two.weight / weight.clamp_min(torch.finfo(torch.float64).tiny))[:, None]  # (rows, 1)
    apart = two.mean - one.mean  # (layers, rows, dim)
    spread = one.spread + two.spread + apart.square() * (one.weight[:, None] * share)
    return Moments(one.first_frame, two.end_frame, weight, one.mean + apart * share, spread)


def _parts(name: str) -> tuple[str, str]:
    """Split the name of a statistic into its weighting and ``"mean"`` or ``"std"``."""
    stem, _, moment = name.rpartition("_")
    if moment not in ("mean", "std") or stem not in WEIGHTINGS:
        if name in STATISTICS:
            raise PoolingError(
                f"statistic {name!r} needs all frames of a clip at once; it can pool only clips that are encoded in "
                "one pass"
            )
        raise PoolingError(f"statistic {name!r} is not known; {nearest(name, STATISTICS)}")
    return stem, moment
