"""How long each clip of the batch in flight is, for layers deep in a network that see padded tensors only.

The lengths travel beside the call in a context variable, so that threads never see each other's batches and
networks stay copyable. Called without it (the bare network, outside `Upstream.encode`), layers behave as
published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from subtone.upstreams.clips import mask_of
from subtone.upstreams.surveys import Moments

_SAMPLES: ContextVar[tuple[int, ...] | None] = ContextVar("valid_samples", default=None)
_PATCHES: ContextVar[tuple[Moments | None, ...] | None] = ContextVar("patch_moments", default=None)
_FRAMES: ContextVar[tuple[int, ...] | None] = ContextVar("valid_frames", default=None)


@contextmanager
def batch(
    num_samples: Sequence[int], num_frames: Sequence[int], patches: Sequence[Moments | None]
) -> Iterator[None]:
    """Declare the valid samples and frames of each clip while the network runs.

    Parameters
    ----------
    num_samples, num_frames
        Of each clip.
    patches
        For each chunk of a clip, the moments of the first convolution's patches over that clip; None for what
        is to be normalised by itself.
    """
    samples_token, frames_token = _SAMPLES.set(tuple(num_samples)), _FRAMES.set(tuple(num_frames))
    patches_token = _PATCHES.set(tuple(patches))
    try:
        yield
    finally:
        _PATCHES.reset(patches_token)
        _SAMPLES.reset(samples_token)
        _FRAMES.reset(frames_token)


def samples() -> tuple[int, ...] | None:
    """Return the valid samples of each clip in flight, or None outside a batch."""
    return _SAMPLES.get()


def patches() -> tuple[Moments | None, ...]:
    """Return the moments of the patches of each chunk in flight, inside a batch."""
    return _PATCHES.get() or ()


def zero_padding_before(conv: nn.Module) -> None:
    """Make a convolution over frames see zeros beyond each clip's end, as it does when the clip is alone.

    The convolution's input is ``(batch, channels, frames)`` on the upstream's frame grid.
    """
    conv.register_forward_pre_hook(_zero_padding)


def _zero_padding(_conv: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    lengths = _FRAMES.get()
    frames: Tensor = inputs[0]
    if lengths is None or all(n == frames.shape[-1] for n in lengths):
        return None
    padded = ~mask_of(lengths, frames.device)[:, None, :]  # (batch, 1, frames)
    return (frames.masked_fill(padded, 0.0), *inputs[1:])
