"""Networks over filter banks for tests: random weights off their trivial start, and the upstreams around them."""

from __future__ import annotations

from typing import Any

import torch

from subtone.upstreams.batch_norm import ValidBatchNorm
from subtone.upstreams.filterbank_network import FilterBankEncoder, FilterBankNetworkUpstream
from subtone.upstreams.mockingjay import SIZES as MOCKINGJAYS
from subtone.upstreams.mockingjay import MockingjayEncoder, MockingjayUpstream
from subtone.upstreams.npc import SIZES as NPCS
from subtone.upstreams.npc import NpcEncoder, NpcUpstream


def moved(encoder: Any) -> Any:
    """Return the encoder in evaluation mode with each parameter and running statistic moved by noise."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for part in encoder.modules():
            if isinstance(part, ValidBatchNorm):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
    return encoder.eval()


def encoder(family: str) -> FilterBankEncoder[Any]:
    """Return a tiny encoder, ``"mockingjay"`` or ``"npc"``."""
    torch.manual_seed(0)
    made = MockingjayEncoder(MOCKINGJAYS["tiny"]) if family == "mockingjay" else NpcEncoder(NPCS["tiny"])
    return moved(made)  # type: ignore[no-any-return]


def upstream(family: str) -> FilterBankNetworkUpstream:
    """Return the upstream of a tiny encoder."""
    kind = MockingjayUpstream if family == "mockingjay" else NpcUpstream
    return kind.from_encoder(encoder(family))


def ragged(lengths: list[int], dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features ``(batch, frames, dim)``, large where they are padding, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]  # (batch, frames)
    features = torch.randn(*mask.shape, dim, generator=generator)
    return torch.where(mask[..., None], features, 1e3 * features), mask
