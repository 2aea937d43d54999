"""Figures of answers across corpora: by pair, as means over tested corpora, and as paired tests over all speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from subtone.evaluation.bootstrap import Metric
from subtone.evaluation.comparison import Comparison, compare
from subtone.evaluation.findings import Measure
from subtone.studies.cross_cells import ADJUSTMENTS, Adjustment, Variant
from subtone.studies.figures import Resampled, pooled_over, resampled_ua
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions

OTHERS = "all others"
#: Who taught: speakers of the tested corpus, one other corpus (each in turn), all other corpora together.
Setting = Literal["within", "one other", "all others"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)


@dataclass(frozen=True)
class System:
    """Who answers: what is pooled, how features are treated, how scores are adjusted."""

    pooling: str
    variant: Variant = "raw"
    adjustment: Adjustment = "plain"

    def key(self, taught_by: str) -> str:
        """Name of its answers when a corpus, all others or, for a mean, a setting taught it."""
        return f"{self.pooling} | {self.variant} | {self.adjustment} | {taught_by}"


@dataclass(frozen=True, eq=False)
class Answers:
    """All answers of a study.

    Parameters
    ----------
    materials
        Corpora, in the order of tables.
    given
        Tested corpus → key of a system → ``(seeds, clips)`` class numbers. What failed is not there.
    options
        Of intervals and tests.
    """

    materials: Sequence[Material]
    given: Mapping[str, Mapping[str, npt.NDArray[np.int64]]]
    options: StudyOptions

    @property
    def names(self) -> tuple[str, ...]:
        """Of the corpora."""
        return tuple(one.name for one in self.materials)

    def settings(self) -> tuple[Setting, ...]:
        """Settings that differ: of two corpora, all others are the one other."""
        return SETTINGS if len(self.materials) > 2 else SETTINGS[:2]

    def teachers(self, setting: Setting, tested: str) -> tuple[str, ...]:
        """Who teaches in a setting, as the keys name them."""
        if setting == "within":
            return (tested,)
        return (OTHERS,) if setting == "all others" else tuple(n for n in self.names if n != tested)

    def resampled(self, metric: Metric) -> dict[str, Resampled]:
        """Return the figures of each tested corpus, on the same resamples of its speakers."""
        found = {}
        for place, one in enumerate(self.materials):
            truth, classes, answers = one.targets, len(one.classes), self.given[one.name]
            if not answers:  # all that was taught for it failed
                found[one.name] = Resampled({}, {})
                continue
            if metric == "wa":  # is the UA of being right, where all clips are of one class
                answers = {name: (answer != truth).astype(np.int64) for name, answer in answers.items()}
                truth, classes = np.zeros_like(truth), 2
            found[one.name] = resampled_ua(
                truth,
                answers,
                classes,
                one.speakers,
                resamples=self.options.resamples,
                seed=[self.options.seed, place],
                model_of=_model_of,
            )
        return found

    def compare(
        self, setting: Setting, first: System, second: System, names: tuple[str, str]
    ) -> Comparison | None:
        """Test two systems on all tested corpora at once; None where answers of either failed.

        A class of a corpus counts as a class of its own, so that UA is the mean over corpora of their UA. Speakers are
        exchanged whole; for the interval, those of each corpus are drawn by themselves, so that no corpus is ever
        missing. In the setting ``"one other"`` a clip counts once for each corpus that taught, of which nothing is
        drawn: they are the same for both systems.
        """
        both = [self._joined(setting, system) for system in (first, second)]
        if both[0] is None or both[1] is None:
            return None
        return compare(
            np.concatenate(
                [
                    np.tile(self._own(place, one.targets), len(self.teachers(setting, one.name)))
                    for place, one in enumerate(self.materials)
                ]
            ),
            both[0],
            both[1],
            [f"{one.name} {label}" for one in self.materials for label in one.classes],
            [
                f"{one.name}/{speaker}"
                for one in self.materials
                for _ in self.teachers(setting, one.name)
                for speaker in one.speakers
            ],
            strata=[
                one.name
                for one in self.materials
                for _ in self.teachers(setting, one.name)
                for _ in one.speakers
            ],
            names=names,
            seed=self.options.seed,
            resamples=self.options.resamples,
            permutations=self.options.permutations,
        )

    def _joined(self, setting: Setting, system: System) -> npt.NDArray[np.int64] | None:
        """Return the answers to the clips of all corpora, ``(seeds, clips)``, once for each who taught."""
        parts: list[npt.NDArray[np.int64]] = []
        for place, tested in enumerate(self.names):
            keys = [system.key(teacher) for teacher in self.teachers(setting, tested)]
            if any(name not in self.given[tested] for name in keys):
                return None
            parts += [self._own(place, self.given[tested][name]) for name in keys]
        return np.concatenate(parts, axis=1)

    def _own(self, place: int, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return codes + place * len(self.materials[0].classes)


@dataclass(frozen=True, eq=False)
class Scores:
    """UA or WA, in points.

    Parameters
    ----------
    pairs
        Tested corpus → figures by key, whoever taught.
    means
        Of the tested corpora: figures by key, where a setting stands for who taught.
    """

    pairs: Mapping[str, Resampled]
    means: Resampled

    @classmethod
    def of(
        cls, answers: Answers, metric: Metric, poolings: Sequence[str], variants: Sequence[Variant]
    ) -> Scores:
        """Take the figures of all answers."""
        pairs = answers.resampled(metric)
        systems = [System(p, v, a) for p in poolings for v in variants for a in ADJUSTMENTS]
        return cls(
            pairs, pooled_over([_by_setting(answers, name, pairs[name], systems) for name in answers.names])
        )

    def pair(self, tested: str, teacher: str, system: System) -> Measure | None:
        """One figure; None where it failed."""
        found = self.pairs[tested]
        return found.measure(system.key(teacher)) if system.key(teacher) in found.values else None

    def gain(self, tested: str, teacher: str, first: System, second: System) -> Measure | None:
        """The second system's figure less the first's; None where either failed."""
        return _difference(self.pairs[tested], first.key(teacher), second.key(teacher))

    def mean(self, setting: Setting, system: System) -> Measure | None:
        """Mean over tested corpora; None where one failed."""
        name = system.key(setting)
        return self.means.measure(name) if name in self.means.values else None

    def mean_gain(self, setting: Setting, first: System, second: System) -> Measure | None:
        """Mean over tested corpora of the second system's figure less the first's."""
        return _difference(self.means, first.key(setting), second.key(setting))


def _model_of(name: str) -> str:
    """Return whose answers these are, whatever was done to its scores."""
    pooling, variant, _, taught_by = name.split(" | ")
    return f"{pooling} | {variant} | {taught_by}"


def _by_setting(answers: Answers, tested: str, found: Resampled, systems: Sequence[System]) -> Resampled:
    """Average over those who teach in each setting."""
    values, draws = {}, {}
    for system in systems:
        for setting in answers.settings():
            keys = [system.key(teacher) for teacher in answers.teachers(setting, tested)]
            if all(name in found.values for name in keys):
                name = system.key(setting)
                values[name] = float(np.mean([found.values[one] for one in keys]))
                draws[name] = np.mean([found.draws[one] for one in keys], axis=0)
    return Resampled(values, draws)


def _difference(found: Resampled, first: str, second: str) -> Measure | None:
    if first not in found.values or second not in found.values:
        return None
    return found.of(lambda a, b: b - a, first, second)
