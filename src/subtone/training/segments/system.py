"""What one system on segments is, as a recipe says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from subtone.errors import nearest
from subtone.training.options import STRICT, OptionError
from subtone.training.segments.decision import Decision
from subtone.training.segments.image_cnn import ImageCNN, load_image_cnn
from subtone.training.segments.network import ImageOptions
from subtone.training.segments.stack import StackOptions
from subtone.training.segments.windows import SegmentOptions


@dataclass(frozen=True)
class SegmentSystem:
    """What one system on segments is.

    Parameters
    ----------
    segments
        How clips are cut.
    layer
        The one layer of the upstream that is taken, counted from 0, or from -1 backwards; null learns a mix of all.
    network
        Convolutions that are declared here; the usual ones where neither they nor ``images`` are given.
    images
        A CNN pre-trained on images, in the place of ``network``.
    decision
        How the segments of a clip are joined.
    """

    segments: SegmentOptions = field(default_factory=SegmentOptions)
    layer: int | None = None
    network: StackOptions | None = None
    images: ImageOptions | None = None
    decision: Decision = "mean"

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        """Refuse two networks, and values out of range."""
        if self.network is not None and self.images is not None:
            raise OptionError(
                "either network or images is given, not both; set the one that is not meant to null"
            )
        if self.network is None and self.images is None:
            object.__setattr__(self, "network", StackOptions())
        if self.decision not in get_args(Decision):
            raise OptionError(
                f"decision {self.decision!r} is not known; {nearest(self.decision, get_args(Decision))}"
            )

    def encoder(self) -> StackOptions | ImageCNN:
        """Return what encodes a segment: convolutions to be made, or a pre-trained network, opened.

        Raises
        ------
        UpstreamError
            If that cannot be opened.
        """
        if self.images is not None:
            return load_image_cnn(self.images.weights)
        return self.network or StackOptions()
