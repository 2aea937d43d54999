"""Time derivatives of normalised filter banks, normalised themselves: what `kaldi.add_deltas` and CMVN give, in NumPy.

Trainers read every utterance anew in each epoch, beside a network that is busy on all cores; this is a tenth of the
work of the tensors' version.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

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
    reach = 2 * order
    padded = np.pad(features, ((reach, reach), (0, 0)), mode="edge")  # (frames + 2 reach, num_mel)
    floor = VARIANCE_FLOOR / deviation**2
    for n in range(1, order + 1):
        slot = joined[:, n * num_mel : (n + 1) * num_mel]  # (frames, num_mel)
        slot[:] = 0
        weights = _weights(n)
        first = reach - len(weights) // 2
        for shift, weight in enumerate(weights):
            if weight:
                slot += weight * padded[first + shift : first + shift + frames]
        slot -= slot.mean(axis=0)
        slot *= 1 / np.sqrt(np.square(slot).mean(axis=0) + floor)
    return joined


@lru_cache(maxsize=4)
def _weights(order: int) -> tuple[np.float32, ...]:
    """Return the filter of a derivative: ``n / 10`` for n = -2 … 2, run ``order`` times over itself."""
    ramp = np.arange(-2.0, 3.0) / 10
    filtered: npt.NDArray[np.float64] = np.ones(1)
    for _ in range(order):
        filtered = np.convolve(filtered, ramp)
    return tuple(np.float32(weight) for weight in filtered)
