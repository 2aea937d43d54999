"""Where masked spans start: one function a strategy.

A strategy scores or ranks the frames of a whole batch; counts, legal starts and randomness are given to it, and the
spans, their coverage and the corruption follow from what it returns. So a new one is one function::

    @strategy("late")                              # from then on Masking("late") knows it
    def latest(room, _intensity, _noise):          # -> (batch, frames) bool, True where a span starts
        return highest(room, room.legal.cumsum(1).double())

Two rules hold for all: starts are legal, and each utterance gets exactly the spans that it is owed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from subtone.errors import UsageError

_LEAST = 1e-30  # an intensity of zero, for which a logarithm is wanted: below any that float16 or 32 can mean


class MaskingError(UsageError, ValueError):
    """A strategy, a share or an intensity that no mask can be made of."""


@dataclass(frozen=True)
class Room:
    """Where the spans of a batch may start.

    Attributes
    ----------
    valid
        ``(batch, frames)`` bool, False on padding.
    legal
        ``(batch, frames)`` bool, True where a span may start.
    counts
        ``(batch,)`` int64, spans owed to each utterance; never more than its legal starts.
    span
        Frames a span.
    """

    valid: Tensor
    legal: Tensor
    counts: Tensor
    span: int


StartsFn = Callable[[Room, Tensor, Tensor], Tensor]
"""From room, intensity in [0, 1] and noise in [0, 1), both ``(batch, frames)``, to starts ``(batch, frames)`` bool.
Intensity comes in its own precision, zero on padding; noise is float64."""


@dataclass(frozen=True)
class Strategy:
    """A way to choose starts, and whether it looks at intensity (else it is given zeros)."""

    choose: StartsFn
    needs_intensity: bool


STRATEGIES: dict[str, Strategy] = {}
"""Name → strategy: what :func:`strategy` has registered."""


def strategy(name: str, *, needs_intensity: bool = False) -> Callable[[StartsFn], StartsFn]:
    """Register a function that chooses starts.

    Raises
    ------
    MaskingError
        (a ``ValueError``) If the name is taken.
    """

    def register(choose: StartsFn) -> StartsFn:
        if name in STRATEGIES:
            raise MaskingError(f"masking strategy {name!r} is registered already; choose another name")
        STRATEGIES[name] = Strategy(choose, needs_intensity)
        return choose

    return register


@strategy("none")
def nowhere(room: Room, _intensity: Tensor, _noise: Tensor) -> Tensor:
    """Hide nothing."""
    return torch.zeros_like(room.legal)


@strategy("random")
def anywhere(room: Room, _intensity: Tensor, noise: Tensor) -> Tensor:
    """Start uniformly at random, at no frame twice; spans may overlap, as in Mockingjay."""
    return highest(room, noise)


@strategy("ems", needs_intensity=True)
def most_intense(room: Room, intensity: Tensor, noise: Tensor) -> Tensor:
    """Start on the most intense frames, as Liu and Ma's released code does.

    Of the 2P most intense frames of an utterance that is owed P spans, in falling order, the first P that are legal
    starts; if fewer are legal, none of them, but P uniformly random starts. Equal frames count in order of time.
    Neighbours are alike in intensity, so these spans cluster and overlap: they cover far less than their share.

    Notes
    -----
    Liu and Ma 2024 (arXiv 2406.06646) and the code of AI-S2-Lab/EMS, ``pretrain/mockingjay/task.py``, which leaves
    the order of equal frames to ``torch.topk``.
    """
    order = intensity.masked_fill(~room.valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=order.device)  # (frames,)
    legal = room.legal.gather(1, order)  # (batch, frames), by rank as all that follows
    top = legal & (ranks < 2 * room.counts[:, None])
    chosen = top & (top.cumsum(1) <= room.counts[:, None])
    starts = torch.zeros_like(room.legal).scatter(1, order, chosen)  # (batch, frames), in order of time
    enough = top.sum(1, keepdim=True) >= room.counts[:, None]  # (batch, 1)
    return torch.where(enough, starts, anywhere(room, intensity, noise))


@strategy("ems-nms", needs_intensity=True)
def intense_peaks(room: Room, intensity: Tensor, noise: Tensor) -> Tensor:
    """Start on the most intense frames that lie at least a span apart, the most intense first.

    That is greedy non-maximum suppression. Intensities within 1e-12 count as equal: they come in random order.
    """
    return spaced(room, intensity + 1e-12 * noise)


@strategy("ems-sample", needs_intensity=True)
def sampled_by_intensity(room: Room, intensity: Tensor, noise: Tensor) -> Tensor:
    """Draw one start after another with probability proportional to intensity, none within a span of another.

    Frames of intensity zero are drawn, uniformly, only where no other is left.

    Notes
    -----
    The order of ``log w + g``, g from a standard Gumbel distribution, is an order of draws without replacement in
    proportion to w (Efraimidis and Spirakis 2006); to pass over what is suppressed keeps it so for the rest.
    """
    uniform = noise.clamp(min=2.0**-54)  # the logarithm of zero would tie
    return spaced(room, intensity.double().clamp(min=_LEAST).log() - (-uniform.log()).log())


def highest(room: Room, scores: Tensor) -> Tensor:
    """Return the legal frames with the highest scores, as many as are owed.

    Parameters
    ----------
    room
        Of the batch.
    scores
        ``(batch, frames)``, finite where legal.

    Returns
    -------
    Tensor
        ``(batch, frames)`` bool.
    """
    owed = int(room.counts.max())
    best = scores.masked_fill(~room.legal, -torch.inf).topk(owed, dim=1).indices  # (batch, owed)
    taken = torch.arange(owed, device=best.device) < room.counts[:, None]
    return torch.zeros_like(room.legal).scatter(1, best, taken)


def spaced(room: Room, scores: Tensor) -> Tensor:
    """Return the legal frames with the highest scores that lie a span or more apart, greedily from the highest.

    Where no such frame is left and spans are still owed, the highest of the others: only then do spans overlap.
    Parameters and result as in :func:`highest`.
    """
    starts = torch.zeros_like(room.legal)
    margin = room.span - 1
    # A margin to both sides, so that what a start suppresses never lies outside.
    left = functional.pad(scores.masked_fill(~room.legal, -torch.inf), (margin, margin), value=-torch.inf)
    around = torch.arange(2 * margin + 1, device=scores.device)
    for placed in range(int(room.counts.max())):
        score, best = left.max(dim=1, keepdim=True)  # (batch, 1)
        best = best.clamp(margin, margin + starts.shape[1] - 1)  # where none is left, any will do
        taken = (score > -torch.inf) & (placed < room.counts[:, None])
        starts.scatter_(1, best - margin, taken | starts.gather(1, best - margin))
        left.scatter_(1, best - margin + around, -torch.inf)
    lacking = room.counts - starts.sum(1)  # (batch,)
    if bool((lacking > 0).any()):
        starts |= highest(replace(room, legal=room.legal & ~starts, counts=lacking), scores)
    return starts
