"""An aggregator by name: from a clip's frames and masks to its one vector, plain or learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from subtone.aggregation.ecapa import Ecapa
from subtone.errors import UsageError, nearest
from subtone.pooling import AttentiveStatistics, SapForm, gap, gap_sap, sap
from subtone.runs import SegmentAttention

AggregatorName = Literal["mean", "sap", "gap+sap", "attentive", "ecapa"]

_SCALE = 8  # groups of channels in ECAPA-TDNN


class AggregatorError(UsageError, ValueError):
    """A name, a form or a size that no aggregator can honour."""


@dataclass(frozen=True)
class AggregatorOptions:
    """Which aggregator, and how large.

    Parameters
    ----------
    name : {"mean", "sap", "gap+sap", "attentive", "ecapa"}
        Mean of all frames; of speech frames; both side by side; attentive statistics; ECAPA-TDNN.
    std : bool
        Append standard deviations, to ``"mean"``, ``"sap"`` and ``"gap+sap"``.
    form : {"frame", "segment", "attention"}
        Of ``"sap"`` and ``"gap+sap"``, see :func:`subtone.pooling.sap`; the attention is learned.
    channels, embedding : int
        Sizes of ``"ecapa"``, see :class:`subtone.aggregation.Ecapa`.

    Raises
    ------
    AggregatorError
        (a ``ValueError``) If a name is unknown, a size out of range, or an option has no use.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - as pydantic wants it, which a recipe reads it with

    name: AggregatorName = "mean"
    std: bool = False
    form: SapForm = "frame"
    channels: int = 512
    embedding: int = 192

    def __post_init__(self) -> None:
        for option, value, known in (
            ("aggregator", self.name, get_args(AggregatorName)),
            ("form", self.form, get_args(SapForm)),
        ):
            if value not in known:
                raise AggregatorError(f"{option} {value!r} is not known; {nearest(str(value), known)}")
        if self.std and self.name in ("attentive", "ecapa"):
            raise AggregatorError(f"aggregator {self.name!r} has standard deviations inside; leave out std")
        if self.form != "frame" and "sap" not in self.name:
            raise AggregatorError(
                f"form {self.form!r} has no use in aggregator {self.name!r}; choose 'sap' or 'gap+sap'"
            )
        if self.channels < 1 or self.channels % _SCALE:
            raise AggregatorError(f"channels = {self.channels} must be a positive multiple of {_SCALE}")
        if self.embedding < 1:
            raise AggregatorError(f"embedding = {self.embedding} must be at least 1")


class Aggregator(nn.Module):
    """A clip's frames and masks become one vector; build it with :func:`build_aggregator`.

    Attributes
    ----------
    dim : int
        Size of the vector.
    """

    def __init__(self, options: AggregatorOptions, dim: int) -> None:
        super().__init__()
        self.options = options
        means = 2 if options.name == "gap+sap" else 1
        self.dim = dim * means * (1 + options.std)
        self.learned: nn.Module | None = None
        if options.name == "attentive":
            self.learned, self.dim = AttentiveStatistics(dim), 2 * dim
        elif options.name == "ecapa":
            sizes = {"channels": options.channels, "embedding": options.embedding, "scale": _SCALE}
            self.learned, self.dim = Ecapa(dim, **sizes), options.embedding
        elif options.form == "attention":
            self.learned = SegmentAttention(dim, heads=next(heads for heads in (4, 2, 1) if dim % heads == 0))

    def forward(self, frames: Tensor, mask: Tensor, speech: Tensor) -> Tensor:
        """Aggregate ``(batch, frames, dim)`` to ``(batch, self.dim)``.

        Parameters
        ----------
        frames : Tensor
            Floating; masked frames may hold anything, NaN included.
        mask, speech : Tensor
            ``(batch, frames)`` bool, True where a frame is valid, where it is speech. ``"ecapa"`` wants the
            valid frames first. Without speech a clip is averaged over its valid frames; only ``"sap"`` and
            ``"gap+sap"`` look at speech.

        Returns
        -------
        Tensor
            ``(batch, self.dim)``; float32, or float64 for float64 frames.

        Raises
        ------
        UsageError
            (a ``ValueError``) If shapes or types disagree, or a row has no valid frame.
        """
        form, std = self.options.form, self.options.std
        if self.options.name == "mean":
            return gap(frames, mask, std=std)
        if self.options.name in ("sap", "gap+sap"):
            attention = self.learned if isinstance(self.learned, SegmentAttention) else None
            pooled = sap if self.options.name == "sap" else gap_sap
            return pooled(frames, speech, form, mask=mask, std=std, attention=attention)
        assert self.learned is not None
        vector: Tensor = self.learned(frames, mask)
        return vector


def build_aggregator(options: AggregatorOptions, dim: int) -> Aggregator:
    """Build an aggregator of frames of size ``dim``.

    Raises
    ------
    AggregatorError
        (a ``ValueError``) If ``dim`` is out of range.

    Examples
    --------
    >>> build_aggregator(AggregatorOptions("gap+sap", std=True), dim=8).dim
    32
    >>> build_aggregator(AggregatorOptions("ecapa", channels=16), dim=8).dim
    192
    """
    if dim < 1:
        raise AggregatorError(f"dim = {dim} must be at least 1")
    return Aggregator(options, dim)
