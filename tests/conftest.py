"""What all tests share: where the shared recordings lie, and no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Set before any hub library is imported: a test that needs the network is a broken test.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On processors with AMX, oneDNN gets grouped convolutions of few channels wrong in bfloat16 (torch 2.13): those of
# the tiny networks here, not those of published ones, and whatever ends in a map one pixel wide.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

SHARED = Path(os.environ.get("SUBTONE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared recordings and encoder weights; absent for users, present in development and CI."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the shared recordings: {SHARED / 'data'} is not there")
    return SHARED
