"""Clips on their way into a network: checked, normalised each by itself, padded to one length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from subtone.errors import UpstreamError
from subtone.upstreams.base import Wave


def as_clips(waves: Sequence[Wave], device: torch.device) -> list[Tensor]:
    """Check clips and bring them to ``device`` as float32, keeping gradients of tensors.

    Parameters
    ----------
    waves
        Clips, each ``(samples,)`` float, NumPy or torch.
    device
        Where the network lives.

    Returns
    -------
    list of Tensor
        Each ``(samples,)`` float32.

    Raises
    ------
    UpstreamError
        If there is none, or one is not one-dimensional float, or holds NaN or infinity.

    Examples
    --------
    >>> as_clips([np.zeros(3)], torch.device("cpu"))
    [tensor([0., 0., 0.])]
    """
    if isinstance(waves, np.ndarray | Tensor) and waves.ndim == 1:
        raise UpstreamError("waves must be a list of clips, got one clip; write encode([wave])")
    if len(waves) == 0:
        raise UpstreamError("encode needs at least one wave, got an empty list")
    return [_as_clip(wave, number, device) for number, wave in enumerate(waves)]


def _as_clip(wave: Wave, number: int, device: torch.device) -> Tensor:
    if not isinstance(wave, Tensor):
        array = np.asarray(wave)
        if array.dtype.kind != "f":
            raise UpstreamError(
                f"wave {number} must hold floats in [-1, 1], got {array.dtype}; divide integers by their "
                "full scale or read the file with subtone.load_audio"
            )
        # A copy when the memory is read-only or strided backwards, neither of which torch can share.
        clip = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
    else:
        clip = wave
        if not clip.is_floating_point():
            raise UpstreamError(
                f"wave {number} must hold floats in [-1, 1], got {clip.dtype}; divide integers by their full "
                "scale"
            )
    if clip.ndim != 1:
        raise UpstreamError(
            f"wave {number} must be one-dimensional (samples,), got shape {tuple(clip.shape)}; "
            "mix the channels down with subtone.load_audio and pass a list of clips"
        )
    clip = clip.to(device=device, dtype=torch.float32)
    if not bool(torch.isfinite(clip.detach()).all()):
        raise UpstreamError(f"wave {number} holds NaN or infinite samples; repair or leave out the recording")
    return clip


def zero_mean_unit_variance(clip: Tensor) -> Tensor:
    """Scale a clip to mean 0 and variance 1 over its own samples: ``(x - mean) / sqrt(var + 1e-7)``.

    The recipe of wav2vec 2.0 and its kin (``do_normalize`` in their preprocessor configuration). An empty
    clip stays.

    Examples
    --------
    >>> zero_mean_unit_variance(torch.tensor([1.0, 3.0]))
    tensor([-1.,  1.])
    """
    if clip.numel() == 0:
        return clip
    variance, mean = torch.var_mean(clip, correction=0)
    return (clip - mean) * torch.rsqrt(variance + 1e-7)


def lengthen(clip: Tensor, num_samples: int) -> Tensor:
    """Pad a clip with zeros at its end to at least ``num_samples``."""
    missing = num_samples - clip.shape[0]
    return functional.pad(clip, (0, missing)) if missing > 0 else clip


def stack(clips: Sequence[Tensor]) -> Tensor:
    """Stack ``(length, ...)`` tensors, zero-padded at their ends, to ``(batch, longest, ...)``."""
    return clips[0].unsqueeze(0) if len(clips) == 1 else pad_sequence(list(clips), batch_first=True)


def mask_of(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return the mask ``(batch, longest)`` bool of clips with these lengths, True where valid.

    Examples
    --------
    >>> mask_of([1, 2], torch.device("cpu"))
    tensor([[ True, False],
            [ True,  True]])
    """
    longest = torch.arange(max(lengths), device=device)
    return longest[None, :] < torch.tensor(lengths, device=device)[:, None]  # (batch, longest)
