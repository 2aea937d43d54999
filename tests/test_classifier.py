"""Reduction and classifier: the shapes they promise, and an even start."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from subtone.classifier import PooledClassifier, Reduction


def reduction(layers: Any, components: int | None = None) -> Reduction:
    torch.manual_seed(0)
    width = 4 if layers == "mix" else 12
    basis = None if components is None else torch.randn(width, components)
    return Reduction(torch.randn(3, 4), torch.rand(3, 4) + 0.5, basis, layers)


@pytest.mark.parametrize(
    ("layers", "components", "shape"),
    [("mix", None, (3, 4)), ("mix", 2, (3, 2)), ("concat", None, (1, 12)), ("concat", 5, (1, 5))],
)
def test_a_reduction_gives_the_layers_and_features_that_it_says(
    layers: Any, components: int | None, shape: tuple[int, int]
) -> None:
    made = reduction(layers, components)
    assert (made.num_layers, made.dim) == shape
    assert made(torch.randn(7, 3, 4)).shape == (7, *shape)


@pytest.mark.parametrize("components", [None, 2])
def test_joined_layers_stand_side_by_side(components: int | None) -> None:
    made, x = reduction("concat", components), torch.randn(2, 3, 4)
    wanted = torch.stack([((clip - made.mean) / made.scale).reshape(12) for clip in x])
    if made.basis is not None:
        wanted = wanted @ made.basis
    torch.testing.assert_close(made(x)[:, 0], wanted)


def test_a_mix_of_projected_layers_is_the_projection_of_the_mix() -> None:
    made, x = reduction("mix", 2), torch.randn(5, 3, 4)
    weights = torch.tensor([0.2, 0.5, 0.3])[:, None]
    mixed_late = (made(x) * weights).sum(1)
    assert made.basis is not None
    mixed_early = (((x - made.mean) / made.scale) * weights).sum(1) @ made.basis
    torch.testing.assert_close(mixed_late, mixed_early)


def test_no_number_of_a_reduction_is_trained() -> None:
    assert list(reduction("mix", 2).parameters()) == []


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_an_untrained_classifier_prefers_no_class_and_can_learn(head: Any) -> None:
    model = PooledClassifier(3, 4, 5, head=head, hidden=6, dropout=0.0)
    scores = model(torch.randn(7, 3, 4))
    assert torch.equal(scores, torch.zeros(7, 5))
    torch.nn.functional.cross_entropy(scores, torch.arange(7) % 5).backward()
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    assert last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0


def test_inputs_are_dropped_in_training_only() -> None:
    model = PooledClassifier(1, 50, 2, head="linear", input_dropout=0.5)
    torch.nn.init.ones_(model.head.linear.weight)  # type: ignore[union-attr, arg-type]
    x = torch.ones(1, 1, 50)
    assert torch.equal(model.eval()(x), model(x))
    model.train()
    assert len({model(x)[0, 0].item() for _ in range(8)}) > 1
