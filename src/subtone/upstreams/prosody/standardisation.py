"""The prosody stream in the units of a corpus: what is taken off each of its numbers, and divided by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from subtone.errors import UpstreamError
from subtone.upstreams.prosody.upstream import DIMS, VERSION, ProsodyUpstream


@dataclass(frozen=True)
class Standardisation:
    """What is taken off each number of the prosody stream, and what the rest is divided by.

    Attributes
    ----------
    mean, scale
        One for each of `DIMS`, the scales above 0. A number with mean 0 and scale 1 stays as it is.
    """

    mean: tuple[float, ...] = (0.0,) * len(DIMS)
    scale: tuple[float, ...] = (1.0,) * len(DIMS)

    def __post_init__(self) -> None:
        """Refuse what does not fit the stream."""
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            good = [type(v) in (int, float) and math.isfinite(v) for v in values]
            if not all(good) or len(good) != len(DIMS) or (name == "scale" and min(values) <= 0):
                what = "finite numbers above 0" if name == "scale" else "finite numbers"
                raise UpstreamError(f"prosody: {name} must hold {len(DIMS)} {what}, got {list(values)!r}")

    def __call__(self, frames: Tensor) -> Tensor:
        """Return ``(…, prosody dim)`` standardised."""
        mean, scale = (torch.tensor(values).to(frames) for values in (self.mean, self.scale))
        return (frames - mean) / scale

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads back, with the version of the numbers that it is of."""
        return {"version": VERSION, "mean": list(self.mean), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, document: Any) -> Standardisation:
        """Read what `to_dict` wrote.

        Raises
        ------
        UpstreamError
            If it is not that, or of another version of the stream.
        """
        if not isinstance(document, Mapping) or set(document) != {"version", "mean", "scale"}:
            raise UpstreamError(
                f"prosody: a description must hold version, mean and scale, got {document!r}; "
                "get the folder from its author again"
            )
        ProsodyUpstream.from_config(document)  # of this version
        mean, scale = document["mean"], document["scale"]
        if not isinstance(mean, list) or not isinstance(scale, list):
            raise UpstreamError(f"prosody: mean and scale must be lists, got {mean!r} and {scale!r}")
        return cls(tuple(mean), tuple(scale))
