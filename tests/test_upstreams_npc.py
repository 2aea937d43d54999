"""NPC's own promises: what is hidden stays hidden, the published convolutions, codebooks, batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from subtone.errors import UpstreamError
from subtone.upstreams.npc import SIZES, NpcEncoder, NpcOptions, Quantizer, gumbel
from tests.network_cases import encoder, moved, ragged


@settings(max_examples=25, deadline=None)
@given(
    blocks=st.integers(1, 3),
    hidden_frames=st.sampled_from([1, 3, 5, 7]),
    side=st.integers(1, 3),
    frame=st.integers(0, 39),
)
def test_the_context_of_a_frame_never_sees_its_hidden_inputs_and_sees_all_around_them(
    blocks: int, hidden_frames: int, side: int, frame: int
) -> None:
    kernel = hidden_frames + 2 * blocks + 2 * side
    own = moved(
        NpcEncoder(
            NpcOptions(
                num_mel=4,
                hidden=8,
                blocks=blocks,
                kernel=kernel,
                hidden_frames=hidden_frames,
                groups=2,
                codes=4,
            )
        )
    ).double()
    features = torch.randn(1, 40, 4, dtype=torch.float64, requires_grad=True)
    touched = torch.zeros(40)
    for seed in range(4):  # one input is cut off by a ReLU here or there, but not in all of several clips
        features.data.normal_(generator=torch.Generator().manual_seed(seed))
        (gradient,) = torch.autograd.grad(own.context(features)[0, frame].sum(), features)
        touched += gradient[0].abs().sum(-1)
    distance = (torch.arange(40) - frame).abs()
    seen = (distance > own.hidden_frames // 2) & (distance <= own.seen_frames // 2)
    assert (touched[~seen] == 0).all()
    if (
        own.reach <= frame < 40 - own.reach
    ):  # nearer to an end, some of what would have seen an input is not there
        assert (touched[seen] > 0).all()
    assert own.reach == own.seen_frames // 2


def test_a_blocks_output_does_see_its_own_frame() -> None:
    # What is handed out beside the context: without it, the test above could pass on a network that sees nothing.
    own = encoder("npc")
    features = torch.randn(1, 30, own.options.input_dim, requires_grad=True)
    own(features)[0, 0, 15].square().sum().backward()
    assert features.grad is not None
    assert features.grad[0].abs().sum(-1).nonzero().flatten().tolist() == [14, 15, 16]


def published_layers(own: Any, features: Tensor) -> list[Tensor]:
    """Run the encoder's weights through NPC as published: one-dimensional convolutions with masked kernels."""
    options: NpcOptions = own.options
    x = features.transpose(1, 2)  # (1, channels, frames)
    found, context = [], torch.zeros(())
    for number, (block, masked) in enumerate(zip(own.blocks, own.masked, strict=True)):
        inner = functional.conv1d(x, block.convolution.weight.squeeze(2), block.convolution.bias, padding=1)
        inner = functional.relu(normed(block.convolution_norm, inner))
        inner = normed(
            block.norm, functional.conv1d(inner, block.linear.weight[..., None], block.linear.bias)
        )
        x = functional.relu(inner + x if number else inner)
        kernel = torch.zeros(options.hidden, options.hidden, options.kernel)
        side = (options.kernel - options.mask_sizes[number]) // 2
        kernel[..., :side] = masked.convolution.weight[:, :, 0]
        kernel[..., -side:] = masked.convolution.weight[:, :, 1]
        context = context + torch.tanh(
            functional.conv1d(x, kernel, masked.convolution.bias, padding=options.kernel // 2)
        )
        found.append(x.transpose(1, 2))
    return [*found, context.transpose(1, 2)]


def normed(norm: Any, x: Tensor) -> Tensor:
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@torch.no_grad()
def test_layers_are_those_of_the_published_network() -> None:
    own = encoder("npc")
    features = torch.randn(1, 50, own.options.input_dim)
    wanted = published_layers(own, features)
    assert own.num_layers == len(wanted)
    for got, layer in zip(own(features), wanted, strict=True):
        torch.testing.assert_close(got, layer, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only() -> None:
    own = encoder("npc")
    features = torch.randn(1, 30, own.options.input_dim)
    assert torch.equal(own(features), own(features))
    own.train()
    assert not torch.equal(own(features), own(features))


@torch.no_grad()
def test_in_evaluation_each_part_of_a_frame_becomes_its_likeliest_code() -> None:
    quantizer = Quantizer(6, groups=2, codes=5, temperature=1.0).eval()
    frames = torch.randn(2, 7, 6)
    got = quantizer(frames)
    for batch in range(2):
        for frame in range(7):
            for group in range(2):
                part = frames[batch, frame, 3 * group : 3 * group + 3]
                logits = part @ quantizer.weight[group] + quantizer.bias[group, 0]
                code = quantizer.codebooks[group, logits.argmax()]
                torch.testing.assert_close(got[batch, frame, 3 * group : 3 * group + 3], code)


def test_codes_are_drawn_as_often_as_they_are_likely() -> None:
    quantizer = Quantizer(4, groups=2, codes=3, temperature=1.0).train()
    frame = torch.randn(4)
    with torch.no_grad():
        quantizer.codebooks.copy_(torch.eye(3)[:, :2].expand(2, 3, 2))  # codes tell themselves apart
        drawn = quantizer(frame.expand(1, 20_000, 4), torch.Generator().manual_seed(0))[0]
        for group in range(2):
            part = frame[2 * group : 2 * group + 2]
            likely = (part @ quantizer.weight[group] + quantizer.bias[group, 0]).softmax(0)
            codes = drawn[:, 2 * group : 2 * group + 2]
            often = torch.stack(
                [(codes == code).all(-1).float().mean() for code in quantizer.codebooks[group]]
            )
            torch.testing.assert_close(often, likely, atol=0.015, rtol=0)


def test_in_training_the_code_is_hard_and_its_gradient_that_of_the_soft_one() -> None:
    quantizer = Quantizer(6, groups=2, codes=5, temperature=0.7).train()
    frames = torch.randn(2, 7, 6, requires_grad=True)
    weight = torch.randn(2, 7, 6)
    got = quantizer(frames, torch.Generator().manual_seed(3))
    (got * weight).sum().backward()
    found, frames.grad = frames.grad, None

    logits = torch.einsum("btgi,gic->gbtc", frames.unflatten(-1, (2, 3)), quantizer.weight)
    logits = logits.flatten(1, 2) + quantizer.bias  # (groups, rows, codes)
    noisy = (logits + gumbel(logits, torch.Generator().manual_seed(3))) / 0.7
    soft = torch.einsum("grc,gcd->rgd", noisy.softmax(-1), quantizer.codebooks).reshape(2, 7, 6)
    (soft * weight).sum().backward()
    torch.testing.assert_close(found, frames.grad)
    codes = quantizer.codebooks.detach()
    for group in range(2):
        parts = got.detach()[..., 3 * group : 3 * group + 3].reshape(-1, 3)
        assert (torch.cdist(parts, codes[group]).min(dim=1).values < 1e-5).all()


def test_quantisation_follows_its_generator() -> None:
    own = encoder("npc").train()
    context = torch.randn(2, 30, 16)

    def quantized(seed: int) -> Tensor:
        found: Tensor = own.quantize(context, torch.Generator().manual_seed(seed))
        return found

    assert torch.equal(quantized(1), quantized(1))
    assert not torch.equal(quantized(1), quantized(2))
    own.eval()
    assert torch.equal(quantized(1), quantized(2))


def test_gumbel_noise_has_its_mean_and_deviation() -> None:
    noise = gumbel(torch.zeros(200_000), torch.Generator().manual_seed(0))
    assert torch.isfinite(noise).all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.std()) == pytest.approx(1.2825, abs=0.01)


def test_gradients_reach_every_weight_through_the_quantiser() -> None:
    own = encoder("npc").train()
    features, mask = ragged([40, 25], own.options.input_dim)
    features = features.masked_fill(~mask[..., None], 0.0)
    own.quantize(own.context(features, mask))[mask].square().sum().backward()
    for name, parameter in own.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A bias before a batch norm is taken off again.
        assert parameter.grad.any() or name.endswith(("convolution.bias", "linear.bias")), name


def test_the_sizes_are_the_published_one_and_a_small_one() -> None:
    paper = SIZES["paper"]
    assert (paper.blocks, paper.hidden, paper.kernel, paper.groups, paper.codes) == (4, 512, 15, 4, 64)
    assert (paper.mask_sizes, paper.hidden_frames, paper.seen_frames) == ((7, 9, 11, 13), 5, 23)
    assert paper.features.name == "fbank:80+cmvn"
    count = sum(p.numel() for p in NpcEncoder(SIZES["small"]).parameters())
    assert 1_000_000 < count < 1_500_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_frames": 7}, "leave a kernel of 15 nothing to see; it needs at least 17"),
        ({"kernel": 16}, "kernel must be odd, got 16"),
        ({"hidden_frames": 4}, "hidden_frames must be odd"),
        ({"blocks": 0}, "blocks must be a whole number"),
        ({"hidden": 2**40}, "hidden must be a whole number from 1 to 4096, got 1099511627776"),
        ({"blocks": 33, "kernel": 255}, "blocks must be a whole number from 1 to 32"),
        ({"codes": 10**9}, "codes must be a whole number from 1 to 4096"),
        ({"hidden": 510}, r"hidden must be a multiple of groups \(4\), got 510"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"cmvn": "speaker"}, "cmvn"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        NpcOptions(**options)


def test_parts_of_the_network_are_where_pretraining_looks_for_them() -> None:
    own = encoder("npc")
    assert isinstance(own, nn.Module)
    assert {name.split(".")[0] for name, _ in own.named_parameters()} == {"blocks", "masked", "quantizer"}
