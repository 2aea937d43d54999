"""Objectives: against the papers' words, joined over batches, and what they refuse."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from subtone.errors import SubtoneError
from subtone.pretraining.masking import MaskingError, corruption, draw_keys
from subtone.pretraining.objectives import (
    ARCHITECTURES,
    Batch,
    MockingjayObjective,
    NpcObjective,
    Objective,
    ObjectiveError,
    build_objective,
)
from subtone.upstreams import load
from subtone.upstreams.batch_norm import ValidBatchNorm

MASKINGS = {"mockingjay": ["random", "ems", "ems-nms", "ems-sample"], "npc": ["none", "random", "ems"]}
CHOICES = [
    (architecture, masking, *switches)
    for architecture, maskings in MASKINGS.items()
    for masking in maskings
    for switches in itertools.product([False, True], repeat=2)
]
every_choice = pytest.mark.parametrize(("architecture", "masking", "as_input", "as_target"), CHOICES)
LENGTHS = [120, 90, 60, 24, 100, 20, 77, 50]


def objective_of(
    architecture: str, masking: str | None = None, as_input: bool = False, as_target: bool = False
) -> Objective:
    return build_objective(
        architecture, "tiny", masking=masking, intensity_input=as_input, intensity_target=as_target
    )


def batch_of(architecture: str, lengths: list[int] = LENGTHS) -> Batch:
    generator = torch.Generator().manual_seed(0)
    dim = ARCHITECTURES[architecture].sizes["tiny"].input_dim
    rows = [torch.randn(n, dim, generator=generator) for n in lengths]
    levels = [torch.rand(n, generator=generator) for n in lengths]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    features, intensity = (nn.utils.rnn.pad_sequence(x, batch_first=True) for x in (rows, levels))
    return Batch(features, mask, intensity, draw_keys(len(lengths), generator))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def still(objective: Objective) -> Objective:
    """Without dropout, and with batch norm as it is in use; the quantiser as in training, so that it learns."""
    objective.train()
    for part in objective.modules():
        if isinstance(part, nn.Dropout | ValidBatchNorm):
            part.eval()
    return objective


def gradients(objective: Objective) -> dict[str, Tensor]:
    return {
        name: weight.grad.clone() for name, weight in objective.named_parameters() if weight.grad is not None
    }


# --- In the papers' words, utterance by utterance


def mockingjay_slowly(objective: MockingjayObjective, batch: Batch) -> tuple[dict[str, Tensor], int]:
    assert batch.keys is not None
    assert batch.intensity is not None
    sums = {"features": torch.tensor(0.0), "intensity": torch.tensor(0.0)}
    num_masked = 0
    for row, num_frames in enumerate(batch.mask.sum(1).tolist()):
        one = slice(row, row + 1)
        features, level = batch.features[one, :num_frames], batch.intensity[one, :num_frames]
        key, width = batch.keys[one], features.shape[-1]
        hidden = objective.masking.hide(torch.ones(1, num_frames, dtype=torch.bool), level, keys=key)
        corrupted = corruption(hidden, keys=key)
        seen, seen_level = corrupted.apply(features), corrupted.apply(level)[..., None]
        if objective.intensity_input:
            seen = seen + seen_level
        predicted = objective.head(objective.encoder(seen, None)[-1])
        runs = [("features", predicted, features)]
        if objective.intensity_head is not None:
            context = objective.encoder(seen_level.expand(-1, -1, width), None)[-1]
            target = level[..., None].expand(-1, -1, width)
            runs.append(("intensity", objective.intensity_head(context), target))
        for frame in hidden.frames[0].nonzero().flatten().tolist():
            num_masked += 1
            for name, prediction, target in runs:
                sums[name] = sums[name] + (prediction[0, frame] - target[0, frame]).abs().mean()
    names = ["features", "intensity"] if objective.intensity_target else ["features"]
    return {name: sums[name] / num_masked for name in names}, num_masked


@pytest.mark.parametrize("masking", MASKINGS["mockingjay"])
@pytest.mark.parametrize(("as_input", "as_target"), list(itertools.product([False, True], repeat=2)))
def test_mockingjay_is_the_distance_at_hidden_frames(masking: str, as_input: bool, as_target: bool) -> None:
    objective = objective_of("mockingjay", masking, as_input, as_target)
    assert isinstance(objective, MockingjayObjective)
    batch = batch_of("mockingjay")
    losses = objective.eval().losses(batch, seeded())
    expected, num_masked = mockingjay_slowly(objective, batch)
    assert losses.parts.keys() == expected.keys()
    for name, value in expected.items():
        assert losses.parts[name].item() == pytest.approx(value.item(), rel=1e-4)
    assert losses.total.item() == pytest.approx(sum(v.item() for v in expected.values()), rel=1e-4)
    assert losses.weight.item() == losses.masked.item() == num_masked
    assert losses.coverage.item() == pytest.approx(num_masked / sum(LENGTHS))


@pytest.mark.parametrize("masking", MASKINGS["npc"])
@pytest.mark.parametrize(("as_input", "as_target"), list(itertools.product([False, True], repeat=2)))
def test_npc_is_the_distance_at_all_valid_frames(masking: str, as_input: bool, as_target: bool) -> None:
    objective = objective_of("npc", masking, as_input, as_target).eval()
    assert isinstance(objective, NpcObjective)
    batch = batch_of("npc")
    assert batch.keys is not None
    assert batch.intensity is not None
    losses = objective.losses(batch, seeded())
    hidden = objective.masking.hide(batch.mask, batch.intensity, keys=batch.keys).frames
    sums = {"features": 0.0, "intensity": 0.0}
    for row, num_frames in enumerate(LENGTHS):
        plain = batch.features[row, :num_frames]
        coloured = plain + batch.intensity[row, :num_frames, None]
        heard = (coloured if as_input else plain).clone()
        heard[hidden[row, :num_frames]] = 0
        codes = objective.encoder.quantize(objective.encoder(heard[None], None)[-1])
        sums["features"] += (objective.head(codes)[0] - plain).abs().mean(1).sum().item()
        if objective.intensity_head is not None:
            sums["intensity"] += (objective.intensity_head(codes)[0] - coloured).abs().mean(1).sum().item()
    for name, value in losses.parts.items():
        assert value.item() == pytest.approx(sums[name] / sum(LENGTHS), rel=1e-4)
    assert losses.total.item() == pytest.approx(sum(sums.values()) / sum(LENGTHS), rel=1e-4)
    assert losses.weight.item() == losses.valid.item() == sum(LENGTHS)
    assert losses.masked.item() == hidden.sum().item()
    assert (losses.masked.item() == 0) == (masking == "none")


# --- Joined over batches


@every_choice
def test_gradients_accumulate_to_those_of_one_big_batch(
    architecture: str, masking: str, as_input: bool, as_target: bool
) -> None:
    objective = still(objective_of(architecture, masking, as_input, as_target))
    if architecture == "npc":
        # What the quantiser draws in training belongs to a batch, not to an utterance; drawing nothing, it passes
        # no gradient on, so that this compares the heads'.
        objective.eval()
    batch = batch_of(architecture)
    whole = objective.losses(batch, seeded())
    whole.total.backward()
    expected = gradients(objective)
    objective.zero_grad()
    parts = []
    for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):  # unlike in number, length and hidden frames
        longest = int(batch.mask[rows].sum(1).max())
        assert batch.intensity is not None
        assert batch.keys is not None
        part = Batch(
            batch.features[rows, :longest],
            batch.mask[rows, :longest],
            batch.intensity[rows, :longest],
            batch.keys[rows],
        )
        parts.append(objective.losses(part, seeded()))
        parts[-1].summed.backward()
    weight = sum(part.weight for part in parts)
    assert weight == whole.weight
    assert (sum(part.summed for part in parts) / weight).item() == pytest.approx(whole.total.item(), rel=1e-5)
    for name, gradient in gradients(objective).items():
        assert torch.allclose(gradient / weight, expected[name], rtol=1e-3, atol=1e-6), name


@every_choice
def test_every_weight_learns_in_training(
    architecture: str, masking: str, as_input: bool, as_target: bool
) -> None:
    objective = objective_of(architecture, masking, as_input, as_target)
    objective.losses(batch_of(architecture), seeded()).total.backward()
    for name, weight in objective.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all()
        assert weight.grad.any(), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_may_hold_anything(architecture: str) -> None:
    objective = still(objective_of(architecture, "ems", True, True))
    batch = batch_of(architecture)
    assert batch.intensity is not None
    other = batch._replace(
        features=batch.features.masked_fill(~batch.mask[..., None], 1e3),
        intensity=batch.intensity.masked_fill(~batch.mask, torch.nan),
    )
    first, second = (objective.losses(b, seeded()).total.item() for b in (batch, other))
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_keys_the_generator_decides(architecture: str) -> None:
    objective = still(objective_of(architecture, "ems-sample", True, True))
    batch = batch_of(architecture)._replace(keys=None)
    first, again, other = (objective(batch, seeded(seed)).total.item() for seed in (1, 1, 2))
    assert first == again != other


def test_a_batch_with_nothing_to_hide_weighs_nothing_and_moves_nothing() -> None:
    objective = objective_of("mockingjay", "ems", True, True)
    losses = objective.losses(batch_of("mockingjay", [20, 10]), seeded())
    losses.total.backward()
    assert (losses.total.item(), losses.weight.item(), losses.coverage.item()) == (0, 0, 0)
    assert all(weight.grad is not None and not weight.grad.any() for weight in objective.parameters())


def test_bf16_losses_are_summed_in_float32() -> None:
    for architecture in ARCHITECTURES:
        objective = still(objective_of(architecture, "random"))
        exact = objective.losses(batch_of(architecture), seeded())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = objective.losses(batch_of(architecture), seeded())
        assert half.total.dtype == torch.float32
        assert half.total.item() == pytest.approx(exact.total.item(), rel=0.02)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns(architecture: str) -> None:
    objective = objective_of(architecture, "ems-nms", True, True)
    steps = torch.arange(100.0)[:, None] / torch.linspace(
        3, 9, ARCHITECTURES[architecture].sizes["tiny"].input_dim
    )
    batch = Batch(steps.sin().expand(4, -1, -1), torch.ones(4, 100, dtype=torch.bool), torch.rand(4, 100))
    optimiser, generator = torch.optim.Adam(objective.parameters(), lr=1e-2), seeded()
    course = []
    for _ in range(60):
        losses = objective.losses(batch, generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        course.append(losses.parts["features"].item())
    assert sum(course[-5:]) < 0.8 * sum(course[:5])


# --- Built by name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_encoders_start_alike_whatever_is_learned_from_them(architecture: str) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    plain, emotional = objective_of(architecture), objective_of(architecture, "ems", True, True)
    other = build_objective(architecture, "tiny", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    weights, same, unlike = (o.encoder.state_dict() for o in (plain, emotional, other))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert any(not torch.equal(weights[name], unlike[name]) for name in weights)


def test_the_plain_models_are_the_published_ones() -> None:
    assert objective_of("mockingjay").masking.strategy == "random"
    assert objective_of("npc").masking.strategy == "none"
    for architecture in ARCHITECTURES:
        objective = objective_of(architecture)
        assert not objective.needs_intensity
        assert not any("intensity" in name for name, _ in objective.named_parameters())
        objective.losses(batch_of(architecture)._replace(intensity=None), seeded())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_encoder_alone_becomes_an_upstream(architecture: str, tmp_path: Path) -> None:
    objective = objective_of(architecture, "ems", True, True).eval()
    ARCHITECTURES[architecture].upstream.from_encoder(objective.encoder).save(tmp_path)
    upstream = load(str(tmp_path))
    wave = torch.randn(16_000, generator=seeded()) * 0.1
    (frames,) = upstream.extract([wave])
    features = torch.as_tensor(upstream.front(wave)).T[None]
    with torch.no_grad():
        expected = objective.encoder(features, None)[:, 0]
    assert torch.allclose(torch.as_tensor(frames), expected, atol=1e-4)


def test_what_cannot_be_learned_from_is_refused_with_a_way_out() -> None:
    with pytest.raises(ObjectiveError, match="hides none; try 'random'"):
        objective_of("mockingjay", "none")
    with pytest.raises(SubtoneError, match="did you mean 'mockingjay'"):
        build_objective("mockingbird")
    with pytest.raises(
        ObjectiveError, match="size of npc 'huge' is not known; known: mini, paper, small, tiny"
    ):
        build_objective("npc", "huge")
    with pytest.raises(MaskingError, match="masking strategy 'emss'"):
        objective_of("npc", "emss")
    batch = batch_of("npc")
    for choice in (("ems", False, False), ("none", True, False), ("none", False, True)):
        objective = objective_of("npc", *choice)
        with pytest.raises(SubtoneError, match="intensity of each frame is needed"):
            objective.losses(batch._replace(intensity=None), seeded())
        assert batch.intensity is not None
        with pytest.raises(SubtoneError, match="utterance 2 of the batch, frame 7"):
            objective.losses(
                batch._replace(
                    intensity=batch.intensity.index_put(
                        (torch.tensor(2), torch.tensor(7)), torch.tensor(torch.nan)
                    )
                ),
                seeded(),
            )
    with pytest.raises(ObjectiveError, match="a batch holds features"):
        objective.losses(batch._replace(mask=batch.mask.float()), seeded())
    with pytest.raises(ObjectiveError, match="keys must be"):
        objective.losses(batch._replace(keys=torch.zeros(3, dtype=torch.int64)), seeded())
