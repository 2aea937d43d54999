"""Time derivatives of normalised filter banks, normalised themselves: what `kaldi.add_deltas` and CMVN give, in NumPy.

Trainers read every utterance anew in each epoch, beside a network that is busy on all cores; this is a tenth of the
work of the tensors' version.
"""

from __future__ import annotations

import numpy as np

from subtone.pretraining.frames.shards import VARIANCE_FLOOR, Single


def add_normalised_deltas(features: Single, deviation: Single, order: int) -> Single:
    """Append time derivatives to normalised features, each brought to mean 0 and variance 1 over the utterance.

    Parameters
    ----------
    features
        ``(frames, num_mel)``, each band with mean 0 and variance 1.
    deviation
        ``(num_mel,)`` what each band was divided by.
    order
        Highest derivative; 0 returns the features as they are.

    Returns
    -------
    ``(frames, num_mel * (order + 1))`` float32.
    """
    if not order:
        return features
    frames, num_mel = features.shape
    joined = np.empty((frames, num_mel * (order + 1)), np.float32)
    joined[:, :num_mel] = features
    floor = VARIANCE_FLOOR / deviation**2
    # Beyond its ends a clip goes on with its first and last frame; each derivative uses up two frames a side.
    wide = np.pad(features, ((2 * order, 2 * order), (0, 0)), mode="edge")
    for n in range(1, order + 1):
        wide = _slope(wide)  # (frames + 4 (order - n), num_mel)
        slot = joined[:, n * num_mel : (n + 1) * num_mel]  # (frames, num_mel)
        margin = 2 * (order - n)
        slot[:] = wide[margin : margin + frames]
        slot -= slot.mean(axis=0)
        slot *= 1 / np.sqrt(np.einsum("fd,fd->d", slot, slot) / frames + floor)
    return joined


def _slope(x: Single) -> Single:
    """Return ``sum_{n=-2..2} n x_{t+n} / 10`` where all five frames are there, ``(frames - 4, dim)``."""
    slope = x[4:] - x[:-4]
    slope *= np.float32(2)
    slope += x[3:-1]
    slope -= x[1:-3]
    slope *= np.float32(0.1)
    return slope
