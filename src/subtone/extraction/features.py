"""Pooled features of many clips: one array a statistic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError, nearest


@dataclass(frozen=True)
class PooledFeatures:
    """What is kept of each clip once its frames are pooled.

    Parameters
    ----------
    statistics
        Name (see :data:`subtone.pooling.STATISTICS`) → ``(clips, layers, dim)`` float32.
    num_samples, num_frames, speech_frames
        ``(clips,)`` int64: length at 16 kHz, frames of the upstream, and how many of them are speech.
    too_short
        ``(clips,)`` bool: the clip was shorter than the receptive field and was padded to it.
    """

    statistics: Mapping[str, npt.NDArray[np.float32]]
    num_samples: npt.NDArray[np.int64]
    num_frames: npt.NDArray[np.int64]
    speech_frames: npt.NDArray[np.int64]
    too_short: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.num_samples)

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Join statistics along the last axis: ``(clips, layers, len(names) * dim)``.

        Raises
        ------
        UsageError
            If a statistic was not extracted.
        """
        for name in names:
            if name not in self.statistics:
                raise UsageError(f"statistic {name!r} was not extracted; {nearest(name, self.statistics)}")
        return np.concatenate([self.statistics[name] for name in names], axis=-1)

    def select(self, rows: npt.NDArray[np.int64]) -> PooledFeatures:
        """Return the clips at ``rows``, in that order."""
        return PooledFeatures(
            {name: values[rows] for name, values in self.statistics.items()},
            self.num_samples[rows],
            self.num_frames[rows],
            self.speech_frames[rows],
            self.too_short[rows],
        )

    @staticmethod
    def concatenate(parts: Iterable[PooledFeatures]) -> PooledFeatures:
        """Join the clips of several parts that hold the same statistics; at least one part."""
        parts = list(parts)
        return PooledFeatures(
            {name: np.concatenate([p.statistics[name] for p in parts]) for name in parts[0].statistics},
            np.concatenate([p.num_samples for p in parts]),
            np.concatenate([p.num_frames for p in parts]),
            np.concatenate([p.speech_frames for p in parts]),
            np.concatenate([p.too_short for p in parts]),
        )
