"""Mockingjay's own promises: BERT's arithmetic over filter banks, positions of any number, options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from subtone.errors import UpstreamError
from subtone.upstreams.mockingjay import (
    SIZES,
    MockingjayEncoder,
    MockingjayOptions,
    attention,
    sinusoids,
)
from tests.network_cases import encoder, ragged


def published_layers(own: Any, features: Tensor, mask: Tensor) -> list[Tensor]:
    """Run the encoder's weights through Hugging Face's BERT layers, on which Mockingjay was built."""
    options: MockingjayOptions = own.options
    config = BertConfig(
        hidden_size=options.hidden,
        num_attention_heads=options.heads,
        intermediate_size=options.feed_forward,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        attn_implementation="eager",
    )
    x = own.norm(own.projection(features) + reference_positions(features.shape[1], options.hidden))
    unseen = torch.zeros(mask.shape).masked_fill(~mask, -1e9)[:, None, None, :]
    found = [x]
    for layer in own.layers:
        bert = BertLayer(config).eval()
        weights = {
            "attention.output.dense": layer.attended,
            "attention.output.LayerNorm": layer.attention_norm,
            "intermediate.dense": layer.widen,
            "output.dense": layer.narrow,
            "output.LayerNorm": layer.norm,
        }
        state = {f"{k}.{n}": p for k, part in weights.items() for n, p in part.named_parameters()}
        for name in ("weight", "bias"):
            thirds = getattr(layer.queries_keys_values, name).chunk(3)
            state |= {
                f"attention.self.{k}.{name}": third
                for k, third in zip(("query", "key", "value"), thirds, strict=True)
            }
        bert.load_state_dict(state)
        output = bert(x, unseen)
        x = output[0] if isinstance(output, tuple) else output
        found.append(x)
    return found


def reference_positions(num_frames: int, dim: int) -> Tensor:
    rows = [
        [
            (math.sin if place % 2 == 0 else math.cos)(frame / 10_000 ** ((place // 2 * 2) / dim))
            for place in range(dim)
        ]
        for frame in range(num_frames)
    ]
    return torch.tensor(rows)


@torch.no_grad()
def test_layers_are_those_of_bert_over_projected_filter_banks() -> None:
    own = encoder("mockingjay")
    features, mask = ragged([40, 11, 26], own.options.input_dim)
    features = features.masked_fill(~mask[..., None], 0.0)
    wanted = published_layers(own, features, mask)
    got = own(features, mask)
    assert len(wanted) == own.num_layers == len(got)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one[mask], other[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_frames", "dim"), [(1, 2), (57, 16), (300, 6)])
def test_positions_are_sines_and_cosines(num_frames: int, dim: int) -> None:
    got = sinusoids(num_frames, dim, torch.zeros(1))
    torch.testing.assert_close(got, reference_positions(num_frames, dim), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_clip_may_have_any_number_of_frames() -> None:
    own = encoder("mockingjay")
    assert own(torch.randn(1, 5_000, own.options.input_dim)).shape == (3, 1, 5_000, 16)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_same_whichever_way_it_is_computed(masked: bool) -> None:
    queries, keys, values = torch.randn(3, 2, 2, 20, 8, dtype=torch.float32).unbind()
    seen = (torch.arange(20)[None] < torch.tensor([[20], [5]]))[:, None, None] if masked else None
    fused = attention(queries, keys, values, seen, 0.0)
    products = attention(queries.clone().requires_grad_(), keys, values, seen, 1e-12)
    scores = (queries[1, 1] @ keys[1, 1].T) / math.sqrt(8)
    if masked:
        scores[:, 5:] = -math.inf
    torch.testing.assert_close(fused[1, 1], scores.softmax(-1) @ values[1, 1])
    torch.testing.assert_close(products, fused)


def test_attention_weights_are_dropped_in_training_only() -> None:
    options = MockingjayOptions(
        hidden=16, layers=1, heads=2, feed_forward=32, dropout=0.0, attention_dropout=0.5
    )
    own, features = MockingjayEncoder(options), torch.randn(1, 30, 240)
    assert not torch.equal(own.train()(features), own(features))
    assert torch.equal(own.eval()(features), own(features))


def test_weights_begin_normal_with_a_small_deviation() -> None:
    own = MockingjayEncoder(SIZES["small"])
    weights = torch.cat([p.detach().flatten() for p in own.parameters() if p.ndim == 2])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.01)


def test_the_papers_size_is_the_papers_and_the_small_one_small() -> None:
    paper = SIZES["paper"]
    assert (paper.layers, paper.hidden, paper.heads, paper.feed_forward) == (3, 768, 12, 3072)
    assert (paper.input_dim, paper.features.name) == (240, "fbank:80+deltas+cmvn")
    count = sum(p.numel() for p in MockingjayEncoder(SIZES["small"]).parameters())
    assert 1_000_000 < count < 1_500_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be a whole number from 1 to 4096, got 0"),
        ({"layers": True}, "layers must be a whole number"),
        ({"hidden": 15, "heads": 3}, r"hidden must be even and a multiple of heads \(3\), got 15"),
        ({"hidden": 16, "heads": 3}, "multiple of heads"),
        ({"hidden": 4104}, "hidden must be a whole number from 1 to 4096, got 4104"),
        ({"layers": 10**9}, "layers must be a whole number from 1 to 64"),
        ({"feed_forward": 2**40}, "feed_forward must be a whole number from 1 to 16384"),
        ({"dropout": 1}, "dropout must be from 0 to below 1, got 1"),
        ({"attention_dropout": -0.1}, "attention_dropout must be"),
        ({"num_mel": 0}, "num_mel"),
        ({"deltas": 3}, "deltas"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        MockingjayOptions(**options)
