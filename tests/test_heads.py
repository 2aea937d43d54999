"""Heads and the layer mix: their formulas, their gradients, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subtone.errors import SubtoneError
from subtone.heads import LayerMix, LinearHead, MlpHead, build_head


def mixed_by(logits: list[float]) -> LayerMix:
    mix = LayerMix(len(logits)).double()
    with torch.no_grad():
        mix.logits.copy_(torch.tensor(logits))
    return mix


def test_the_mix_starts_as_the_mean_of_the_layers() -> None:
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(LayerMix(5)(x), x.mean(1))


def test_the_mix_by_hand() -> None:
    mix = mixed_by([0.0, torch.log(torch.tensor(3.0)).item()])  # weights 1/4 and 3/4
    x = torch.tensor([[[4.0, 0.0], [8.0, 4.0]]], dtype=torch.float64)
    torch.testing.assert_close(mix(x), torch.tensor([[7.0, 3.0]], dtype=torch.float64))


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6), st.lists(st.integers(1, 3), max_size=3))
def test_the_mix_is_a_weighted_mean_over_the_layer_axis_of_any_shape(
    logits: list[float], rest: list[int]
) -> None:
    x = torch.randn(2, len(logits), *rest, dtype=torch.float64)
    mix = mixed_by(logits)
    weights = torch.tensor(logits, dtype=torch.float32).double().softmax(0)
    wanted = sum(weight * x[:, layer] for layer, weight in enumerate(weights))
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(mix(x), wanted)
    shifted = mixed_by([value + 8 for value in logits])(x)  # a softmax does not see a shift
    torch.testing.assert_close(shifted, mix(x), rtol=1e-4, atol=1e-4)


def test_masked_frames_reach_neither_the_mix_nor_its_gradient() -> None:
    x = torch.randn(2, 3, 4, 5)
    mask = torch.arange(4) < torch.tensor([[4], [2]])
    dirty = x.masked_fill(~mask[:, None, :, None], torch.nan)
    mix = LayerMix(3)
    mixed = mix(dirty, mask)
    torch.testing.assert_close(mixed[mask], mix(x)[mask])
    assert (mixed[~mask] == 0).all()
    mixed.square().sum().backward()
    assert mix.logits.grad is not None
    assert mix.logits.grad.isfinite().all()
    assert mix.logits.grad.abs().sum() > 0


def test_half_precision_is_mixed_in_float32() -> None:
    x = torch.full((1, 4, 2), 60000.0, dtype=torch.float16)  # near the largest float16
    mixed = LayerMix(4)(x)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, torch.full((1, 2), 60000.0), rtol=1e-3, atol=0)


def test_the_linear_head_is_one_affine_map() -> None:
    head = LinearHead(3, 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(head(x), x @ head.linear.weight.T + head.linear.bias)
    assert sum(p.numel() for p in head.parameters()) == 3 * 2 + 2


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", torch.relu), ("tanh", torch.tanh), ("gelu", torch.nn.functional.gelu)],
)
def test_the_mlp_head_is_its_formula(activation: str, function: Callable[[Tensor], Tensor]) -> None:
    head = MlpHead(3, 2, hidden=4, dropout=0.5, activation=activation).eval()  # type: ignore[arg-type]
    x = torch.randn(5, 3)
    first, last = head.layers[0], head.layers[-1]
    torch.testing.assert_close(head(x), last(function(first(x))))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    head = MlpHead(8, 3, hidden=64, dropout=0.5)
    x = torch.randn(4, 8)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_vector_is_scored_alike_alone_and_in_any_batch(kind: str) -> None:
    head = build_head(kind, dim=6, classes=4, hidden=8, dropout=0.3).eval()  # type: ignore[arg-type]
    x = torch.randn(3, 7, 6)
    together = head(x)
    assert together.shape == (3, 7, 4)
    torch.testing.assert_close(together[1, 2], head(x[1, 2]))
    assert head(x[:0]).shape == (0, 7, 4)


def test_build_head_passes_its_options_on() -> None:
    head = build_head("mlp", 6, 4, hidden=9, dropout=0.1, activation="tanh")
    assert isinstance(head, MlpHead)
    kinds = [type(layer) for layer in head.layers]
    assert kinds == [torch.nn.Linear, torch.nn.Tanh, torch.nn.Dropout, torch.nn.Linear]
    assert (head.layers[0].out_features, head.layers[2].p) == (9, 0.1)
    assert isinstance(build_head("linear", 6, 4, hidden=9, dropout=0.1), LinearHead)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (LayerMix(3), (2, 3, 4)),
        (LayerMix(3), (2, 3, 2, 4)),
        (LinearHead(4, 3), (2, 4)),
        (MlpHead(4, 3, hidden=5, dropout=0.0, activation="gelu"), (2, 4)),
    ],
)
def test_gradients_are_those_of_finite_differences(module: torch.nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = module.double()
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    names, values = zip(*module.named_parameters(), strict=True)

    def scored(x: Tensor, *weights: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x,))
        return result

    assert torch.autograd.gradcheck(scored, (x, *(v.detach().clone().requires_grad_() for v in values)))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_learns_what_can_be_told_apart(kind: str) -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    x = torch.nn.functional.one_hot(labels, 3).float() * 4 + torch.randn(60, 3) * 0.3
    head = build_head(kind, 3, 3, hidden=16, dropout=0.1)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(x), labels).backward()
        optimizer.step()
    assert (head.eval()(x).argmax(1) == labels).all()


MIX, X4 = LayerMix(3), torch.zeros(2, 3, 4, 5)
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no layers": (lambda: LayerMix(0), "num_layers = 0"),
    "other layers": (lambda: MIX(torch.zeros(2, 4, 5)), r"layers = 3.*\(2, 4, 5\)"),
    "one axis": (lambda: MIX(torch.zeros(3)), r"\(3,\)"),
    "mask of frames beside pooled layers": (lambda: MIX(X4[..., 0, :], torch.ones(2, 4).bool()), "mask"),
    "mask of another length": (lambda: MIX(X4, torch.ones(2, 3).bool()), "mask"),
    "mask of numbers": (lambda: MIX(X4, torch.ones(2, 4)), "mask must be bool.*float32"),
    "unknown head": (lambda: build_head("liner", 4, 2), "did you mean 'linear'"),  # type: ignore[arg-type]
    "no classes": (lambda: LinearHead(4, 0), "classes = 0"),
    "no dim": (lambda: MlpHead(-1, 2), "dim = -1"),
    "nothing hidden": (lambda: build_head("mlp", 4, 2, hidden=0), "hidden = 0"),
    "all dropped": (lambda: build_head("mlp", 4, 2, dropout=1.0), r"dropout = 1.0.*\[0, 1\)"),
    "nan dropped": (lambda: MlpHead(4, 2, dropout=float("nan")), "dropout = nan"),
    "unknown activation": (lambda: MlpHead(4, 2, activation="rely"), "did you mean 'relu'"),  # type: ignore[arg-type]
    "vectors of another dim": (lambda: LinearHead(4, 2)(torch.zeros(3, 8)), r"dim = 4.*\(3, 8\)"),
    "mlp, vectors of another dim": (lambda: MlpHead(4, 2)(torch.zeros(3, 8)), r"dim = 4.*\(3, 8\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_way_out(mistake: str) -> None:
    act, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert isinstance(caught.value, SubtoneError)
