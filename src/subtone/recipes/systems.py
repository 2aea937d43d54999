"""The sections of systems on features that stay as they are: pooled features and a classifier, or an SVM."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from subtone.extraction.functionals import FunctionalSet
from subtone.pooling import statistics_of
from subtone.recipes.section import Section
from subtone.training.svm import SvmOptions


class SystemSection(Section):
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


class SvmSection(Section):
    """A support vector machine on one row of numbers a clip.

    Parameters
    ----------
    features
        ``"egemaps"`` or ``"compare"``: openSMILE's functionals (extra ``opensmile``). ``"pooled"``: what ``pooled``
        says, of every layer of the upstream, side by side.
    pooled
        For ``"pooled"``.
    svm
        The grid; see :class:`subtone.training.svm.SvmOptions`.
    """

    features: Literal["egemaps", "compare", "pooled"]
    pooled: SystemSection | None = None
    svm: SvmOptions = SvmOptions()

    @property
    def functionals(self) -> FunctionalSet | None:
        """The set of openSMILE's functionals that is needed, if any."""
        return None if self.features == "pooled" else self.features

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the pooled statistics that are needed, if any."""
        return () if self.pooled is None else self.pooled.statistics

    @model_validator(mode="after")
    def _whole(self) -> SvmSection:
        if (self.features == "pooled") != (self.pooled is not None):
            raise ValueError(
                "pooled: says what features 'pooled' are, e.g. {pooling: gap+sap}, and goes with them alone"
            )
        return self
