"""What a recipe may say. Plain data: no import strings, no tags, no code; an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from subtone import corpora
from subtone.classifier import LayersMode
from subtone.errors import nearest
from subtone.extraction import BackendName, ExtractionOptions, Precision
from subtone.heads import HeadKind
from subtone.recipes.networks import NetworkSection, PublishedRow
from subtone.recipes.pretraining import PretrainingSection
from subtone.recipes.section import Section, Seed
from subtone.recipes.systems import SvmSection, SystemSection
from subtone.training.end_to_end.options import FinetuneOptions, FitOptions
from subtone.training.options import ClassWeights, FrozenOptions
from subtone.training.segments.system import SegmentSystem

#: Added to a system's name for the mean of its seeds' probabilities, taken as one system.
VOTE = " (vote)"


class CorpusSection(Section):
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


class ProtocolSection(Section):
    """Folds, development rule and leak checks; see :func:`subtone.protocols.build`.

    ``folds: random-k-fold`` divides clips and not speakers, as some papers do; results say that they are
    speaker-dependent.
    ``lists`` is the path of EmoBox's manifest for ``folds: emobox``.
    """

    folds: str = "leave-one-speaker-out"
    k: int = Field(default=10, ge=2)
    dev: str = "speakers"
    dev_share: float = Field(default=0.2, gt=0, lt=1)
    seed: Seed = 0
    lists: str | None = None
    leaks: list[Literal["speaker", "audio", "sentence"]] = ["speaker", "audio"]


class DetectorSection(Section):
    """Voice activity detector and its options; see :func:`subtone.speech.get_detector`."""

    name: str = "silero"
    options: dict[str, Any] = {}


class ExtractionSection(Section):
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


class TrainingSection(Section):
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


class EvaluationSection(Section):
    """Intervals and paired tests; see :func:`subtone.evaluation.evaluate`."""

    resamples: int = Field(default=2000, ge=100)
    permutations: int = Field(default=10_000, ge=100)
    seed: Seed = 0


class Recipe(Section):
    """A whole system.

    Parameters
    ----------
    name, title, paper
        What it is, and where it was published.
    upstream
        Name or folder; see :func:`subtone.upstreams.load`. Null where ``pretraining`` makes its own. A list where
        several are fine-tuned and joined.
    pretraining
        Pre-train upstreams first; then every system is measured on each of them.
    finetuning
        Fine-tune the upstreams, for each fold anew; then every one of ``networks`` is trained on their frames.
    downstream
        How those networks are trained, or the ``cnns``.
    detector, extraction, corpus, protocol, training, evaluation
        See the sections.
    corpora
        Corpus → what differs from ``corpus`` for that one, e.g. the four classes of IEMOCAP.
    protocols
        Corpus → what it has in place of ``protocol``, e.g. the sessions of IEMOCAP.
    splits, split
        Name → other ways to divide the clips, and which of them is taken, whatever the corpus; null takes none.
    systems
        Name → what it pools; a small classifier decides.
    svms
        Name → a support vector machine, and on what.
    cnns
        Name → a network on short segments of feature maps; see :class:`subtone.training.segments.system.SegmentSystem`.
    networks
        Name → what is trained on fine-tuned upstreams, in the place of ``systems``.
    published
        Figures of the literature, shown beside ours.
    compare
        Pairs of systems for the paired test; the second against the first.
    seeds
        One classifier is trained a fold and seed; in a recipe that fine-tunes, its upstreams too.
    """

    name: str
    title: str
    paper: str = ""
    upstream: str | Annotated[list[str], Field(min_length=1)] | None = None
    pretraining: PretrainingSection | None = None
    finetuning: FinetuneOptions | None = None
    downstream: FitOptions | None = None
    detector: DetectorSection = DetectorSection()
    extraction: ExtractionSection = ExtractionSection()
    corpus: CorpusSection = CorpusSection()
    corpora: dict[str, CorpusSection] = {}
    protocol: ProtocolSection = ProtocolSection()
    protocols: dict[str, ProtocolSection] = {}
    splits: dict[str, ProtocolSection] = {}
    split: str | None = None
    systems: dict[str, SystemSection] = {}
    svms: dict[str, SvmSection] = {}
    cnns: dict[str, SegmentSystem] = {}
    networks: dict[str, NetworkSection] = {}
    published: list[PublishedRow] = []
    compare: list[tuple[str, str]] = []
    training: TrainingSection = TrainingSection()
    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    evaluation: EvaluationSection = EvaluationSection()

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Names of the upstreams; none where the recipe makes its own."""
        if self.upstream is None:
            return ()
        return (self.upstream,) if isinstance(self.upstream, str) else tuple(self.upstream)

    def upstreams_of(self, network: str) -> tuple[int, ...]:
        """Which of the upstreams a network stands on, by their places from 0."""
        only = self.networks[network].only
        return tuple(range(len(self.upstreams))) if only is None else (only - 1,)

    @property
    def needs_upstream(self) -> bool:
        """Whether there is anything in the recipe that looks at the frames of an upstream."""
        return bool(self.statistics or self.cnns or self.networks or self.pretraining)

    @property
    def idle_sections(self) -> frozenset[str]:
        """Sections that mean nothing in a recipe of this kind."""
        if self.finetuning is not None:
            return frozenset({"pretraining", "systems", "svms", "cnns", "training"})
        idle = {"finetuning", "networks"}
        if self.pretraining is not None:
            return frozenset(idle | {"svms", "cnns", "downstream"})
        idle |= {"pretraining"}
        idle |= {"training", "systems"} if not self.systems else set()
        idle |= {"cnns", "downstream"} if not self.cnns else set()
        return frozenset(idle | ({"svms"} if not self.svms else set()))

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of all pooled statistics that a system needs."""
        asked = [system.statistics for system in self.systems.values()]
        asked += [machine.statistics for machine in self.svms.values()]
        return tuple(dict.fromkeys(name for names in asked for name in names))

    @property
    def system_names(self) -> tuple[str, ...]:
        """Names of all that is measured: the systems, or with pre-training those of each variant."""
        if self.finetuning is not None:
            return tuple(self.networks)
        if self.pretraining is None:
            return (*self.systems, *self.svms, *self.cnns)
        return tuple(self.named(v, s) for v in self.pretraining.variants for s in self.systems)

    def named(self, variant: str, system: str) -> str:
        """Name of a system on a pre-trained variant: the variant's own where there is one system only."""
        return variant if len(self.systems) == 1 else f"{variant} {system}"

    @model_validator(mode="after")
    def _means_something(self) -> Recipe:
        """Refuse a section that would change nothing: who set it expects that it does."""
        for name in sorted(
            self.idle_sections & self.model_fields_set - {"systems", "networks", "pretraining"}
        ):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"'{name}' means nothing in a recipe of this kind; {self._instead_of(name)}")
        return self

    def _instead_of(self, section: str) -> str:
        if section in ("svms", "cnns"):
            what = "fine-tunes" if self.finetuning is not None else "pre-trains"
            return f"one that {what} its upstreams has none"
        if self.finetuning is not None:
            return "it has 'downstream' and 'finetuning'"
        if self.pretraining is not None or self.systems:
            return "it has 'training'" + (
                "; 'downstream' is that of 'cnns'" if section == "downstream" else ""
            )
        return "it has 'downstream'" if self.cnns else "each of 'svms' has its 'svm'"

    @model_validator(mode="after")
    def _finetunes(self) -> Recipe:
        """Check what belongs to recipes that fine-tune."""
        if self.finetuning is None:
            if self.networks:
                raise ValueError("networks: belong to a recipe with 'finetuning'; others have 'systems'")
            if len(self.upstreams) > 1:
                raise ValueError("upstream: several are joined by a recipe with 'finetuning' only; name one")
            if not (self.systems or (self.pretraining is None and (self.svms or self.cnns))):
                raise ValueError("'systems' is missing: at least one is needed")
            return self
        if self.systems or not self.networks:
            raise ValueError("a recipe with 'finetuning' has 'networks' in the place of 'systems'")
        if self.pretraining is not None:
            raise ValueError("a recipe has either 'pretraining' or 'finetuning'")
        if self.extraction.leave_out_silence_s is not None:
            raise ValueError(
                "extraction.leave_out_silence_s: upstreams are tuned on whole clips; leave it away"
            )
        for name, network in self.networks.items():
            count = len(self.upstreams)
            if network.only is not None and network.only > count:
                raise ValueError(f"networks.{name}: only = {network.only}, but there are {count} upstreams")
            joined = len(self.upstreams_of(name))
            if network.fusion is None and joined > 1:
                raise ValueError(f"networks.{name}: {joined} upstreams need a fusion, 'early' or 'late'")
            if network.fusion is not None and joined < 2:
                raise ValueError(
                    f"networks.{name}: fusion {network.fusion!r} joins several upstreams, and there is one; name two "
                    "(--upstream A --upstream B)"
                )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.upstream is None) == (self.pretraining is None) and self.needs_upstream:
            raise ValueError(
                "a recipe has either 'upstream' or 'pretraining', which makes upstreams of its own"
            )
        if self.extraction.leave_out_silence_s is not None:
            for name, cnn in self.cnns.items():
                if cnn.segments.context == "segment":
                    raise ValueError(
                        f"cnns.{name}: segments that are encoded by themselves are cut from whole clips; leave "
                        "extraction.leave_out_silence_s away"
                    )
        if (self.pretraining is not None or self.finetuning is not None or self.cnns or self.svms) and (
            not self.name.strip(". ")
            or {"/", "\\"} & set(self.name)
            or self.name in ("frames", "clips", "features")
        ):
            what = "pre-trained" if self.pretraining is not None else "trained"
            raise ValueError(f"name: {self.name!r} cannot be the folder of what is {what}; choose another")
        for pair in self.compare:
            for system in pair:
                if system not in self.system_names:
                    there = ", ".join(self.system_names)
                    raise ValueError(f"compare: no system {system!r}; there are: {there}")
        if self.split is not None and self.split not in self.splits:
            raise ValueError(f"split: no split {self.split!r}; {nearest(self.split, self.splits)}")
        twice = [name for name in self.system_names if self.system_names.count(name) > 1]
        if twice:
            raise ValueError(f"systems: two are called {twice[0]!r}; a result has one of each name")
        if self.cnns and self.downstream is not None and self.downstream.dropout != FitOptions.dropout:
            raise ValueError(
                "downstream.dropout: is that of networks on whole clips; 'cnns' have theirs in network.dropout and in "
                "each of network.blocks"
            )
        for name in (*self.cnns, *self.svms):
            if not name.strip(". ") or {"/", "\\"} & set(name):
                raise ValueError(f"systems: {name!r} cannot be part of a folder's name; choose another")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed stands there twice")
        for system in self.system_names:
            if system.endswith(VOTE):
                raise ValueError(
                    f"systems: {system!r} ends in {VOTE!r}, which is added for the vote of the seeds"
                )
        for row in self.published:
            if row.system not in self.system_names:
                raise ValueError(
                    f"published: no system {row.system!r}; {nearest(row.system, self.system_names)}"
                )
        for name in (*self.corpora, *self.protocols, *(row.corpus for row in self.published)):
            corpora.get(name)
        return self
