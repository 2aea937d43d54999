"""Hide stretches of frames and of channels from an upstream's blocks while it is trained (SpecAugment).

What is hidden from a clip depends on the clip's seed and length alone, not on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from subtone.errors import UsageError
from subtone.training.options import STRICT, OptionError
from subtone.upstreams import Upstream


@dataclass(frozen=True)
class SpecMasking:
    """How much is hidden.

    Parameters
    ----------
    time_share
        Share of a clip's frames that would be hidden if spans did not overlap, in [0, 1).
    time_span
        Frames hidden in a row. A clip of fewer frames keeps them all.
    feature_share
        Share of the channels, likewise, in [0, 1).
    feature_span
        Channels hidden side by side, over all of the clip.

    Raises
    ------
    OptionError
        If a value is out of range.

    Source:
        Park et al. 2019 (arXiv 1904.08779); as in wav2vec 2.0 (arXiv 2006.11477), but with a number of spans whose
        mean over draws is ``share * length / span`` for clips of any length.
    """

    __pydantic_config__ = STRICT

    time_share: float = 0.0
    time_span: int = 10
    feature_share: float = 0.0
    feature_span: int = 64

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("time_share", "feature_share"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"finetuning: {name} = {getattr(self, name)} must lie in [0, 1)")
        for name in ("time_span", "feature_span"):
            if getattr(self, name) < 1:
                raise OptionError(f"finetuning: {name} = {getattr(self, name)} must be at least 1")


class SpecMasker:
    """Hides frames and channels where they enter the blocks of an upstream, at `Upstream.entry`.

    Hidden frames are zero, or the family's learned vector where the network has one (``masked_spec_embed``), which is
    trained with it. Hidden channels are zero.

    Nothing is hidden before `plan` or while all of the network is in evaluation mode. A plan holds until the next
    one, so that a layer which is recomputed in the backward pass hides the same again: run the backward pass of a
    batch before the next batch is planned.

    Parameters
    ----------
    upstream
        Nothing is ever hidden in one without a network.
    options
        How much is hidden.

    Raises
    ------
    UsageError
        If the upstream has a network but no single place where frames enter its blocks.
    """

    def __init__(self, upstream: Upstream, options: SpecMasking) -> None:
        self.options = options
        self._upstream = upstream
        self._plan: tuple[tuple[int, int], ...] | None = None
        self._handle: Any = None
        if upstream.module is None or not (options.time_share or options.feature_share):
            return
        if upstream.entry is None:
            raise UsageError(
                f"finetuning: the frames of {upstream.name!r} cannot be masked: they enter no single stack of layers; "
                "set time_share and feature_share to 0"
            )
        self._handle = upstream.entry.register_forward_pre_hook(self._mask)

    def plan(self, num_frames: Sequence[int], seeds: Sequence[int]) -> None:
        """Decide what is hidden from the clips of the next batch.

        Parameters
        ----------
        num_frames
            Of each clip, in order: ``upstream.grid.num_frames(samples)``.
        seeds
            Of each clip, at least 0.

        Raises
        ------
        UsageError
            If there is not one seed a clip, or the network cannot see a clip at once.
        """
        if len(num_frames) != len(seeds):
            raise UsageError(f"masking: {len(num_frames)} clips and {len(seeds)} seeds; give each clip one")
        if self._handle is None:
            return
        longest = self._upstream.one_pass_samples
        most = None if longest is None else self._upstream.grid.num_frames(longest)
        for number, count in enumerate(num_frames):
            if most is not None and count > most:
                raise UsageError(
                    f"masking: clip {number} has {count} frames, {self._upstream.name!r} sees {most} at once; "
                    f"cut training clips to {longest} samples, or set time_share and feature_share to 0"
                )
        self._plan = tuple(zip(num_frames, seeds, strict=True))

    def clear(self) -> None:
        """Hide nothing until the next `plan`."""
        self._plan = None

    def close(self) -> None:
        """Hide nothing any more; the upstream is as it was."""
        self._plan = None
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _mask(self, _entry: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        network: Any = self._upstream.module
        # Of any part, since frozen layers are in evaluation mode even in training.
        if self._plan is None or not any(part.training for part in network.modules()):
            return None
        frames: Tensor = inputs[0]  # (batch, frames, channels)
        longest = max((count for count, _ in self._plan), default=0)
        if frames.shape[:2] != (len(self._plan), longest):
            raise UsageError(
                f"masking: planned for {len(self._plan)} clips of up to {longest} frames, got {frames.shape[0]} of "
                f"{frames.shape[1]}; call plan for each batch, with its clips in order"
            )
        times, channels = self._draw(frames.shape[-1])
        if self.options.time_share:
            hidden = torch.from_numpy(times).to(frames.device)[..., None]  # (batch, frames, 1)
            learned: Tensor | None = getattr(network, "masked_spec_embed", None)
            # The learned vector takes part even where nothing is hidden: a parameter without a gradient now and then
            # would stop training on several devices.
            filler = frames.new_zeros(()) if learned is None else learned.to(frames.dtype)
            frames = torch.where(hidden, filler, frames)
        if self.options.feature_share:
            frames = frames.masked_fill(torch.from_numpy(channels).to(frames.device)[:, None], 0.0)
        return (frames, *inputs[1:])

    def _draw(self, width: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return what is hidden, ``(batch, frames)`` and ``(batch, channels)``; the same for the same plan."""
        assert self._plan is not None
        options = self.options
        if options.feature_share and options.feature_span > width:
            raise UsageError(
                f"masking: feature_span = {options.feature_span} is more than the {width} channels of "
                f"{self._upstream.name!r}; choose fewer, or set feature_share to 0"
            )
        times = np.zeros((len(self._plan), max((count for count, _ in self._plan), default=0)), np.bool_)
        channels = np.zeros((len(self._plan), width), np.bool_)
        for row, (count, seed) in enumerate(self._plan):
            # Apart, so that hiding channels does not change which frames are hidden.
            for_times, for_channels = np.random.default_rng(seed).spawn(2)
            times[row, :count] = _spans(for_times, count, options.time_share, options.time_span)
            channels[row] = _spans(for_channels, width, options.feature_share, options.feature_span)
        return times, channels


def _spans(rng: np.random.Generator, length: int, share: float, span: int) -> npt.NDArray[np.bool_]:
    """Return what spans at different random places cover, ``(length,)``; they may overlap."""
    covered = np.zeros(length, np.bool_)
    places = length - span + 1
    if places < 1:
        return covered
    number = min(int(share * length / span + rng.random()), places)
    for start in rng.choice(places, number, replace=False):
        covered[start : start + span] = True
    return covered
