"""Aggregation: SpeechBrain's numbers for ECAPA-TDNN, a clip apart from its batch, batch norm step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from subtone.aggregation import AggregatorOptions, Ecapa, StepBatchNorm, build_aggregator, settle
from subtone.aggregation.ecapa import _reflected
from subtone.errors import SubtoneError
from subtone.pooling import AttentiveStatistics, gap, gap_sap, sap
from subtone.runs import SegmentAttention

NUMBERS = Path(__file__).parent / "numbers" / "ecapa.safetensors"  # see make_ecapa_numbers.py
DIM = 6

calm = settings(deadline=None, max_examples=25)  # a busy machine is no failure

OPTIONS = {
    "mean": AggregatorOptions(),
    "mean with std": AggregatorOptions(std=True),
    "sap": AggregatorOptions("sap"),
    "sap by segment": AggregatorOptions("sap", form="segment", std=True),
    "sap by attention": AggregatorOptions("sap", form="attention"),
    "gap+sap": AggregatorOptions("gap+sap", std=True),
    "attentive": AggregatorOptions("attentive"),
    "ecapa": AggregatorOptions("ecapa", channels=16, embedding=5),
}
every_aggregator = pytest.mark.parametrize("name", OPTIONS)


def randomised(network: nn.Module) -> nn.Module:
    """Give batch norms something to do: values far from those they start with."""
    for module in network.modules():
        if isinstance(module, StepBatchNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.3, 0.7)
            module.running_var.uniform_(0.3, 2.0)
    return network


def numbers() -> tuple[Ecapa, list[Tensor], Tensor]:
    """Return the network with SpeechBrain's weights, two clips, and what SpeechBrain makes of each."""
    tensors = load_file(NUMBERS)
    ecapa = Ecapa(12, channels=16, embedding=10, attention=8, squeeze=8).eval()
    weights = {
        name.removeprefix("weights."): tensors[name] for name in tensors if name.startswith("weights.")
    }
    ecapa.load_state_dict(weights)
    lengths = (37, 9)
    vectors = torch.stack([tensors[f"vector.{length}"] for length in lengths])
    return ecapa, [tensors[f"frames.{length}"] for length in lengths], vectors


def batched(clips: list[Tensor], *, longer: int = 0, fill: float = 1e30) -> tuple[Tensor, Tensor]:
    """Put clips ``(frames, dim)`` into one batch whose padding holds something huge."""
    longest = max(len(clip) for clip in clips) + longer
    frames = clips[0].new_full((len(clips), longest, clips[0].shape[1]), fill)
    mask = torch.zeros(frames.shape[:2], dtype=torch.bool)
    for row, clip in enumerate(clips):
        frames[row, : len(clip)] = clip
        mask[row, : len(clip)] = True
    return frames, mask


def random_clips(lengths: list[int], dim: int = DIM, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, dim, dtype=torch.float64, generator=generator) for length in lengths]


def random_speech(mask: Tensor) -> Tensor:
    return torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.6


# --- ECAPA-TDNN


def test_ecapa_gives_the_numbers_of_speechbrain() -> None:
    ecapa, clips, wanted = numbers()
    for clip, vector in zip(clips, wanted, strict=True):
        torch.testing.assert_close(ecapa(clip[None])[0], vector, rtol=1e-5, atol=1e-5)
    # SpeechBrain gives these for a clip alone; here they hold in a batch too.
    torch.testing.assert_close(ecapa(*batched(clips)), wanted, rtol=1e-5, atol=1e-5)
    assert (wanted[0] - wanted[1]).abs().max() > 0.1


def test_reflection_bounces_between_the_ends_of_a_clip() -> None:
    for length in range(1, 8):
        at, step, walk = 0, 1, []
        for _ in range(40):
            walk.append(at)
            if not 0 <= at + step < length:
                step = -step
            at += step if length > 1 else 0
        folded = _reflected(torch.arange(-20, 40), torch.tensor(length)).tolist()
        assert folded[20:] == walk
        assert folded[20::-1] == walk[:21]


def test_training_does_not_see_the_padding_either() -> None:
    torch.manual_seed(0)
    ecapa = randomised(Ecapa(DIM, channels=16, embedding=5).double())
    clips = random_clips([11, 3, 1])
    seen = []
    for longer, fill in ((0, 1e30), (4, torch.nan)):
        network = copy.deepcopy(ecapa)
        vectors = network(*batched(clips, longer=longer, fill=fill))
        vectors.square().sum().backward()
        settle(network)
        seen.append([vectors, *(p.grad for p in network.parameters()), *network.buffers()])
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [[1], [1, 1], [1, 5]])
def test_training_on_clips_of_one_frame_stays_finite(lengths: list[int]) -> None:
    torch.manual_seed(0)
    ecapa = Ecapa(DIM, channels=16, embedding=5).double()
    ecapa(*batched(random_clips(lengths))).square().sum().backward()
    settle(ecapa)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ecapa.parameters())
    assert all(buffer.isfinite().all() for buffer in ecapa.buffers())


@every_aggregator
def test_half_precision_is_aggregated_in_float32(name: str) -> None:
    torch.manual_seed(0)
    aggregator = build_aggregator(OPTIONS[name], DIM)
    frames, mask = batched([clip.float() for clip in random_clips([9, 4])], fill=1e4)
    exact = aggregator.eval()(frames, mask, mask)
    half = frames.bfloat16().requires_grad_()
    torch.testing.assert_close(aggregator(half, mask, mask), exact, rtol=0.1, atol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(aggregator(half, mask, mask), exact, rtol=0.1, atol=0.1)
        aggregator.train()(half, mask, mask).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (half, *aggregator.parameters()))


# --- Every aggregator


@every_aggregator
@calm
@given(lengths=st.lists(st.integers(1, 14), min_size=1, max_size=4), longer=st.integers(0, 3))
def test_a_vector_does_not_depend_on_the_batch(name: str, lengths: list[int], longer: int) -> None:
    torch.manual_seed(0)
    aggregator = randomised(build_aggregator(OPTIONS[name], DIM).double()).eval()
    clips = random_clips(lengths)
    frames, mask = batched(clips, longer=longer)
    speech = random_speech(mask)
    together = aggregator(frames, mask, speech)
    for row, clip in enumerate(clips):
        alone = aggregator(clip[None], mask[row : row + 1, : len(clip)], speech[row : row + 1, : len(clip)])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-9, atol=1e-9)


@every_aggregator
def test_an_aggregator_says_how_large_its_vector_is(name: str) -> None:
    aggregator = build_aggregator(OPTIONS[name], DIM)
    frames, mask = batched([clip.float() for clip in random_clips([5, 2])])
    assert aggregator(frames, mask, mask).shape == (2, aggregator.dim)


def test_only_averages_of_speech_look_at_speech() -> None:
    frames, mask = batched(random_clips([9, 6]))
    for name, options in OPTIONS.items():
        aggregator = build_aggregator(options, DIM).double().eval()
        with_speech = aggregator(frames, mask, random_speech(mask))
        without = aggregator(frames, mask, torch.zeros_like(mask))
        assert torch.equal(with_speech, without) == ("sap" not in name)
        # A clip without speech is taken as speech throughout.
        assert torch.equal(without, aggregator(frames, mask, mask))


def test_plain_aggregators_are_the_poolings() -> None:
    frames, mask = batched(random_clips([9, 6]))
    speech = random_speech(mask)

    def of(name: str) -> Tensor:
        return build_aggregator(OPTIONS[name], DIM)(frames, mask, speech)

    assert torch.equal(of("mean with std"), gap(frames, mask, std=True))
    assert torch.equal(of("sap by segment"), sap(frames, speech, "segment", mask=mask, std=True))
    assert torch.equal(of("gap+sap"), gap_sap(frames, speech, mask=mask, std=True))
    assert isinstance(build_aggregator(OPTIONS["attentive"], DIM).learned, AttentiveStatistics)


def test_attention_gets_the_most_heads_that_fit() -> None:
    for dim, heads in ((8, 4), (6, 2), (5, 1)):
        learned = build_aggregator(OPTIONS["sap by attention"], dim).learned
        assert isinstance(learned, SegmentAttention)
        assert learned.heads == heads


# --- Batch norm, step by step


def packed(x: Tensor, mask: Tensor) -> Tensor:
    """Lay the valid frames of ``(batch, channels, frames)`` in a row, ``(valid, channels)``."""
    return x.transpose(1, 2)[mask]


def norms(channels: int = 3) -> tuple[StepBatchNorm, nn.BatchNorm1d]:
    """Return ours and torch's, with the same weights."""
    torch.manual_seed(0)
    ours = randomised(StepBatchNorm(channels).double())
    theirs = nn.BatchNorm1d(channels).double()
    theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
    return ours, theirs


@pytest.mark.parametrize("training", [True, False])
def test_norm_equals_torch_over_the_packed_valid_frames(training: bool) -> None:
    ours, theirs = (norm.train(training) for norm in norms())
    mask = torch.arange(7) < torch.tensor([[7], [2], [5]])
    x = torch.randn(3, 3, 7, dtype=torch.float64)
    target = torch.randn(14, 3, dtype=torch.float64)
    sides = []
    for norm in (ours, theirs):
        leaf = x.masked_fill(~mask[:, None], 1e30).requires_grad_()
        normed = norm(leaf, mask) if norm is ours else norm(packed(leaf, mask))
        if norm is ours:
            assert torch.equal(normed, normed.masked_fill(~mask[:, None], 0))
            normed = packed(normed, mask)
        (normed * target).square().sum().backward()
        sides.append([normed, leaf.grad, norm.weight.grad, norm.bias.grad])
    for one, other in zip(*sides, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5)])
def test_running_statistics_equal_torch_at_one_micro_batch_a_step(shape: tuple[int, ...]) -> None:
    ours, theirs = norms()
    for _ in range(3):
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
        ours.settle()
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9)


def test_accumulated_and_shared_out_micro_batches_give_the_same_network() -> None:
    torch.manual_seed(0)
    alone = Ecapa(DIM, channels=16, embedding=5)
    processes = [copy.deepcopy(alone) for _ in range(3)]  # the last one has nothing to do
    batches = [batched([clip.float() for clip in random_clips([9, 4, 2], seed=seed)]) for seed in range(5)]
    for batch in batches:
        alone(*batch)
    settle(alone)
    for number in (4, 1, 3, 0, 2):
        processes[number % 2](*batches[number])

    # A first round hears what each process would send, a second gives each the sum.
    sent: list[Tensor] = []

    def hear(noted: Tensor) -> Tensor:
        sent.append(noted)
        return noted

    for process in processes:
        settle(copy.deepcopy(process), hear)
    assert len(sent) == len(processes)  # one call a process for all norms
    for process in processes:
        settle(process, lambda _noted: torch.stack(sent).sum(0))
        for name, tensor in alone.state_dict().items():
            assert torch.equal(tensor, process.state_dict()[name]), name


def test_running_statistics_move_to_the_average_of_the_micro_batches_once() -> None:
    norm = StepBatchNorm(1)
    norm(torch.tensor([[1.0], [3.0]]))
    norm(torch.tensor([[[6.0, 10.0, 99.0]]]), torch.tensor([[True, True, False]]))
    norm(torch.zeros(1, 1, 2), torch.zeros(1, 2, dtype=torch.bool))  # nothing valid, not counted
    assert norm.running_mean.item() == 0
    norm.settle()
    assert norm.running_mean.item() == pytest.approx(0.1 * (2 + 8) / 2)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * (2 + 8) / 2)
    before = copy.deepcopy(norm.state_dict())
    assert set(before) == {"weight", "bias", "running_mean", "running_var"}
    norm.settle()  # nothing new
    norm.eval()(torch.ones(2, 1))
    norm.settle()
    assert norm.state_dict() == before


@pytest.mark.parametrize("shape", [(1, 2), (1, 2, 1), (2, 2, 3)])
def test_a_single_valid_frame_normalises_to_the_bias(shape: tuple[int, ...]) -> None:
    norm = StepBatchNorm(2)
    norm.bias.data = torch.tensor([0.5, -1.0])
    x = torch.randn(shape, requires_grad=True)
    mask = None
    if shape == (2, 2, 3):
        mask = torch.zeros(2, 3, dtype=torch.bool)
        mask[1, 0] = True
    normed = norm(x, mask)
    assert torch.equal(normed.flatten(1)[-1].view(2, -1)[:, 0], norm.bias)
    normed.sum().backward()
    norm.settle()
    assert x.grad is not None
    assert x.grad.abs().max() == 0
    assert norm.running_var.tolist() == pytest.approx([0.9, 0.9])


# --- What is refused

F, B = torch.zeros(2, 3, DIM), torch.ones(2, 3, dtype=torch.bool)
HOLE = torch.tensor([[True, True, True], [True, False, True]])
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "unknown aggregator": (lambda: AggregatorOptions("ecappa"), "'ecappa'.*did you mean 'ecapa'"),  # type: ignore[arg-type]
    "unknown form": (lambda: AggregatorOptions("sap", form="segmnt"), "did you mean 'segment'"),  # type: ignore[arg-type]
    "std of attentive statistics": (lambda: AggregatorOptions("attentive", std=True), "leave out std"),
    "std of ecapa": (lambda: AggregatorOptions("ecapa", std=True), "leave out std"),
    "form of the mean": (lambda: AggregatorOptions(form="segment"), "'segment' has no use.*'sap'"),
    "channels that do not divide": (
        lambda: AggregatorOptions("ecapa", channels=20),
        "channels = 20.*multiple of 8",
    ),
    "empty embedding": (lambda: AggregatorOptions("ecapa", embedding=0), "embedding = 0 must be at least 1"),
    "no dim": (lambda: build_aggregator(AggregatorOptions(), 0), "dim = 0 must be at least 1"),
    "ecapa of no channels": (lambda: Ecapa(DIM, channels=0), "channels = 0 must be at least 1"),
    "ecapa of one group": (lambda: Ecapa(DIM, scale=1), "scale = 1 must be at least 2"),
    "ecapa of uneven groups": (lambda: Ecapa(DIM, channels=10, scale=4), "scale = 4.*divide channels = 10"),
    "frames of another dim": (lambda: Ecapa(5, channels=8)(F, B), r"dim = 5.*\(2, 3, 6\)"),
    "integer frames": (lambda: Ecapa(DIM, channels=8)(F.long(), B), "floating.*int64"),
    "mask of another length": (lambda: Ecapa(DIM, channels=8)(F, B[:, :2]), r"\(2, 3\).*\(2, 2\)"),
    "mask with a hole": (lambda: Ecapa(DIM, channels=8)(F, HOLE), r"row \[1\].*put them first"),
    "clips of no frame": (lambda: Ecapa(DIM, channels=8)(F, ~B), r"row \[0, 1\].*leave out the clips"),
    "norm of other channels": (lambda: StepBatchNorm(4)(F.mT), r"channels = 4.*\(2, 6, 3\)"),
    "norm with frames last": (lambda: StepBatchNorm(DIM)(F.mT, B.T), r"mask must be.*\(3, 2\)"),
    "mask beside vectors": (lambda: StepBatchNorm(DIM)(F[:, 0], B[:, 0]), "mask must be"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_way_out(mistake: str) -> None:
    act, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert isinstance(caught.value, SubtoneError)
