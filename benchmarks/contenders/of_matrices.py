"""The machine's own limit: square matrix products in fp32 and bf16, by whichever library is fastest at them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_SIZES = (1024, 2048)


class Way:
    """No contender; the measure that shares are taken of."""

    def load(self, weights: str, threads: int) -> dict[str, str]:  # noqa: ARG002
        """Take as many threads as everybody."""
        torch.set_num_threads(threads)
        return {}

    def peak(self) -> dict[str, float]:
        """Return the best rates seen in this round, in GFLOP/s."""
        fp32 = max(_rate(size, torch.float32, product) for size in _SIZES for product in _FP32)
        bf16 = max(_rate(size, torch.bfloat16, torch.matmul) for size in _SIZES)
        return {"fp32_gflops": fp32, "bf16_gflops": bf16}


Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _by_onednn(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # "medium" lets torch hand fp32 products to oneDNN; where that computes in bf16 instead, the check below tells.
    torch.set_float32_matmul_precision("medium")
    try:
        return a @ b
    finally:
        torch.set_float32_matmul_precision("highest")


_FP32: tuple[Product, ...] = (torch.matmul, _by_onednn)


def _rate(size: int, dtype: torch.dtype, product: Product) -> float:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    right = a[:8].double() @ b.double()
    wrong = float((product(a, b)[:8].double() - right).norm() / right.norm())
    if dtype == torch.float32 and wrong > 1e-5:
        return 0.0  # fast, but no fp32
    best, end = float("inf"), time.perf_counter() + 0.4
    while time.perf_counter() < end:
        began = time.perf_counter()
        product(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9
