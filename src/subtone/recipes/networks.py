"""The sections of recipes that fine-tune: networks on the frames of upstreams, and the figures they stand beside."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from subtone.aggregation import AggregatorOptions
from subtone.recipes.section import Section
from subtone.training.end_to_end.network import Fusion

Weights = Literal["frozen", "best", "averaged"]


class NetworkSection(Section):
    """What is trained on the frames of upstreams in a recipe that fine-tunes them.

    Parameters
    ----------
    weights
        Of the upstreams: ``"averaged"`` over the best epochs of their fine-tuning, those of the single ``"best"`` one,
        or ``"frozen"``, as they were before.
    aggregator
        What makes one vector of the frames: a name (mean, sap, gap+sap, attentive, ecapa), or a name and its options,
        see :class:`subtone.aggregation.AggregatorOptions`.
    fusion
        How several upstreams are joined: ``"early"`` or ``"late"``.
    only
        Of several upstreams, take this one alone; counted from 1.
    average
        Whether the best epochs of this network are averaged too; else the best one is taken.
    """

    weights: Weights = "averaged"
    aggregator: AggregatorOptions = AggregatorOptions()
    fusion: Fusion | None = None
    only: int | None = Field(default=None, ge=1)
    average: bool = True

    @field_validator("aggregator", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class PublishedRow(Section):
    """A figure of the literature that belongs beside ours.

    Parameters
    ----------
    system
        Ours that is meant to be the same.
    what
        What the paper's is, e.g. its upstream.
    corpus
        On which it was measured.
    ua, wa
        In percent.
    protocol
        How it was measured, in words.
    """

    system: str
    what: str
    corpus: str
    ua: float = Field(ge=0, le=100)
    wa: float = Field(ge=0, le=100)
    protocol: str
