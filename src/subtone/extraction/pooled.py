"""The one way from a wave to pooled features: training, evaluation and prediction all come through here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from subtone.extraction.features import PooledFeatures
from subtone.pooling import pool
from subtone.speech import SpeechSegments
from subtone.upstreams import Upstream

#: A longer clip is encoded in equal pieces of at most this length, because the cost of attention grows with the
#: square of the length. Its frames are pooled together.
PIECE_S = 30.0


def pool_wave(
    upstream: Upstream,
    wave: npt.NDArray[np.float32],
    speech: SpeechSegments,
    names: Sequence[str],
) -> PooledFeatures:
    """Encode one clip and pool the frames of each layer.

    Parameters
    ----------
    upstream : Upstream
        Gives the frames.
    wave : ndarray
        ``(samples,)`` float32, 16 kHz.
    speech : SpeechSegments
        Where the clip holds speech.
    names : sequence of str
        Statistics to keep, see :data:`subtone.pooling.STATISTICS`.

    Returns
    -------
    PooledFeatures
        Of one clip.
    """
    rate = upstream.grid.sample_rate_hz
    pieces = max(1, -(-len(wave) // int(PIECE_S * rate)))
    bounds = np.linspace(0, len(wave), pieces + 1).astype(int)
    frames, spoken = [], []
    for start, end in pairwise(bounds.tolist()):
        (piece,) = upstream.extract([wave[start:end]])  # (layers, frames, dim)
        frames.append(piece)
        spoken.append(speech.clip(start, end).project(upstream.grid, piece.shape[1]))
    joined = torch.from_numpy(np.concatenate(frames, axis=1))  # (layers, frames, dim)
    layers, count, dim = joined.shape
    flat = joined.transpose(0, 1).reshape(1, count, layers * dim)  # (1, frames, layers * dim)
    is_speech = torch.from_numpy(np.concatenate(spoken))[None]  # (1, frames)
    pooled = pool(flat, torch.ones_like(is_speech), is_speech, names)
    return PooledFeatures(
        {name: value.reshape(1, layers, dim).numpy() for name, value in pooled.items()},
        np.array([len(wave)]),
        np.array([count]),
        np.array([int(is_speech.sum())]),
        np.array([len(wave) < upstream.min_samples]),
    )
