"""What a study may be told: which clips, which upstream arithmetic, which folds and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from subtone import corpora
from subtone.extraction import BackendName, Precision
from subtone.recipes.schema import DetectorSection, TrainingSection
from subtone.recipes.section import Section, Seed
from subtone.training.options import FrozenOptions


class StudyOptions(Section):
    """Settings that all studies share.

    Parameters
    ----------
    classes
        Emotions to keep, in this order; null keeps all. A corpus that lacks one goes without it.
    merges
        Emotion → the one it counts as.
    every
        Corpus → take every so many-th of its clips, in the order of its files, to spare time. A number that falls in
        step with the corpus's plan takes one repetition or sentence alone: for RAVDESS 3 is better than 2 or 4.
    reading
        Corpus → options of its reader.
    k
        Folds of speakers; a corpus with no more speakers than these is divided by speaker.
    seeds
        Of training; one classifier a fold and seed.
    seed
        Of folds and of all that is drawn of a clip.
    backend, precision
        How frames are computed; see :class:`subtone.extraction.ExtractionOptions`.
    detector
        Finds the speech that SAP pools.
    training
        Of the small classifiers; by default that of the recipe ``sap``.
    resamples
        Of speakers, for the intervals.
    permutations
        Of systems, for the paired tests.
    """

    classes: list[str] | None = None
    merges: dict[str, str] = {}
    every: dict[str, int] = {}
    reading: dict[str, dict[str, Any]] = {}
    k: int = Field(default=5, ge=2)
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1)
    seed: Seed = 0
    backend: BackendName = "auto"
    precision: Precision = "fp32"
    detector: DetectorSection = DetectorSection()
    training: TrainingSection | None = None
    resamples: int = Field(default=2000, ge=100)
    permutations: int = Field(default=10_000, ge=100)

    @property
    def fit(self) -> FrozenOptions:
        """How classifiers are trained."""
        if self.training is not None:
            return self.training.options
        from subtone import recipes

        return recipes.load("sap").training.options

    def reading_of(self, name: str) -> dict[str, Any]:
        """Return the reader options of a corpus."""
        known = {corpora.get(given).name: options for given, options in self.reading.items()}
        return known.get(corpora.get(name).name, {})

    def every_of(self, name: str) -> int:
        """Return which so many-th clips of a corpus are taken, under whichever of its names it is given."""
        return {corpora.get(given).name: n for given, n in self.every.items()}.get(corpora.get(name).name, 1)

    @model_validator(mode="after")
    def _known(self) -> StudyOptions:
        for name, every in self.every.items():
            corpora.get(name)
            if every < 1:
                raise ValueError(f"every: {name} = {every} must be at least 1")
        for name in self.reading:
            corpora.get(name)
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed stands there twice")
        if self.classes is not None and (len(set(self.classes)) < len(self.classes) or len(self.classes) < 2):
            raise ValueError("classes: name two or more emotions, each once")
        return self


class SoundsOptions(StudyOptions):
    """Settings of a study that may embed clips in non-speech human sounds.

    Parameters
    ----------
    sounds
        Folder of such sounds, one kind in each folder below; null leaves that filler away.
    """

    sounds: str | None = None

    @field_validator("sounds")
    @classmethod
    def _there(cls, value: str | None) -> str | None:
        if value is None:
            return None
        folder = Path(value).expanduser()  # a shell leaves the ~ of sounds=~/laughter alone
        if not folder.is_dir():
            raise ValueError(f"{value}: no such folder; name one that holds recordings of sounds")
        return str(folder)
