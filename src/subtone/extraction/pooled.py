"""The one way from a wave to pooled features: training, evaluation and prediction all come through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.errors import UpstreamError
from subtone.extraction.chunks import Chunk, plan
from subtone.extraction.features import PooledFeatures
from subtone.extraction.moments import FrameWeights, Moments, merge, moments, statistics, weigh
from subtone.pooling import PoolingError, pool
from subtone.speech import SpeechSegments
from subtone.upstreams import Upstream
from subtone.upstreams.surveys import Survey

Encode: TypeAlias = Callable[
    [Sequence[npt.NDArray[np.float32]], Sequence[Survey | None]], Sequence[npt.NDArray[np.float32] | Tensor]
]
"""From chunks and the surveys of their clips to frames, each ``(layers, frames, dim)``."""

Part: TypeAlias = Moments | Mapping[str, npt.NDArray[np.float32]]
"""What is kept of the frames of a chunk: their moments, or all statistics of a clip of one chunk."""


@dataclass(frozen=True, eq=False)
class ClipPooling:
    """How one clip becomes pooled features: which chunks of it are encoded, and what is kept of their frames.

    Chunks may be encoded and their parts taken anywhere and in any order::

        work = ClipPooling.plan(upstream, num_samples, speech, names)
        survey = upstream.survey(blocks()) if work.needs_survey else None
        for chunk, wave in zip(work.chunks, cut_chunks(blocks(), work.chunks)):
            parts.append(work.part(chunk, encode([wave], [survey])[0]))
        features = work.finish(parts)

    Parameters
    ----------
    chunks
        What is encoded, in order; the survey of the clip goes with each, if there are several.
    names
        The statistics.
    num_samples
        Length of the clip.
    speech
        ``(frames,)`` bool, True where a frame is speech.
    too_short
        Whether the upstream pads the clip.
    weights
        Of all frames; None where a statistic has to see the frames of the clip at once.
    """

    chunks: Sequence[Chunk]
    names: Sequence[str]
    num_samples: int
    speech: npt.NDArray[np.bool_]
    too_short: bool
    weights: FrameWeights | None

    @classmethod
    def plan(
        cls, upstream: Upstream, num_samples: int, speech: SpeechSegments, names: Sequence[str]
    ) -> ClipPooling:
        """Plan the work of a clip from its length and where it holds speech.

        Raises
        ------
        PoolingError
            If a statistic is unknown, or cannot be taken of a clip that is too long for one pass.
        """
        chunks = plan(num_samples, upstream)
        spoken = speech.project(upstream.grid, chunks[-1].frames.stop)
        weights: FrameWeights | None = None
        try:
            weights = weigh(names, spoken)
        except PoolingError:
            if len(chunks) > 1:
                raise
        return cls(chunks, names, num_samples, spoken, num_samples < upstream.min_samples, weights)

    @property
    def needs_survey(self) -> bool:
        """Whether the chunks have to be told of the clip; one that is the whole clip has not."""
        return len(self.chunks) > 1

    def part(self, chunk: Chunk, frames: Tensor) -> Part:
        """Keep of a chunk's frames ``(layers, frames, dim)`` what the features need, on the device they are on."""
        if self.weights is not None:
            return moments(frames[:, chunk.core], self.weights, chunk.frames)
        speech = torch.from_numpy(self.speech)[None].to(frames.device)  # (1, frames)
        # A layer at a time: the temporaries of a deviation are as large as the frames that it is taken of.
        layers = [pool(layer[None], torch.ones_like(speech), speech, self.names) for layer in frames]
        return {name: torch.cat([layer[name] for layer in layers]).cpu().numpy() for name in self.names}

    def finish(self, parts: Iterable[Part]) -> PooledFeatures:
        """Return the features of the clip, given the part of each chunk; in any order, the same bytes.

        Raises
        ------
        PoolingError
            If a part is missing.
        """
        if self.weights is not None:
            merged = merge(part for part in parts if isinstance(part, Moments))
            if merged.end_frame != len(self.speech):
                raise PoolingError(f"the frames of a clip from {merged.end_frame} on are missing")
            values: Mapping[str, npt.NDArray[np.float32]] = statistics(merged, self.weights, self.names)
        else:
            (values,) = (part for part in parts if isinstance(part, Mapping))
        if not all(np.isfinite(array).all() for array in values.values()):
            raise UpstreamError(
                "the features are not finite: the recording is too loud for the upstream, or the precision too narrow; "
                "scale the recording into [-1, 1], or choose precision fp32"
            )
        return PooledFeatures(
            {name: array[None] for name, array in values.items()},  # each (1, layers, dim)
            np.array([self.num_samples]),
            np.array([len(self.speech)]),
            np.array([int(self.speech.sum())]),
            np.array([self.too_short]),
        )


def pool_wave(
    upstream: Upstream,
    wave: npt.NDArray[np.float32],
    speech: SpeechSegments,
    names: Sequence[str],
    encode: Encode | None = None,
) -> PooledFeatures:
    """Encode one clip that is in memory and pool the frames of each layer.

    Parameters
    ----------
    upstream : Upstream
        Whose frames.
    wave : ndarray
        ``(samples,)`` float32, 16 kHz, of any length; see :mod:`subtone.extraction.chunks` for long ones.
    speech : SpeechSegments
        Where the clip holds speech.
    names : sequence of str
        Statistics to keep, see :data:`subtone.pooling.STATISTICS`.
    encode : callable, optional
        What computes the frames; default: ``upstream.extract``.

    Returns
    -------
    PooledFeatures
        Of one clip.

    Raises
    ------
    PoolingError
        If a statistic is unknown, or cannot be taken of a clip that is too long for one pass.
    """
    work = ClipPooling.plan(upstream, len(wave), speech, names)
    survey = upstream.survey([wave]) if work.needs_survey else None
    encode = encode or upstream.extract
    return work.finish(
        work.part(chunk, torch.as_tensor(encode([wave[chunk.start : chunk.end]], [survey])[0]))
        for chunk in work.chunks
    )
