"""Group norm whose statistics a batch cannot change: the first layer of ``group``-norm encoders.

wav2vec 2.0 base, HuBERT base and their kin normalise each channel of their first convolution over *time*. In
a padded batch the plain module averages the padding in, which changes every frame of the clip by over 20 %.
Here each clip is normalised over its own frames only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from subtone.upstreams import valid


class ClipwiseFirstConv(nn.Module):
    """First convolution, group norm over the valid frames of each clip, activation.

    Takes over the parts of the layer it replaces under the same names, so that weights keep their names. It
    is a plain module on purpose: gradient checkpointing, which recomputes a layer when the lengths of the
    batch are no longer known, must not apply to it.

    Parameters
    ----------
    layer
        A layer with ``conv``, ``layer_norm`` (a `torch.nn.GroupNorm`) and ``activation``.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv: nn.Conv1d = layer.conv
        self.layer_norm: nn.GroupNorm = layer.layer_norm
        self.activation: nn.Module = layer.activation

    def forward(self, wave: Tensor) -> Tensor:
        """Map ``(batch, 1, samples)`` to ``(batch, channels, frames)``, zero beyond a clip's end."""
        frames = self.conv(wave)  # (batch, channels, frames)
        lengths = valid.samples()
        if lengths is None:
            normed = self.layer_norm(frames)
        else:
            kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
            normed = clipwise_group_norm(
                frames, [(n - kernel) // stride + 1 for n in lengths], self.layer_norm
            )
        activated: Tensor = self.activation(normed)
        return activated


def clipwise_group_norm(frames: Tensor, num_frames: list[int], norm: nn.GroupNorm) -> Tensor:
    """Apply a group norm to each clip over its valid frames only.

    Parameters
    ----------
    frames
        ``(batch, channels, frames)``; padded frames may hold anything.
    num_frames
        Valid frames of each clip, 1 to ``frames``.
    norm
        The norm with its groups, weights and epsilon.

    Returns
    -------
    Tensor
        ``(batch, channels, frames)``, zero at padded frames.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 2.0, 99.0]]])
    >>> clipwise_group_norm(x, [2], nn.GroupNorm(1, 1)).detach().round()
    tensor([[[-1.,  1.,  0.]]])
    """
    longest = frames.shape[-1]
    if all(n == longest for n in num_frames):
        plain: Tensor = norm(frames)
        return plain
    # One kernel call a clip: the same arithmetic, to the bit, as for the clip alone, and no second pass over
    # the batch.
    rows = [
        functional.pad(norm(row[None, :, :n]), (0, longest - n))
        for row, n in zip(frames, num_frames, strict=True)
    ]
    return torch.cat(rows)  # (batch, channels, frames)
