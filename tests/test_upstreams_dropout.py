"""Dropout by few random numbers is dropout."""

from __future__ import annotations

import pytest
import torch

from subtone.upstreams.dropout import FrugalDropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_is_dropped_independently_and_the_mean_kept(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = FrugalDropout(share)(torch.ones(999, 1_001, dtype=dtype)).float()
    gone = (dropped == 0).float()
    assert float(gone.mean()) == pytest.approx(share, abs=0.003)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)
    assert dropped.unique().numel() == 2
    for lag in (1, 2, 3, 4, 1_001):  # neighbours share a draw of 64 bits
        one, other = gone.flatten()[lag:], gone.flatten()[:-lag]
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.005


def test_gradients_flow_through_what_was_kept() -> None:
    x = torch.ones(1_000, requires_grad=True)
    dropped = FrugalDropout(0.25)(x)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_it_follows_torchs_seed_and_rests_in_evaluation() -> None:
    layer, x = FrugalDropout(0.5), torch.randn(50, 3)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(layer(x))
    assert torch.equal(*found)
    assert not torch.equal(layer(x), found[0])
    assert layer.eval()(x) is x or torch.equal(layer(x), x)
    assert torch.equal(FrugalDropout(0.0)(x), x)


def test_anything_may_be_empty() -> None:
    assert FrugalDropout(0.5)(torch.zeros(0, 4)).shape == (0, 4)
