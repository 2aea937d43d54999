"""Batch norm over valid frames: torch's own on what is valid, in one process or several."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from subtone.upstreams.batch_norm import ValidBatchNorm


def places(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero().flatten()


def example() -> tuple[ValidBatchNorm, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(4, 9, 5, generator=generator) * 3 + 1
    mask = torch.arange(9)[None] < torch.tensor([9, 4, 1, 6])[:, None]
    norm = ValidBatchNorm(5)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    return norm, frames, mask


def learned(norm: Any, frames: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Return output, gradients and running statistics after one batch."""
    weights = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(1))[-len(frames) :]
    frames = frames.clone().requires_grad_()
    out = norm(frames, places(mask))
    (out * weights * mask[..., None]).sum().backward()
    assert frames.grad is not None
    return (out.detach(), frames.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)


def test_in_training_it_is_torchs_batch_norm_over_the_valid_frames() -> None:
    norm, frames, mask = example()
    reference = nn.BatchNorm1d(5)
    reference.load_state_dict({**norm.state_dict(), "num_batches_tracked": torch.tensor(0)})
    out, gradient, weight, bias, mean, variance = learned(norm, frames, mask)
    valid = frames[mask].clone().requires_grad_()
    wanted = reference(valid)
    weights = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(1))[mask]
    (wanted * weights).sum().backward()
    assert valid.grad is not None
    torch.testing.assert_close(out[mask], wanted)
    assert not out[~mask].any()
    torch.testing.assert_close(gradient[mask], valid.grad)
    assert not gradient[~mask].any()
    torch.testing.assert_close(weight, reference.weight.grad)
    torch.testing.assert_close(bias, reference.bias.grad)
    torch.testing.assert_close(mean, reference.running_mean)
    torch.testing.assert_close(variance, reference.running_var)


def test_in_evaluation_running_statistics_are_used_and_kept() -> None:
    norm, frames, mask = example()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    wanted = (frames - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(frames), wanted)
    torch.testing.assert_close(norm(frames, places(mask))[mask], wanted[mask])
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


def half_of_the_batch(rank: int, folder: str) -> None:
    """Train on one half as one of two processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    norm, frames, mask = example()
    rows = slice(0, 3) if rank == 0 else slice(3, 4)
    weights = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(1))[rows]
    mine = frames[rows].clone().requires_grad_()
    out = norm(mine, places(mask[rows]))
    (out * weights * mask[rows][..., None]).sum().backward()
    torch.save((out.detach(), mine.grad, norm.running_mean, norm.running_var), f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_normalise_over_the_batch_of_both(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    out, gradient, _, _, mean, variance = learned(*example())
    torch.testing.assert_close(torch.cat([halves[0][0], halves[1][0]]), out)
    torch.testing.assert_close(torch.cat([halves[0][1], halves[1][1]]), gradient)
    for half in halves:
        torch.testing.assert_close(half[2], mean)
        torch.testing.assert_close(half[3], variance)


if __name__ == "__main__":
    half_of_the_batch(int(sys.argv[1]), sys.argv[2])
