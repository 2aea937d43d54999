"""Features and frames of made-up clips, for tests of the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone.extraction import FeatureStore, PooledFeatures

LAYERS, DIM = 3, 4
STATISTICS = ["gap_mean", "gap_std", "sap_mean"]
MADE_BY: dict[str, Any] = {"statistics": STATISTICS}
WITH_FRAMES: dict[str, Any] = {"statistics": STATISTICS, "frames": [0, 1, 2]}


def key(number: int) -> str:
    """Return an address as a clip has it."""
    return f"{number:064x}:0.000000:"


def num_frames(number: int) -> int:
    return 5 + number % 7


def frames(number: int) -> npt.NDArray[np.float32]:
    """Return ``(LAYERS, frames, DIM)`` that no other clip has."""
    return np.random.default_rng(number).standard_normal((LAYERS, num_frames(number), DIM), np.float32)


def features(numbers: Sequence[int]) -> PooledFeatures:
    rows = [np.random.default_rng((1, n)).standard_normal((3, LAYERS, DIM), np.float32) for n in numbers]
    lengths = np.array([num_frames(n) for n in numbers], np.int64)
    return PooledFeatures(
        {name: np.stack([row[i] for row in rows]) for i, name in enumerate(STATISTICS)},
        lengths * 320,
        lengths,
        lengths - 1,
        np.array([n % 2 == 0 for n in numbers]),
    )


def add(store: FeatureStore, numbers: Sequence[int]) -> None:
    """Add one shard, with frames where the store keeps them."""
    with store.shard() as shard:
        for n in numbers if store.frame_layers else ():
            shard.add_frames(key(n), 0, frames(n))
            shard.end_clip(key(n))
        shard.finish([key(n) for n in numbers], [f"{n}.wav" for n in numbers], features(numbers))


def check(store: FeatureStore, numbers: Sequence[int]) -> None:
    """Assert that the store gives back what was added, bit for bit."""
    if not numbers:
        return
    found, expected = store.get([key(n) for n in numbers]), features(numbers)
    for name in STATISTICS:
        assert np.array_equal(found.statistics[name], expected.statistics[name])
    for count in ("num_samples", "num_frames", "speech_frames", "too_short"):
        one, other = getattr(found, count), getattr(expected, count)
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype
    for n in numbers if store.frame_layers else ():
        assert np.array_equal(store.frames(key(n)), frames(n).astype(np.float16))


def content(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, hidden ones and folders included."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}
