"""Randomness that belongs to an utterance: it hangs on the utterance's key alone, never on the batch around it.

So the same utterance is masked alike whatever it is batched with, however far it is padded, on any device and in
any of several processes, and one big batch equals many small ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, the step of SplitMix64, as a signed number
_STREAM = -0x2917014799A6026D  # odd and unlike the step, so that streams do not run into each other
_FACTORS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


def draw_keys(num: int, generator: torch.Generator) -> Tensor:
    """Draw a key for each of ``num`` utterances, ``(num,)`` int64; ``a`` and then ``b`` keys are those of ``a + b``."""
    return torch.randint(2**63 - 1, (num,), generator=generator, device=generator.device)


def uniform(keys: Tensor, num: int, stream: int = 0) -> Tensor:
    """Return random numbers of each utterance, the more of them the longer the same sequence.

    Parameters
    ----------
    keys
        ``(batch,)`` int64.
    num
        Numbers an utterance.
    stream
        Which of the utterance's sequences: one for each purpose.

    Returns
    -------
    Tensor
        ``(batch, num)`` float64 in [0, 1), on the device of ``keys``.

    Notes
    -----
    SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").

    Examples
    --------
    >>> keys = torch.tensor([7, 8])
    >>> bool((uniform(keys, 3) == uniform(keys, 9)[:, :3]).all())
    True
    """
    steps = torch.arange(1, num + 1, device=keys.device)
    seeds = _mixed(keys + (stream + 1) * _STREAM)  # (batch,)
    return (
        _mixed(seeds[:, None] + steps * _GOLDEN) >> 11 & (1 << 53) - 1
    ).double() * 2.0**-53  # (batch, num)


def _mixed(state: Tensor) -> Tensor:
    """Scatter the bits of 64-bit numbers; products wrap around."""
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        state = (state ^ _shifted(state, shift)) * factor
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, by: int) -> Tensor:
    return state >> by & (1 << 64 - by) - 1  # torch shifts the sign in
