"""Streams of random numbers from a caller's seed, one for each thing that is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from subtone.errors import UsageError

Seed = int | Sequence[int]
"""Whole number of 0 or more, or several, e.g. ``(seed, epoch, clip)``, always as many."""


def stream(seed: Seed, number: int) -> np.random.Generator:
    """Return one of a seed's streams: what is drawn from one leaves the others as they are.

    Raises
    ------
    UsageError
        If the seed is none.
    """
    try:
        if seed is None:
            raise TypeError("no seed")  # NumPy would take one from the clock
        sequence = np.random.SeedSequence(seed, spawn_key=(number,))
    except (TypeError, ValueError) as error:
        raise UsageError(f"seed = {seed!r} must be a whole number of 0 or more, or several") from error
    return np.random.default_rng(sequence)
