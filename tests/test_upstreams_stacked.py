"""A stack of networks gives what each gives alone, and refuses networks that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subtone.errors import UpstreamError
from subtone.extraction import clips_of, extract
from subtone.speech import get_detector
from subtone.upstreams.npc import SIZES, NpcEncoder, NpcUpstream
from subtone.upstreams.stacked import StackedUpstream
from tests import synthetic


def network(seed: int, **changes: object) -> NpcUpstream:
    torch.manual_seed(seed)
    upstream = NpcUpstream.from_encoder(NpcEncoder(replace(SIZES["tiny"], **changes)).eval(), f"npc-{seed}")
    assert isinstance(upstream, NpcUpstream)
    return upstream


@pytest.fixture(scope="module")
def waves() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(0, 0.1, size).astype(np.float32) for size in (9_000, 16_000, 300)]


def test_its_layers_are_those_of_each_network_in_order(waves: list[np.ndarray]) -> None:
    networks = [network(0), network(1), network(2)]
    for found, *each in zip(
        StackedUpstream(networks).extract(waves), *(one.extract(waves) for one in networks), strict=True
    ):
        np.testing.assert_array_equal(found, np.concatenate(each))


def test_a_batch_gives_what_single_clips_give(waves: list[np.ndarray]) -> None:
    stack = StackedUpstream([network(0), network(1)])
    with torch.no_grad():
        encoded = stack.encode(waves)
    for alone, frames, mask in zip(stack.extract(waves), encoded.frames, encoded.mask, strict=True):
        np.testing.assert_allclose(frames[:, mask].numpy(), alone, rtol=1e-4, atol=1e-5)


def test_the_engine_pools_all_networks_in_one_pass(tmp_path: Path) -> None:
    clips = clips_of([synthetic.write(tmp_path / f"{i}.wav", synthetic.utterance(seed=i)) for i in range(2)])
    networks, detector = [network(0), network(1)], get_detector("energy")
    together = extract(clips, StackedUpstream(networks), detector, statistics=("gap_mean", "gap_std"))
    found = together.features.matrix(("gap_mean", "gap_std"))  # (clips, layers, dim)
    for one, part in zip(networks, np.split(found, 2, axis=1), strict=True):
        alone = extract(clips, one, detector, statistics=("gap_mean", "gap_std"))
        np.testing.assert_allclose(part, alone.features.matrix(("gap_mean", "gap_std")), rtol=1e-5, atol=1e-6)


def test_other_weights_make_another_fingerprint_and_so_does_another_order() -> None:
    a, b = network(0), network(1)
    prints = {StackedUpstream(some).fingerprint() for some in ([a], [b], [a, b], [b, a])}
    assert len(prints) == 4


def test_networks_over_other_filter_banks_are_refused_with_the_difference() -> None:
    with pytest.raises(
        UpstreamError, match="'npc-0' and 'npc-1' cannot be stacked: their filter banks differ"
    ):
        StackedUpstream([network(0), network(1, num_mel=40)])
    with pytest.raises(UpstreamError, match="at least one"):
        StackedUpstream([])
