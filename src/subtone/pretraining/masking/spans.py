"""From a strategy to the frames that it hides: how many spans, where they may start, what they cover."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from subtone.errors import nearest
from subtone.pretraining.masking.noise import uniform
from subtone.pretraining.masking.strategies import STRATEGIES, MaskingError, Room


@dataclass(frozen=True)
class Hidden:
    """Which frames of a batch are hidden.

    Attributes
    ----------
    frames
        ``(batch, frames)`` bool, True where a frame is hidden; never on padding.
    starts
        ``(batch, frames)`` bool, True where a span starts.
    legal
        ``(batch, frames)`` bool, True where one may start.
    """

    frames: Tensor
    starts: Tensor
    legal: Tensor


@dataclass(frozen=True)
class Masking:
    """A strategy with its share and span.

    An utterance of T frames is owed ``round(share * T / span)`` spans (a half goes to the even number), at most as
    many as it has legal starts: the frames 0 to T - span - 1, or frame 0 alone if there are none. A span that
    starts there in a shorter utterance ends with it. So with the usual numbers, fewer than 24 frames hide nothing.

    Attributes
    ----------
    strategy
        A name in `STRATEGIES`.
    share
        Of the frames, as if spans never overlapped; in (0, 1].
    span
        Frames a span, at least 1.

    Raises
    ------
    MaskingError
        (a ``ValueError``) If a value is out of range or the strategy is not known.

    Notes
    -----
    Liu et al. 2020, "Mockingjay" (arXiv 1910.12638); number, legal starts and the usual values as in the code of
    Liu and Ma 2024 (arXiv 2406.06646).

    Examples
    --------
    >>> valid = torch.ones(2, 100, dtype=torch.bool)
    >>> Masking("random").hide(valid, keys=torch.tensor([1, 2])).starts.sum(1)
    tensor([2, 2])
    """

    strategy: str = "random"
    share: float = 0.15
    span: int = 7

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.strategy not in STRATEGIES:
            raise MaskingError(
                f"masking strategy {self.strategy!r} is not known; {nearest(str(self.strategy), STRATEGIES)}"
            )
        if not 0 < self.share <= 1:
            raise MaskingError(f"masking: share must lie above 0 and be at most 1, got {self.share!r}")
        if isinstance(self.span, bool) or not isinstance(self.span, int) or self.span < 1:
            raise MaskingError(f"masking: span must be a whole number of frames from 1 up, got {self.span!r}")

    @property
    def needs_intensity(self) -> bool:
        """Whether the strategy looks at intensity."""
        return STRATEGIES[self.strategy].needs_intensity

    def owed(self, num_frames: int) -> int:
        """Return the spans that an utterance of so many frames is owed, by whatever strategy chooses them."""
        return int(self._room(torch.ones(1, num_frames, dtype=torch.bool)).counts)

    def hide(self, valid: Tensor, intensity: Tensor | None = None, *, keys: Tensor) -> Hidden:
        """Choose the spans of each utterance.

        Parameters
        ----------
        valid
            ``(batch, frames)`` bool, True on an utterance's frames, which stand before its padding.
        intensity
            ``(batch, frames)`` in [0, 1]; padding may hold anything. Strategies that do without ignore it.
        keys
            ``(batch,)`` int64, on the device of ``valid``: all that the choice is random by.

        Raises
        ------
        MaskingError
            (a ``ValueError``) If intensity is needed and not given, NaN or out of range, if padding stands before
            frames, or there are none.
        """
        if valid.numel() == 0:
            raise MaskingError(f"masking: a batch of shape {tuple(valid.shape)} has no frames to hide")
        room = self._room(valid)
        noise = uniform(keys, valid.shape[1])  # (batch, frames)
        rows = check_intensity(intensity, valid) if self.needs_intensity else torch.zeros_like(noise)
        starts = STRATEGIES[self.strategy].choose(room, rows, noise)
        begun = starts.cumsum(1)  # (batch, frames)
        ended = functional.pad(begun, (self.span, 0))[:, : starts.shape[1]]
        return Hidden((begun > ended) & valid, starts, room.legal)

    def _room(self, valid: Tensor) -> Room:
        lengths = valid.sum(1)  # (batch,)
        positions = torch.arange(valid.shape[1], device=valid.device)
        if not torch.equal(valid, positions < lengths[:, None]):
            raise MaskingError("masking: valid frames must stand before padding in each row of the mask")
        legal = (positions <= (lengths - self.span - 1).clamp(min=0)[:, None]) & valid
        owed = (lengths.double() * self.share / self.span).round().long()
        return Room(valid, legal, torch.minimum(owed, legal.sum(1)), self.span)


def check_intensity(intensity: Tensor | None, valid: Tensor) -> Tensor:
    """Return intensity with zeros on padding, if it is a score for each valid frame.

    Parameters
    ----------
    intensity, valid
        As for :meth:`Masking.hide`.

    Raises
    ------
    MaskingError
        (a ``ValueError``) If there is none, its shape differs, or a valid frame's is NaN or outside [0, 1].
    """
    if intensity is None:
        raise MaskingError(
            "the intensity of each frame is needed, and the batch has none; prepare the frames with an intensity "
            "model, or do without: no emotional masking, no intensity as input or target"
        )
    if intensity.shape != valid.shape:
        raise MaskingError(
            f"intensity must be (batch, frames) = {tuple(valid.shape)}, got {tuple(intensity.shape)}"
        )
    rows = intensity.detach().masked_fill(~valid, 0)
    broken = ~((rows >= 0) & (rows <= 1))  # NaN is neither
    if bool(broken.any()):
        row, frame = (int(i) for i in broken.nonzero()[0])
        raise MaskingError(
            f"intensity must lie in [0, 1], got {float(rows[row, frame])} in utterance {row} of the batch, frame "
            f"{frame}; prepare the frames anew"
        )
    return rows
