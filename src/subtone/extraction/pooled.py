"""The one way from a wave to pooled features: training, evaluation and prediction all come through here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from subtone.errors import UsageError
from subtone.extraction.features import PooledFeatures
from subtone.pooling import pool
from subtone.speech import SpeechSegments
from subtone.upstreams import Upstream

#: A longer clip is encoded in equal pieces of at most this length, because the cost of attention grows with the
#: square of the length. Its frames are pooled together.
PIECE_S = 30.0
#: One vector for more than this says nothing about an emotion, and its frames would fill the memory.
LONGEST_S = 600.0


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

    Raises
    ------
    UsageError
        If the clip is longer than :data:`LONGEST_S`.
    """
    rate = upstream.grid.sample_rate_hz
    if len(wave) > LONGEST_S * rate:
        raise UsageError(
            f"{len(wave) / rate / 60:.0f} minutes are too long for one clip (at most {LONGEST_S / 60:.0f}); name its "
            "utterances in a manifest with start and end, or let 'subtone predict' make a timeline of it"
        )
    pieces = max(1, -(-len(wave) // int(PIECE_S * rate)))
    bounds = np.linspace(0, len(wave), pieces + 1).astype(int)
    frames, spoken = [], []
    for start, end in pairwise(bounds.tolist()):
        (piece,) = upstream.extract([wave[start:end]])  # (layers, frames, dim)
        frames.append(piece)
        spoken.append(speech.clip(start, end).project(upstream.grid, piece.shape[1]))
    is_speech = torch.from_numpy(np.concatenate(spoken))[None]  # (1, frames)
    valid = torch.ones_like(is_speech)
    pooled: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    # A layer at a time: the temporaries of a deviation are as large as the frames that it is taken of.
    for layer in range(upstream.num_layers):
        joined = np.concatenate([piece[layer] for piece in frames])  # (frames, dim)
        for name, value in pool(torch.from_numpy(joined)[None], valid, is_speech, names).items():
            pooled[name].append(value[0].numpy())
    return PooledFeatures(
        {name: np.stack(layers)[None] for name, layers in pooled.items()},  # each (1, layers, dim)
        np.array([len(wave)]),
        np.array([is_speech.shape[1]]),
        np.array([int(is_speech.sum())]),
        np.array([len(wave) < upstream.min_samples]),
    )
