"""Streams and batches: a chunk comes back with its own frames, whatever was beside it; what fails, fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from subtone import upstreams
from subtone.extraction.backends import Backend, open_backend
from subtone.extraction.backends.torch_backend import BatchedTorchBackend
from subtone.extraction.streams import Streams
from tests import tiny_upstreams
from tests.tiny_upstreams import noise

LENGTHS = (9_000, 16_000, 400, 31_000, 12_345, 16_000, 5_000)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> upstreams.Upstream:
    return upstreams.load(tiny_upstreams.write(tmp_path_factory.mktemp("up") / "w2v", "wav2vec2-group"))


class Batches(BatchedTorchBackend):
    """Batches on the CPU, as they are made on an accelerator; notes what was in each."""

    def __init__(self, upstream: upstreams.Upstream, batch_s: float) -> None:
        super().__init__(upstream, "fp32")
        self.batch_s = batch_s
        self.seen: list[list[int]] = []

    def encode(self, waves: Sequence[Any], surveys: Any = None) -> list[torch.Tensor]:
        self.seen.append([len(wave) for wave in waves])
        if any(len(wave) == 5_000 for wave in waves) and len(waves) > 1:
            raise torch.OutOfMemoryError("too much together")
        return super().encode(waves, surveys)


def encoded(backend: Backend, waves: Sequence[Any]) -> list[Any]:
    with Streams(backend) as streams:
        futures = [streams.submit(wave, None, lambda frames: frames.cpu().numpy()) for wave in waves]
        streams.flush()
        return [future.result(timeout=60) for future in futures]


def test_batches_hold_what_they_may_and_give_each_chunk_its_own_frames(encoder: upstreams.Upstream) -> None:
    waves = [noise(length) for length in LENGTHS if length != 5_000]
    backend = Batches(encoder, batch_s=3.0)
    found = encoded(backend, waves)
    for frames, alone in zip(found, encoder.extract(waves), strict=True):
        np.testing.assert_allclose(frames, alone, rtol=1e-4, atol=1e-4)
    assert backend.seen == [[31_000], [16_000, 16_000, 12_345], [9_000, 400]]


def test_chunks_that_are_too_much_together_are_encoded_alone(encoder: upstreams.Upstream) -> None:
    waves = [noise(length) for length in LENGTHS]
    found = encoded(Batches(encoder, batch_s=10.0), waves)
    for frames, alone in zip(found, encoder.extract(waves), strict=True):
        np.testing.assert_allclose(frames, alone, rtol=1e-4, atol=1e-4)


def test_a_chunk_that_fails_fails_alone(encoder: upstreams.Upstream) -> None:
    waves = [noise(9_000), np.full(9_000, np.nan, np.float32), noise(9_000)]
    for backend in (Batches(encoder, batch_s=10.0), open_backend(encoder, "torch")):
        with Streams(backend) as streams:
            futures = [streams.submit(wave, None, lambda frames: frames.shape) for wave in waves]
            streams.flush()
            failed = [future.exception(timeout=60) is not None for future in futures]
        assert failed == [False, True, False]


def test_what_a_batch_holds_depends_on_the_chunks_alone(encoder: upstreams.Upstream) -> None:
    waves = [noise(2_000 + 37 * i) for i in range(60)]
    first, second = Batches(encoder, batch_s=1.0), Batches(encoder, batch_s=1.0)
    one, other = encoded(first, waves), encoded(second, waves)
    assert first.seen == second.seen
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
