"""What a pre-training is told: published settings for published sizes, smaller ones for a CPU."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from subtone.errors import UsageError, nearest
from subtone.pretraining.masking import Masking

Optimiser = Literal["adamw", "adam"]
Schedule = Literal["linear", "constant"]
Precision = Literal["fp32", "bf16"]

#: Settings that do not change what is learned: a run may go on with others.
FREE = frozenset({"checkpoint_every", "keep", "accelerator"})


@dataclass(frozen=True)
class PretrainOptions:
    """How to pre-train; :meth:`defaults` fills in what suits an architecture and a size.

    Attributes
    ----------
    size
        Of the encoder, by name: ``"small"``, ``"paper"``, or ``"tiny"`` for trials.
    masking
        A strategy of `subtone.pretraining.masking`.
    share, span
        Of the frames that are to be masked, and frames a span.
    intensity_input, intensity_target
        Add the intensity of a frame to its features; predict it as well.
    steps
        Updates of the weights.
    batch_size
        Utterances that go through the network together.
    accumulate
        Batches to an update, in each process.
    crop_frames
        Longest stretch taken of an utterance, in frames of 10 ms; None for all of it.
    min_frames
        Utterances of fewer frames are left out; a frame corpus holds none of fewer than 20.
    optimiser, learning_rate
        AdamW with its weight decay of 0.01, or Adam; the highest rate.
    schedule, warmup_share
        The rate rises linearly over the first share of the steps; then it falls linearly to 0, or stays.
    clip_norm
        Longest gradient.
    precision
        ``"bf16"``: products in half the bits, weights and sums in fp32.
    accelerator, devices
        ``"cpu"`` or ``"cuda"``, and processes on each machine.
    seed
        Of initial weights, order, crops, masks and dropout.
    checkpoint_every, keep
        Steps between checkpoints, and how many of them are kept.
    log_every
        Steps to a row of the curves.

    Raises
    ------
    UsageError
        If a value is out of range.
    """

    size: str = "small"
    masking: str = "random"
    share: float = 0.15
    span: int = 7
    intensity_input: bool = False
    intensity_target: bool = False
    steps: int = 5000
    batch_size: int = 16
    accumulate: int = 1
    crop_frames: int | None = 400
    min_frames: int = 20
    optimiser: Optimiser = "adamw"
    learning_rate: float = 5e-4
    schedule: Schedule = "linear"
    warmup_share: float = 0.07
    clip_norm: float = 5.0
    precision: Precision = "fp32"
    accelerator: Literal["cpu", "cuda"] = "cpu"
    devices: int = 1
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 50

    def __post_init__(self) -> None:
        """Refuse values out of range; the strategy's own are checked with it."""
        counts = ("steps", "batch_size", "accumulate", "devices", "checkpoint_every", "keep", "log_every")
        for name in (*counts, "min_frames"):
            _check_count(name, getattr(self, name))
        if self.crop_frames is not None:
            _check_count("crop_frames", self.crop_frames, least=2)  # one alone has no batch statistics
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"pretrain: {name} must be a number above 0, got {getattr(self, name)!r}")
        if not 0 <= self.warmup_share < 1:
            raise UsageError(f"pretrain: warmup_share must be from 0 to below 1, got {self.warmup_share!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise UsageError(f"pretrain: seed must be a whole number from 0, got {self.seed!r}")
        for name, known in (
            ("optimiser", get_args(Optimiser)),
            ("schedule", get_args(Schedule)),
            ("precision", get_args(Precision)),
            ("accelerator", ("cpu", "cuda")),
        ):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"pretrain: {name} {getattr(self, name)!r} is not known; {nearest(str(getattr(self, name)), known)}"
                )

    @classmethod
    def defaults(cls, architecture: str, size: str = "small", **changes: Any) -> PretrainOptions:
        """Return the settings for an architecture and size, with changes; None leaves a setting as it is.

        The masking is the published one (``random`` for Mockingjay, ``none`` for NPC). Choosing a strategy that looks
        at intensity (``ems…``) makes intensity an input and a target too, as Liu and Ma have it; both can be changed.

        Raises
        ------
        UsageError
            If there is no such architecture or setting, or a value is out of range.
        """
        if architecture not in _PUBLISHED:
            raise UsageError(
                f"pretrain: architecture {architecture!r} is not known; {nearest(architecture, _PUBLISHED)}"
            )
        known = [field.name for field in fields(cls)]
        for name in changes:
            if name not in known:
                raise UsageError(f"pretrain: setting {name!r} is not known; {nearest(name, known)}")
        settings = {"size": size, **_PUBLISHED[architecture], **_SIZES.get((architecture, size), {})}
        settings |= {name: value for name, value in changes.items() if value is not None}
        by_intensity = Masking(str(settings["masking"])).needs_intensity
        settings = {"intensity_input": by_intensity, "intensity_target": by_intensity, **settings}
        return cls(**settings)

    @property
    def needs_intensity(self) -> bool:
        """Whether the corpus must have an intensity for each frame."""
        return self.intensity_input or self.intensity_target or Masking(self.masking).needs_intensity

    def binding(self, processes: int) -> dict[str, Any]:
        """Return the settings that decide what is learned, by which a run is known again.

        One process with batches accumulated learns what several do side by side, so only their product counts. (NPC
        differs a little: the batch norms of several processes see all their batches as one.)
        """
        settings = {name: value for name, value in asdict(self).items() if name not in FREE}
        settings["batches_per_step"] = settings.pop("accumulate") * processes
        del settings["devices"]
        return settings


def learning_rate(options: PretrainOptions, step: int) -> float:
    """Return the rate of a step, from 0.

    >>> options = PretrainOptions(steps=100, warmup_share=0.1, learning_rate=1.0)
    >>> [round(learning_rate(options, step), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.011]
    """
    warmup = round(options.warmup_share * options.steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    if options.schedule == "constant":
        return options.learning_rate
    return options.learning_rate * (options.steps - step) / (options.steps - warmup)


#: Liu and Ma 2024 as released; their networks are in `subtone.upstreams`.
_PUBLISHED: dict[str, dict[str, Any]] = {
    "mockingjay": {"masking": "random", "optimiser": "adamw", "schedule": "linear", "warmup_share": 0.07},
    "npc": {
        "masking": "none",
        "optimiser": "adam",
        "schedule": "constant",
        "warmup_share": 0.0,
        "learning_rate": 1e-3,
    },
}
_SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("mockingjay", "paper"): {
        "learning_rate": 2e-4,
        "batch_size": 4,
        "accumulate": 4,
        "crop_frames": 2000,  # no utterance of a frame corpus is longer
        "min_frames": 201,
        "steps": 1_000_000,
        "checkpoint_every": 5000,
    },
    ("npc", "paper"): {
        "batch_size": 32,
        "crop_frames": 1500,
        "min_frames": 201,
        "steps": 335_000,
        "checkpoint_every": 5000,
    },
}


def _check_count(name: str, value: object, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"pretrain: {name} must be a whole number from {least}, got {value!r}")
