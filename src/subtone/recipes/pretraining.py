"""The sections of recipes that pre-train upstreams of their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from subtone.errors import nearest
from subtone.pretraining.masking import STRATEGIES
from subtone.pretraining.objectives import ARCHITECTURES
from subtone.pretraining.options import PretrainOptions
from subtone.recipes.section import Section, Seed


class VariantSection(Section):
    """How one variant of a pre-trained upstream differs from the others.

    Parameters
    ----------
    masking
        Masking strategy; see :mod:`subtone.pretraining.masking`.
    intensity_input, intensity_target
        Whether emotion intensity is added to the input, and whether it is predicted too; null for both with a
        strategy that looks at intensity, and for neither with another.
    """

    masking: str
    intensity_input: bool | None = None
    intensity_target: bool | None = None

    @model_validator(mode="after")
    def _known(self) -> VariantSection:
        if self.masking not in STRATEGIES:
            raise ValueError(f"masking: no strategy {self.masking!r}; {nearest(self.masking, STRATEGIES)}")
        return self


#: Settings that all variants share.
_BUDGET = {
    *(
        "size",
        "share",
        "span",
        "steps",
        "batch_size",
        "accumulate",
        "crop_frames",
        "min_frames",
        "learning_rate",
        "precision",
    )
}


class PretrainingSection(Section):
    """Pre-training of the recipe's own upstreams, one a variant, fold and repeat, all at the same budget.

    Variants of a fold and repeat start from the same seed: the same first weights, the same order of the data.

    Parameters
    ----------
    architecture, size
        See :data:`subtone.pretraining.objectives.ARCHITECTURES`.
    variants
        Name → how it differs.
    audio
        Folders and files of more speech to pre-train on, beside the clips of the corpora.
    intensity
        Name or folder of the intensity model, or a ``.csv`` of ready scores; see
        :func:`subtone.pretraining.intensity.open_intensity`.
    share, span
        Of the masking: share of frames aimed at, frames of a span.
    steps, batch_size, accumulate, crop_frames, min_frames, learning_rate, precision
        See :class:`subtone.pretraining.options.PretrainOptions`; null takes what suits architecture and size.
    leave_out
        ``"test-speakers"``: each fold pre-trains upstreams of its own, which never hear its test speakers.
        ``"nothing"``: one set of upstreams for all folds, which hears everybody (without labels); the protocol says so.
    repeats
        Pre-training runs a variant and fold, each from another seed.
    seed
        The first of those seeds; folds and repeats count on from it.
    """

    architecture: Literal["mockingjay", "npc"]
    size: str = "small"
    variants: dict[str, VariantSection] = Field(min_length=1)
    audio: list[str] = []
    intensity: str = "default"
    share: float = Field(default=0.15, gt=0, le=1)
    span: int = Field(default=7, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    accumulate: int | None = Field(default=None, ge=1)
    crop_frames: int | None = Field(default=None, ge=2)
    min_frames: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    precision: Literal["fp32", "bf16"] | None = None
    leave_out: Literal["test-speakers", "nothing"] = "test-speakers"
    repeats: int = Field(default=1, ge=1)
    seed: Seed = 0

    def options(self, variant: str, seed: int) -> PretrainOptions:
        """Return what the trainer is told for one variant."""
        given = self.variants[variant].model_dump() | self.model_dump(include=_BUDGET)
        return PretrainOptions.defaults(self.architecture, seed=seed, **given)

    @property
    def needs_intensity(self) -> bool:
        """Whether any variant asks for intensity."""
        return any(self.options(name, self.seed).needs_intensity for name in self.variants)

    @model_validator(mode="after")
    def _in_range(self) -> PretrainingSection:
        _ = self.needs_intensity  # told now, not after the frames are made
        if self.size not in ARCHITECTURES[self.architecture].sizes:
            raise ValueError(f"size: {nearest(self.size, ARCHITECTURES[self.architecture].sizes)}")
        for name, variant in self.variants.items():
            if self.architecture == "mockingjay" and variant.masking == "none":
                raise ValueError(f"variants: {name!r} hides nothing, so mockingjay would learn nothing")
            if not name.strip(". ") or {"/", "\\"} & set(name):
                raise ValueError(f"variants: {name!r} cannot be part of a folder's name; choose another")
        return self
