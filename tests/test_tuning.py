"""What fine-tuning trains of each family, at which rate, and that its weights come out as published ones."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from subtone import upstreams
from subtone.errors import RecipeError, UsageError
from subtone.training.end_to_end.tuning import (
    Tuning,
    freeze_unused,
    load_plain,
    plain_state,
    prepare,
    rate_groups,
    train_mode,
)
from subtone.upstreams import Upstream
from subtone.upstreams.batch_norm import ValidBatchNorm
from tests import network_cases
from tests.tiny_upstreams import FAMILIES, noise, relative_error, write

NETWORKS = ["mockingjay", "npc"]
MINI = "subtone-mini:speech"
WAVES = [noise(3_000), noise(6_500)]
NO_DROPOUT = {
    f"{place}_dropout": 0.0
    for place in ("hidden", "attention", "activation", "feat_proj", "final", "conformer_conv")
} | {"dropout": 0.0}
# One of each kind of attention, position and norm; the full list where a promise hangs on the family's arithmetic.
SOME = ["wav2vec2-group", "xls-r", "wavlm-layer", "conformer-relative", "w2v-bert-relative", "whisper-80"]

Open = Callable[[str], Upstream]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """A way to an upstream of a family by itself, without dropout."""
    loaded: dict[str, Upstream] = {}

    def open_one(family: str) -> Upstream:
        if family not in loaded:
            if family in NETWORKS:
                loaded[family] = network_cases.upstream(family)
            elif family in FAMILIES:
                folder = write(tmp_path_factory.mktemp(family), family, **NO_DROPOUT)
                loaded[family] = upstreams.load(folder)
            else:
                loaded[family] = upstreams.load(family)
        return copy.deepcopy(loaded[family])

    return open_one


def network_of(upstream: Upstream) -> nn.Module:
    assert upstream.module is not None
    return upstream.module


def loss(upstream: Upstream) -> Tensor:
    encoded = upstream.encode(WAVES)
    scale = torch.linspace(-1, 1, encoded.frames.numel()).view_as(encoded.frames)
    return (encoded.frames * scale).square().mean()


def step(upstream: Upstream) -> set[str]:
    """Take one step of gradient descent; returns the names of the parameters that moved."""
    network = network_of(upstream)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    loss(upstream).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad.sign()
                parameter.grad = None
    return {n for n, parameter in network.named_parameters() if not torch.equal(parameter, before[n])}


def names_in(network: nn.Module, parts: Any) -> set[str]:
    own = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name for name, parameter in network.named_parameters() if id(parameter) in own}


@pytest.mark.parametrize("family", [*FAMILIES, *NETWORKS, MINI])
def test_blocks_and_what_closes_them_are_where_the_layers_say(family: str, fresh: Open) -> None:
    upstream = fresh(family)
    network, count = network_of(upstream), len(upstream.blocks)
    assert count == upstream.num_layers - 1
    first = 0 if family == "npc" else 1  # NPC's input is not handed out
    frames = upstream.encode(WAVES).frames

    def reached(layer: int) -> set[str]:
        network.zero_grad()
        frames[:, layer].square().sum().backward(retain_graph=True)
        return {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}

    closing = names_in(network, upstream.closing)
    assert closing <= reached(-1)
    for number, block in enumerate(upstream.blocks):
        # The last hidden state is also normed in some families; the layers below show where the norm is not.
        found = reached(number + first) - (closing if number == count - 1 else set())
        assert found & names_in(network, [block])
        assert not found & (names_in(network, upstream.blocks[number + 1 :]) | closing)
    below = reached(0) - names_in(network, upstream.blocks)
    rest = reached(upstream.num_layers - 1) - names_in(network, upstream.blocks) - closing
    assert rest <= below  # what is neither a block nor closes them lies below them


@pytest.mark.parametrize("family", [*SOME, *NETWORKS, MINI])
def test_top_layers_trains_the_top_blocks_and_what_closes_them_alone(family: str, fresh: Open) -> None:
    upstream, tuning = fresh(family), Tuning("top-layers", top_layers=1)
    network = network_of(upstream)
    prepare(upstream, tuning)
    train_mode(upstream, tuning)
    wanted = names_in(network, [upstream.blocks[-1], *upstream.closing])
    assert {name for name, p in network.named_parameters() if p.requires_grad} == wanted
    assert upstream.blocks[-1].training
    assert not any(part.training for block in upstream.blocks[:-1] for part in block.modules())
    # Frozen parts cost no backward pass: the frames below the trained blocks do not even ask for gradients.
    below: list[bool] = []
    upstream.blocks[-1].register_forward_pre_hook(lambda _, inputs: below.append(inputs[0].requires_grad))
    moved = step(upstream)
    assert below == [False]
    assert moved <= wanted
    assert moved & names_in(network, [upstream.blocks[-1]])


@pytest.mark.parametrize("family", [*SOME, *NETWORKS])
def test_all_moves_all_that_the_frames_depend_on(family: str, fresh: Open) -> None:
    upstream = fresh(family)
    prepare(upstream, Tuning())
    train_mode(upstream, Tuning())
    network = network_of(upstream)
    unused = freeze_unused(network, lambda: loss(upstream))
    assert all(parameter.grad is None for parameter in network.parameters())
    # Pre-training's own parts, the last norm where it is not handed out, positions that a conformer does not use.
    expected = ("masked_spec_embed", "quantizer.", "encoder.layer_norm.", "encoder.pos_conv_embed.")
    assert all(name.startswith(expected) for name in unused)
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trainable.isdisjoint({*unused, "embed_positions.weight"})
    # A key's bias shifts all scores alike, so that softmax takes it out; a learned step of its size is rounding.
    assert {name for name in trainable - step(upstream) if "k_proj.bias" not in name} == set()


def test_nothing_freezes_all_and_an_upstream_without_a_network_takes_any_tuning(fresh: Open) -> None:
    upstream = fresh("whisper-80")
    prepare(upstream, Tuning("nothing"))
    train_mode(upstream, Tuning("nothing"))
    assert not any(part.training for part in network_of(upstream).modules())
    assert not loss(upstream).requires_grad
    assert rate_groups(upstream, 0.5) == []
    assert freeze_unused(network_of(upstream), lambda: loss(upstream)) == []
    banks = upstreams.load("fbank")
    for train in ("all", "top-layers", "lora", "nothing"):
        tuning = Tuning(train, gradient_checkpointing=True)  # type: ignore[arg-type]
        prepare(banks, tuning)
        train_mode(banks, tuning)
        assert rate_groups(banks, 0.5) == []
        assert plain_state(banks) == {}
        load_plain(banks, {})
    assert banks.blocks == ()
    assert banks.entry is None


@pytest.mark.parametrize("family", [*SOME, "mockingjay", MINI])
def test_lora_starts_as_the_network_and_comes_out_as_plain_weights(
    family: str, fresh: Open, tmp_path: Path
) -> None:
    upstream, tuning = fresh(family), Tuning("lora", lora_rank=2)
    network = network_of(upstream)
    before = [torch.tensor(frames) for frames in upstream.extract(WAVES)]
    upstream.encode(WAVES)  # whatever the published class notes about its first run
    attributes, names = set(vars(network)), list(network.state_dict())
    prepare(upstream, tuning)
    for frames, wanted in zip(upstream.extract(WAVES), before, strict=True):
        assert relative_error(frames, wanted) < 1e-6
    train_mode(upstream, tuning)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    inside = tuple(f"{n}." for n, part in network.named_modules() if part in set(upstream.blocks))
    assert all(name.startswith(inside) for name in trained)
    for _ in range(3):
        moved = step(upstream)
        assert moved <= set(trained)
    assert moved == set(trained)

    network.eval()
    adapted = upstream.extract(WAVES)  # through `core`, whose parts were shared before LoRA came
    assert relative_error(adapted[0], before[0]) > 1e-3
    with torch.no_grad():
        encoded = upstream.encode(WAVES)
    assert relative_error(encoded.frames[1], adapted[1]) < 1e-4
    state = plain_state(upstream)
    assert list(state) == names
    load_plain(upstream, state)
    assert list(network.state_dict()) == names
    assert set(vars(network)) == attributes
    assert not any(part.training for part in network.modules())
    again = upstream.extract(WAVES)
    for frames, wanted in zip(again, adapted, strict=True):
        assert relative_error(frames, wanted) < 1e-5
    upstream.save(tmp_path)
    saved = upstreams.load(tmp_path)
    for frames, wanted in zip(saved.extract(WAVES), again, strict=True):
        assert relative_error(frames, wanted) == 0
    prepare(upstream, tuning)  # and may be adapted anew
    with pytest.raises(UsageError, match=r"LoRA is in .* already"):
        prepare(upstream, tuning)


def test_lora_trains_a_small_share_of_a_network_and_drops_nothing_in_evaluation(fresh: Open) -> None:
    upstream = fresh(MINI)
    network = network_of(upstream)
    total = sum(p.numel() for p in network.parameters())
    prepare(upstream, Tuning("lora", lora_rank=4, lora_dropout=0.5))
    assert not any(part.training for part in network.modules())
    assert 0 < sum(p.numel() for p in network.parameters() if p.requires_grad) < 0.05 * total


def test_lora_of_a_frozen_network_never_reaches_its_convolutions_or_samples(fresh: Open) -> None:
    upstream, tuning = fresh("wav2vec2-group"), Tuning("lora")
    prepare(upstream, tuning)
    train_mode(upstream, tuning)
    asked: list[bool] = []
    projection = network_of(upstream).get_submodule("feature_projection")
    projection.register_forward_hook(lambda *args: asked.append(args[2][0].requires_grad))
    loss(upstream).backward()
    assert asked == [False]


def test_plain_state_is_a_copy_and_leaves_training_as_it_is(fresh: Open) -> None:
    upstream, tuning = fresh("whisper-80"), Tuning("lora")
    prepare(upstream, tuning)
    train_mode(upstream, tuning)
    loss(upstream).backward()
    network = network_of(upstream)
    before = {n: (id(p), p.detach().clone(), p.requires_grad, p.grad) for n, p in network.named_parameters()}
    for value in plain_state(upstream).values():
        assert not value.requires_grad
        value.zero_()
    for name, parameter in network.named_parameters():
        assert id(parameter) == before[name][0]
        assert torch.equal(parameter, before[name][1])
        assert (parameter.requires_grad, parameter.grad) == before[name][2:]


def test_a_state_loads_into_another_upstream_whatever_it_was_prepared_by(fresh: Open) -> None:
    trained, tuning = fresh("w2v-bert-relative"), Tuning("top-layers", top_layers=1)
    prepare(trained, tuning)
    step(trained)
    other = fresh("w2v-bert-relative")
    prepare(other, Tuning("lora", gradient_checkpointing=True))
    load_plain(other, plain_state(trained))
    load_plain(trained, plain_state(trained))
    assert other.fingerprint() == trained.fingerprint()
    assert all(parameter.requires_grad for parameter in network_of(other).parameters())
    assert not network_of(other).is_gradient_checkpointing  # type: ignore[truthy-function]
    with pytest.raises(UsageError, match="not the weights of"):
        load_plain(other, {})


@pytest.mark.parametrize("tuning", [Tuning(), Tuning("top-layers", 1), Tuning("lora")], ids=lambda t: t.train)
@pytest.mark.parametrize("family", ["xls-r", "w2v-bert-rotary", "whisper-80", "mockingjay"])
def test_rates_fall_from_the_top_block_down_and_hold_each_parameter_once(
    family: str, tuning: Tuning, fresh: Open
) -> None:
    upstream = fresh(family)
    network = network_of(upstream)
    prepare(upstream, tuning)
    groups = rate_groups(upstream, 0.5)
    assert [factor for factor, _ in groups] == sorted({factor for factor, _ in groups}, reverse=True)
    factors = {name: factor for factor, members in groups for name, _ in members}
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert {name: p for _, members in groups for name, p in members} == trainable
    assert sum(len(members) for _, members in groups) == len(trainable)
    count = len(upstream.blocks)
    blocks = [names_in(network, [block]) for block in upstream.blocks]
    closing = names_in(network, upstream.closing)
    for name, factor in factors.items():
        place = next((i for i, own in enumerate(blocks) if name in own), None)
        wanted = 1.0 if name in closing else 0.5**count if place is None else 0.5 ** (count - 1 - place)
        assert factor == wanted, name
    assert [factor for factor, _ in rate_groups(upstream, 1.0)] == [1.0]


@pytest.mark.parametrize("train", ["all", "top-layers", "lora"])
@pytest.mark.parametrize("family", ["wav2vec2-group", "wavlm-layer", "w2v-bert-relative", "whisper-80", MINI])
def test_gradients_are_the_same_when_blocks_are_recomputed(family: str, train: Any, fresh: Open) -> None:
    found: list[dict[str, Tensor]] = []
    for checkpointing in (False, True):
        upstream = fresh(family)
        tuning = Tuning(train, top_layers=1, lora_rank=2, gradient_checkpointing=checkpointing)
        torch.manual_seed(0)
        prepare(upstream, tuning)
        train_mode(upstream, tuning)
        torch.manual_seed(1)  # mini has dropout, which must be drawn alike again
        runs: list[int] = []
        counted = next(p for n, p in upstream.blocks[-1].named_modules() if n and not list(p.children()))
        counted.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        loss(upstream).backward()
        assert len(runs) == 1 + checkpointing
        found.append({n: p.grad for n, p in network_of(upstream).named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family", ["conformer-relative", "mockingjay", "npc"])
def test_a_family_that_cannot_be_recomputed_is_refused_by_name(family: str, fresh: Open) -> None:
    with pytest.raises(UsageError, match="does not support it; leave it out"):
        prepare(fresh(family), Tuning(gradient_checkpointing=True))


def test_batch_norms_stay_in_evaluation(fresh: Open) -> None:
    for family in ("hubert-group-batchnorm", "npc"):
        upstream = fresh(family)
        for tuning in (Tuning(), Tuning("top-layers", top_layers=1)):
            prepare(upstream, tuning)
            train_mode(upstream, tuning)
            norms = [
                part
                for part in network_of(upstream).modules()
                if isinstance(part, nn.BatchNorm1d | ValidBatchNorm)
            ]
            assert norms
            assert not any(part.training for part in norms)


def test_what_an_upstream_does_not_have_is_named(fresh: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"top_layers = 3 is more than the 2 layers of 'subtone-npc'"):
        prepare(fresh("npc"), Tuning("top-layers", top_layers=3))
    with pytest.raises(UsageError, match=r"'subtone-npc' has no attention projections"):
        prepare(fresh("npc"), Tuning("lora"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"pip install 'subtone\[lora\]'"):
        prepare(fresh("mockingjay"), Tuning("lora"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "top-layer"}, "train = 'top-layer' is unknown; did you mean 'top-layers'"),
        ({"top_layers": 0}, "finetuning: top_layers = 0 must be at least 1"),
        ({"lora_rank": 0}, "lora_rank = 0 must be at least 1"),
        ({"lora_alpha": 0.0}, "lora_alpha = 0.0 must be above 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout = 1.0 must lie in \[0, 1\)"),
        ({"layer_decay": float("nan")}, r"layer_decay = nan must lie in \(0, 1\]"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Tuning(**settings)
