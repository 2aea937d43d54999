"""How what is said of the segments of a clip becomes one answer for the clip."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Decision = Literal["mean", "majority", "attention"]


class SegmentScores(nn.Module):
    """How much each segment should count: a gated attention over its vector.

    Parameters
    ----------
    dim
        Width of the vectors.
    hidden
        Width of the attention.

    Notes
    -----
    Ilse, Tomczak and Welling 2018, "Attention-based Deep Multiple Instance Learning" (arXiv 1802.04712), equation 9.
    """

    def __init__(self, dim: int, hidden: int = 32) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Score ``(segments, dim)``: ``(segments,)``."""
        scores: Tensor = self.out(self.content(vectors).tanh() * self.gate(vectors).sigmoid())
        return scores[:, 0]


def joined(
    logits: Tensor, owner: Tensor, clips: int, decision: Decision, scores: Tensor | None = None
) -> Tensor:
    """Join the segments of each clip to log posteriors of the clip.

    Parameters
    ----------
    logits
        ``(segments, classes)``.
    owner
        ``(segments,)`` int64, the clip of each segment, from 0. Every clip has one at least.
    clips
        How many clips there are.
    decision
        ``"mean"``: the mean of the segments' posteriors. ``"majority"``: the share of segments that answer each class;
        the mean posterior counts as one more voter, so that it decides between equals and no class is impossible.
        ``"attention"``: the mean of the posteriors, weighed by the softmax of ``scores`` over the segments of the clip.
    scores
        ``(segments,)`` for ``"attention"``.

    Returns
    -------
    Tensor
        ``(clips, classes)``; they sum to one when exponentiated.

    Examples
    --------
    >>> said = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]).log()
    >>> joined(said, torch.tensor([0, 0, 0]), 1, "mean").exp()
    tensor([[0.5667, 0.4333]])
    >>> joined(said, torch.tensor([0, 0, 0]), 1, "majority").exp()
    tensor([[0.3917, 0.6083]])
    """
    posteriors = logits.softmax(-1)  # (segments, classes)
    weights = torch.ones_like(posteriors[:, 0])
    if decision == "attention":
        assert scores is not None
        largest = torch.full((clips,), -torch.inf, dtype=scores.dtype, device=scores.device)
        largest = largest.scatter_reduce(0, owner, scores.detach(), "amax")
        weights = (scores - largest[owner]).exp()
    total = weights.new_zeros(clips).index_add(0, owner, weights)
    mean = posteriors.new_zeros(clips, posteriors.shape[1]).index_add(0, owner, weights[:, None] * posteriors)
    mean = mean / total[:, None]  # (clips, classes)
    if decision == "majority":
        votes = torch.zeros_like(posteriors).scatter(1, posteriors.argmax(-1, keepdim=True), 1.0)
        mean = (torch.zeros_like(mean).index_add(0, owner, votes) + mean) / (total[:, None] + 1)
    # Far below what a softmax in single precision tells from zero.
    return mean.clamp_min(1e-30).log()
