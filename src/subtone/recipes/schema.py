"""What a recipe may say. Plain data: no import strings, no tags, no code; an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subtone import corpora
from subtone.classifier import LayersMode
from subtone.extraction import BackendName, ExtractionOptions, Precision
from subtone.heads import HeadKind
from subtone.pooling import statistics_of
from subtone.training.options import ClassWeights, FrozenOptions

#: What both generators of random numbers take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
#: Added to a system's name for the mean of its seeds' probabilities, taken as one system.
VOTE = " (vote)"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusSection(_Section):
    """Which clips of a corpus take part.

    Parameters
    ----------
    classes
        Emotions to keep, in this order; null keeps all.
    merges
        Emotion → the one it counts as.
    options
        Handed to the corpus reader.
    """

    classes: list[str] | None = None
    merges: dict[str, str] = {}
    options: dict[str, Any] = {}


class ProtocolSection(_Section):
    """Folds, development rule and leak checks; see :func:`subtone.protocols.build`.

    ``lists`` is the path of EmoBox's manifest for ``folds: emobox``.
    """

    folds: str = "leave-one-speaker-out"
    k: int = Field(default=10, ge=2)
    dev: str = "speakers"
    dev_share: float = Field(default=0.2, gt=0, lt=1)
    seed: Seed = 0
    lists: str | None = None
    leaks: list[Literal["speaker", "audio", "sentence"]] = ["speaker", "audio"]


class DetectorSection(_Section):
    """Voice activity detector and its options; see :func:`subtone.speech.get_detector`."""

    name: str = "silero"
    options: dict[str, Any] = {}


class ExtractionSection(_Section):
    """How frames are computed; the fields are those of :class:`subtone.extraction.ExtractionOptions`."""

    backend: BackendName = ExtractionOptions.backend
    precision: Precision = ExtractionOptions.precision
    leave_out_silence_s: float | None = ExtractionOptions.leave_out_silence_s

    @property
    def options(self) -> ExtractionOptions:
        """The same as the engine takes it."""
        return ExtractionOptions(**self.model_dump())

    @model_validator(mode="after")
    def _in_range(self) -> ExtractionSection:
        _ = self.options
        return self


class SystemSection(_Section):
    """What one system pools; see :func:`subtone.pooling.statistics_of`."""

    pooling: str
    form: Literal["frame", "segment"] = "frame"
    std: bool = True

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the pooled statistics, in the order of the classifier's inputs."""
        return statistics_of(self.pooling, self.form, self.std)

    @model_validator(mode="after")
    def _known(self) -> SystemSection:
        _ = self.statistics
        return self


class TrainingSection(_Section):
    """Training of the classifiers; the fields are those of :class:`subtone.training.FrozenOptions`."""

    layers: LayersMode = FrozenOptions.layers
    components: int | None = FrozenOptions.components
    head: HeadKind = FrozenOptions.head
    hidden: int = FrozenOptions.hidden
    dropout: float = FrozenOptions.dropout
    input_dropout: float = FrozenOptions.input_dropout
    learning_rate: float = FrozenOptions.learning_rate
    weight_decay: float = FrozenOptions.weight_decay
    batch_size: int = FrozenOptions.batch_size
    steps: int = FrozenOptions.steps
    check_every: int = FrozenOptions.check_every
    patience: int = FrozenOptions.patience
    label_smoothing: float = FrozenOptions.label_smoothing
    class_weights: ClassWeights = FrozenOptions.class_weights
    refit: bool = FrozenOptions.refit

    @property
    def options(self) -> FrozenOptions:
        """The same as training takes it."""
        return FrozenOptions(**self.model_dump())

    @model_validator(mode="after")
    def _in_range(self) -> TrainingSection:
        _ = self.options  # told now, not after the extraction
        return self


class EvaluationSection(_Section):
    """Intervals and paired tests; see :func:`subtone.evaluation.evaluate`."""

    resamples: int = Field(default=2000, ge=100)
    permutations: int = Field(default=10_000, ge=100)
    seed: Seed = 0


class Recipe(_Section):
    """A whole system.

    Parameters
    ----------
    name, title, paper
        What it is, and where it was published.
    upstream
        Name or folder; see :func:`subtone.upstreams.load`.
    detector, extraction, corpus, protocol, training, evaluation
        See the sections.
    corpora
        Corpus → what differs from ``corpus`` for that one, e.g. the four classes of IEMOCAP.
    systems
        Name → what it pools.
    compare
        Pairs of systems for the paired test; the second against the first.
    seeds
        One classifier is trained a fold and seed.
    """

    name: str
    title: str
    paper: str = ""
    upstream: str
    detector: DetectorSection = DetectorSection()
    extraction: ExtractionSection = ExtractionSection()
    corpus: CorpusSection = CorpusSection()
    corpora: dict[str, CorpusSection] = {}
    protocol: ProtocolSection = ProtocolSection()
    systems: dict[str, SystemSection] = Field(min_length=1)
    compare: list[tuple[str, str]] = []
    training: TrainingSection = TrainingSection()
    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        for pair in self.compare:
            for system in pair:
                if system not in self.systems:
                    raise ValueError(f"compare: no system {system!r}; there are: {', '.join(self.systems)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed stands there twice")
        for system in self.systems:
            if system.endswith(VOTE):
                raise ValueError(
                    f"systems: {system!r} ends in {VOTE!r}, which is added for the vote of the seeds"
                )
        for name in self.corpora:
            corpora.get(name)
        return self
