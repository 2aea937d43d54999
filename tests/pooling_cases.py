"""What the tests of pooling share: every way to pool, clips of any pattern, and a ragged batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from subtone.pooling import STATISTICS, AttentiveStatistics, SapForm, SegmentAttention, gap_sap

FORMS: tuple[SapForm, ...] = get_args(SapForm)
NAMES = ("gap_mean", "gap_std", "sap_mean", "sap_std", "sap_segment_mean", "sap_segment_std")
DIM = 4

calm = settings(deadline=None)  # a busy machine is no failure

Clip = tuple[Tensor, Tensor, Tensor]
Pooling = Callable[[Tensor, Tensor, Tensor], Tensor]


def _attentive() -> Pooling:
    torch.manual_seed(0)
    module = AttentiveStatistics(DIM, hidden=5).double()
    return lambda frames, mask, _speech: module(frames, mask)


def _learned() -> Pooling:
    torch.manual_seed(0)
    module = SegmentAttention(DIM, heads=2).double()
    return lambda f, m, s: gap_sap(f, s, "attention", mask=m, std=True, attention=module)


def _of_form(form: SapForm) -> Pooling:
    return lambda f, m, s: gap_sap(f, s, form, mask=m, std=True)


# Every way to pool that there is; each gives (batch, something).
POOLINGS: dict[str, Pooling] = {
    **{f"gap_sap_{form}": _of_form(form) for form in FORMS},
    "gap_sap_attention_learned": _learned(),
    "attentive_statistics": _attentive(),
    **STATISTICS,
}
every_pooling = pytest.mark.parametrize("name", POOLINGS)


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    """A float64 batch, mask and speech of any pattern; each row has a valid frame, not each has speech."""
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    flags = st.lists(st.booleans(), min_size=batch * length, max_size=batch * length)
    mask = torch.tensor(draw(flags)).view(batch, length)
    speech = torch.tensor(draw(flags)).view(batch, length)
    sure = draw(st.lists(st.integers(0, length - 1), min_size=batch, max_size=batch))
    mask[torch.arange(batch), torch.tensor(sure)] = True
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    frames = torch.randn(batch, length, DIM, dtype=torch.float64, generator=generator)
    return frames, mask, speech


def ragged() -> Clip:
    """One row each with many runs, one run, no speech, all speech and one frame; the padding is NaN."""
    mask = torch.arange(9) < torch.tensor([[9], [7], [6], [5], [1]])
    speech = torch.tensor(
        [
            [1, 1, 0, 1, 0, 0, 1, 1, 1],
            [0, 1, 1, 1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
    ).bool()
    frames = torch.randn(5, 9, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return frames.masked_fill(~mask[..., None], torch.nan), mask, speech


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
