"""Mockingjay: fill in hidden spans from all around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subtone.pretraining.masking import Masking, corruption
from subtone.pretraining.objectives.base import (
    DEFAULT_MASKING,
    Batch,
    Losses,
    Objective,
    ObjectiveError,
    mean_distance,
)
from subtone.upstreams.mockingjay import MockingjayEncoder

_INITIAL_STD = 0.02


class MockingjayObjective(Objective):
    """L1 between hidden frames and what the Transformer makes of their corrupted surroundings.

    The hidden frames of an utterance are zeroed, replaced or left (`corruption`), its intensity alike. With
    ``intensity_input`` that corrupted intensity is added to every feature. With ``intensity_target`` the same
    Transformer also runs over the corrupted intensity alone, spread to the features' width, and a second head
    predicts the intensity of the hidden frames from it; the two distances are added without weights.

    Parameters and errors as for `Objective`; a strategy that hides nothing leaves nothing to learn.

    Notes
    -----
    Liu et al. 2020, "Mockingjay" (arXiv 1910.12638); both uses of intensity as in the code of Liu and Ma 2024 (arXiv
    2406.06646). Heads are computed at the hidden frames alone, where they count.
    """

    encoder: MockingjayEncoder

    def __init__(
        self,
        encoder: MockingjayEncoder,
        masking: Masking = DEFAULT_MASKING,
        *,
        intensity_input: bool = False,
        intensity_target: bool = False,
    ) -> None:
        if masking.strategy == "none":
            raise ObjectiveError(
                "mockingjay learns from hidden frames, and masking 'none' hides none; try 'random'"
            )
        super().__init__(encoder, masking, intensity_input=intensity_input, intensity_target=intensity_target)
        self.head = SpanHead(encoder.dim, encoder.options.input_dim)
        self.intensity_head = SpanHead(encoder.dim, encoder.options.input_dim) if intensity_target else None

    def _losses(self, batch: Batch, keys: Tensor, _generator: torch.Generator) -> Losses:
        features, mask, intensity, _ = batch
        hidden = self.masking.hide(mask, intensity, keys=keys)
        corrupted = corruption(hidden, keys=keys)
        seen = corrupted.apply(features)  # (batch, frames, input_dim)
        if intensity is not None:
            level = intensity[..., None].expand_as(features)
            seen_level = corrupted.apply(intensity)[..., None].expand_as(features)
            if self.intensity_input:
                seen = seen + seen_level
        predicted = self.head(self.encoder.context(seen, mask)[hidden.frames])  # (masked, input_dim)
        parts = {"features": mean_distance(predicted, features[hidden.frames])}
        if self.intensity_head is not None:
            predicted = self.intensity_head(self.encoder.context(seen_level, mask)[hidden.frames])
            parts["intensity"] = mean_distance(predicted, level[hidden.frames])
        masked = hidden.frames.sum()
        return Losses.of(parts, weight=masked, masked=masked, valid=mask.sum())


class SpanHead(nn.Module):
    """From a frame of the Transformer to what was there: linear, GELU, layer norm, linear."""

    def __init__(self, dim: int, target_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-12), nn.Linear(dim, target_dim)
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=_INITIAL_STD)  # as the Transformer's own
                nn.init.zeros_(layer.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(..., dim)`` to ``(..., target_dim)``."""
        predicted: Tensor = self.layers(frames)
        return predicted
