"""What a network is given in place of hidden frames: zeros, other frames, or the frames themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from subtone.pretraining.masking.noise import uniform
from subtone.pretraining.masking.spans import Hidden

_DICE, _SOURCES = 1, 2  # streams of randomness; stream 0 has chosen the starts
_ZEROED, _REPLACED = 0.8, 0.9  # below the one zeros, below the other frames from elsewhere


@dataclass(frozen=True)
class Corruption:
    """What happens to the hidden frames of a batch, the same to all that belongs to a frame.

    Attributes
    ----------
    zeroed, replaced
        ``(batch, frames)`` bool; a hidden frame that is neither stays as it is.
    sources
        ``(batch, frames)`` int64, for replaced frames: the frame of the same utterance that stands in.
    """

    zeroed: Tensor
    replaced: Tensor
    sources: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """Corrupt what belongs to the frames, ``(batch, frames)`` or ``(batch, frames, dim)``; returns a copy."""
        beyond = (1,) * (rows.dim() - 2)
        out = rows.masked_fill(self.zeroed.view(*self.zeroed.shape, *beyond), 0)
        utterances, frames = self.replaced.nonzero(as_tuple=True)
        out[utterances, frames] = rows[utterances, self.sources[utterances, frames]]
        return out


def corruption(hidden: Hidden, *, keys: Tensor) -> Corruption:
    """Decide for each utterance: 80 % zero the hidden frames, 10 % replace each span, 10 % leave all as it is.

    A span is replaced by the frames of another stretch of the utterance as they were, from a random legal start;
    no two spans from the same. Where spans overlap, a frame counts to the one that started last.

    Parameters
    ----------
    hidden
        The spans.
    keys
        ``(batch,)`` int64, as for :meth:`Masking.hide`.

    Notes
    -----
    Devlin et al. 2019 (BERT), for speech Liu et al. 2020, "Mockingjay" (arXiv 1910.12638); one throw of the dice an
    utterance, as in the code of Liu and Ma 2024 (arXiv 2406.06646).
    """
    num_frames = hidden.frames.shape[1]
    dice = uniform(keys, 1, _DICE)  # (batch, 1)
    spans = hidden.starts.cumsum(1)  # (batch, frames), how many have begun
    lots = uniform(keys, num_frames, _SOURCES).masked_fill(~hidden.legal, -torch.inf)
    elsewhere = lots.topk(max(1, int(spans.max())), dim=1).indices  # (batch, spans)
    positions = torch.arange(num_frames, device=keys.device).expand_as(lots)  # (batch, frames)
    own_start = positions.where(hidden.starts, 0).cummax(dim=1).values  # (batch, frames)
    sources = elsewhere.gather(1, (spans - 1).clamp(min=0)) + positions - own_start
    return Corruption(
        zeroed=hidden.frames & (dice < _ZEROED),
        replaced=hidden.frames & (dice >= _ZEROED) & (dice < _REPLACED),
        sources=sources,
    )
