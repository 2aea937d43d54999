"""Training the intensity model on clips held in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from subtone.errors import UsageError
from subtone.pretraining.intensity.examples import Examples
from subtone.pretraining.intensity.model import IntensityModel
from subtone.pretraining.intensity.network import (
    NUM_MEL,
    STRIDE,
    IntensityNetwork,
    IntensityOptions,
    level_free,
    num_steps,
)

_MARGIN = 20  # frames kept around speech: what training sees of silence
_SHARPNESS = 10.0  # a pair of clips half the range apart in the right order costs 0.007


@dataclass(frozen=True)
class IntensityTraining:
    """How the intensity model is trained; the defaults were chosen on development speakers (``studies/intensity``).

    Attributes
    ----------
    steps
        Updates.
    speakers, clips
        Speakers in a batch, and clips of each; corpora are drawn alike often, then their speakers.
    learning_rate
        Highest rate of AdamW, reached after a tenth of the steps, then falling to 0 by a cosine.
    weight_decay
        Of AdamW.
    clip_weight, frame_weight
        Of the mean absolute error of a clip's score, and of the scores of its speech frames against the clip's
        level: StrengthNet's two losses.
    rank_weight
        Of the ranking loss: for two clips of a speaker, ``softplus(-10 (s_high - s_low))`` times the distance of
        their levels.
    hush_weight
        Of the mean score where nobody speaks.
    tilt
        Deviation of a random slope and curve over the bands of a clip, in nepers of power: microphones and rooms.
    crop_frames
        Longer clips are cut to so many frames at random, shorter ones padded.
    precision
        ``"bf16"`` multiplies in half precision where a clip is trained on; scoring is always in float32.
    """

    steps: int = 900
    speakers: int = 6
    clips: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip_weight: float = 1.0
    frame_weight: float = 1.0
    rank_weight: float = 1.0
    hush_weight: float = 0.1
    tilt: float = 0.3
    crop_frames: int = 200
    precision: Literal["fp32", "bf16"] = "bf16"

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be trained with."""
        for name in ("steps", "speakers", "clips", "crop_frames"):
            if getattr(self, name) < 1:
                raise UsageError(f"intensity training: {name} must be 1 or more, got {getattr(self, name)!r}")
        if not self.learning_rate > 0:
            raise UsageError(f"intensity training: learning_rate must be above 0, got {self.learning_rate!r}")


def train_intensity(
    examples: Examples,
    options: IntensityTraining | None = None,
    network: IntensityOptions | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> IntensityModel:
    """Train an intensity model on clips whose level is known.

    Parameters
    ----------
    examples
        Clips; those of no known level are left out.
    options, network
        See there.
    seed
        Of the initial weights, the batches and the random tilts: the same numbers for the same arguments on one
        machine.
    on_step
        Called with updates done and the loss.

    Returns
    -------
    IntensityModel
        Without a card.

    Raises
    ------
    UsageError
        If no clip has a level, or training diverges.

    Source
    ------
    Losses on clips and frames: StrengthNet (Liu, Sisman & Li 2021, arXiv 2110.03156), whose frames too bear their
    clip's level. Ranking within speakers is ours: levels of a corpus compare best inside a voice.
    """
    options = options or IntensityTraining()
    known = examples.select(~np.isnan(examples.levels))
    if not len(known):
        raise UsageError("no clip has a level of intensity; name a corpus that tells some, e.g. ravdess")
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = IntensityNetwork(network)
        clips = [_prepared(banks, speech) for banks, speech in zip(known.banks, known.speech, strict=True)]
        _standardise(model, clips)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _rate(options.steps))
        speakers = _by_speaker(known)
        model.train()
        for step in range(options.steps):
            rows = _draw(speakers, options, rng)
            batch = _batch([clips[row] for row in rows], options, rng)
            level = torch.from_numpy(known.levels[rows]).float()
            _, speaker = np.unique(known.speakers[rows], return_inverse=True)
            loss = _loss(model, batch, level, torch.from_numpy(speaker), options)
            if not bool(loss.isfinite()):
                raise UsageError(
                    f"intensity training: diverged at step {step}; lower learning_rate "
                    f"(it is {options.learning_rate:g})"
                )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if on_step:
                on_step(step + 1, float(loss.detach()))
    model.requires_grad_(False)
    return IntensityModel(model.eval(), tuple(sorted(set(known.corpora.tolist()))))


_Clip = tuple[Tensor, Tensor]  # level-free frames (frames, 80) half, speech (frames,) bool


@dataclass(frozen=True, eq=False)
class _Batch:
    frames: Tensor  # (batch, frames, 80)
    lengths: Tensor  # (batch,)
    speech: Tensor  # (batch, steps) bool
    valid: Tensor  # (batch, steps) bool


def _prepared(banks: Tensor, speech: Tensor) -> _Clip:
    """Take the level off a whole clip, then cut it to where speech is."""
    at = speech.nonzero()
    first, last = max(0, int(at.min()) - _MARGIN), int(at.max()) + 1 + _MARGIN
    return level_free(banks.float())[first:last].half(), speech[first:last]


def _standardise(model: IntensityNetwork, clips: list[_Clip]) -> None:
    """Have the network scale each band by what the speech of these clips holds."""
    total, squares, count = torch.zeros(NUM_MEL).double(), torch.zeros(NUM_MEL).double(), 0
    for frames, speech in clips:
        spoken = frames[speech].double()
        total, squares, count = total + spoken.sum(0), squares + spoken.square().sum(0), count + len(spoken)
    mean = total / count
    model.mean.copy_(mean)
    model.scale.copy_((squares / count - mean.square()).clamp(min=1e-4).sqrt())


def _rate(steps: int) -> Callable[[int], float]:
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def _by_speaker(examples: Examples) -> list[list[npt.NDArray[np.int64]]]:
    """Positions of the clips of each speaker of each corpus."""
    return [
        [np.flatnonzero(examples.speakers == name) for name in np.unique(examples.speakers[own])]
        for own in (examples.corpora == corpus for corpus in np.unique(examples.corpora))
    ]


def _draw(
    corpora: list[list[npt.NDArray[np.int64]]], options: IntensityTraining, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Choose the clips of a batch: corpora alike often, speakers of a corpus alike often."""
    chosen = []
    for _ in range(options.speakers):
        speakers = corpora[rng.integers(len(corpora))]
        own = speakers[rng.integers(len(speakers))]
        chosen.append(rng.choice(own, options.clips, replace=len(own) < options.clips))
    return np.concatenate(chosen)


def _batch(clips: list[_Clip], options: IntensityTraining, rng: np.random.Generator) -> _Batch:
    """Crop, tilt and pad."""
    frames, speech = [], []
    across = torch.linspace(-1, 1, NUM_MEL)
    for banks, spoken in clips:
        start = int(rng.integers(0, max(0, len(banks) - options.crop_frames) + 1))
        slope, curve = rng.normal(0.0, options.tilt, 2) if options.tilt else (0.0, 0.0)
        part = banks[start : start + options.crop_frames].float()
        frames.append(part + float(slope) * across + float(curve) * (across.square() - 1 / 3))
        heard = spoken[start : start + options.crop_frames]
        padded = functional.pad(heard, (0, -len(heard) % STRIDE))
        speech.append(padded.view(-1, STRIDE).sum(1) >= STRIDE / 2)  # (steps,)
    lengths = torch.tensor([len(part) for part in frames])
    # One length for all batches: the kernels for a new one would have to be compiled first.
    longest = options.crop_frames
    steps = num_steps(longest)
    return _Batch(
        torch.stack([functional.pad(part, (0, 0, 0, longest - len(part))) for part in frames]),
        lengths,
        torch.stack([functional.pad(part, (0, steps - len(part))) for part in speech]),
        torch.arange(steps) < num_steps(lengths)[:, None],  # (batch, steps)
    )


def _loss(
    model: IntensityNetwork, batch: _Batch, level: Tensor, speaker: Tensor, options: IntensityTraining
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
        logits = model(batch.frames, batch.lengths)
    score = torch.sigmoid(logits.float())  # (batch, steps)
    spoken = batch.speech.float()
    count = spoken.sum(1).clamp(min=1)
    clip = (score * spoken).sum(1) / count  # (batch,)
    frame = ((score - level[:, None]).abs() * spoken).sum(1) / count
    hushed = (batch.valid & ~batch.speech).float()
    hush = (score * hushed).sum() / hushed.sum().clamp(min=1)
    # Pairs (i, j) of one speaker in which i is the stronger.
    apart = (level[:, None] - level[None]) * (speaker[:, None] == speaker[None])  # (batch, batch)
    weight = apart.clamp(min=0)
    ordered = functional.softplus(-_SHARPNESS * (clip[:, None] - clip[None]))
    rank = (weight * ordered).sum() / weight.sum().clamp(min=1e-6)
    return (
        options.clip_weight * (clip - level).abs().mean()
        + options.frame_weight * frame.mean()
        + options.rank_weight * rank
        + options.hush_weight * hush
    )
