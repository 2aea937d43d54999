"""NPC: predict each frame from its surroundings, which never hold it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subtone.pretraining.masking import Masking
from subtone.pretraining.objectives.base import Batch, Losses, Objective, mean_distance
from subtone.upstreams.npc import NpcEncoder

PLAIN = Masking("none")


class NpcObjective(Objective):
    """L1 between each valid frame and a linear prediction from its quantised context.

    With ``intensity_input`` the intensity of a frame is added to every feature of what the encoder hears. With
    ``intensity_target`` a second linear prediction from the same context has features plus intensity as its target,
    and its distance is added without a weight.

    The published NPC hides nothing but a frame from its own context: masking ``"none"``. How emotional masking
    enters NPC is not published (the file is missing from Liu and Ma's code); here, and this is our reading, the
    chosen spans are zeroed in what the encoder hears, intensity included, while all valid frames are predicted.

    Parameters and errors as for `Objective`.

    Notes
    -----
    Liu, Chung and Glass 2020, "Non-autoregressive predictive coding" (arXiv 2011.00406); intensity as in the code of
    Liu and Ma 2024 (arXiv 2406.06646), ``pretrain/npc/pretrain_expert.py``.
    """

    encoder: NpcEncoder

    def __init__(
        self,
        encoder: NpcEncoder,
        masking: Masking = PLAIN,
        *,
        intensity_input: bool = False,
        intensity_target: bool = False,
    ) -> None:
        super().__init__(encoder, masking, intensity_input=intensity_input, intensity_target=intensity_target)
        self.head = nn.Linear(encoder.dim, encoder.options.input_dim)
        self.intensity_head = nn.Linear(encoder.dim, encoder.options.input_dim) if intensity_target else None

    def _losses(self, batch: Batch, keys: Tensor, generator: torch.Generator) -> Losses:
        features, mask, intensity, _ = batch
        hidden = self.masking.hide(mask, intensity, keys=keys).frames  # (batch, frames)
        coloured = features if intensity is None else features + intensity[..., None]
        heard = (coloured if self.intensity_input else features).masked_fill(hidden[..., None], 0)
        context = self.encoder.context(heard, mask)  # (batch, frames, dim)
        quantised = self.encoder.quantize(context, generator)[mask]  # (valid, dim)
        parts = {"features": mean_distance(self.head(quantised), features[mask])}
        if self.intensity_head is not None:
            parts["intensity"] = mean_distance(self.intensity_head(quantised), coloured[mask])
        valid = mask.sum()
        return Losses.of(parts, weight=valid, masked=hidden.sum(), valid=valid)
