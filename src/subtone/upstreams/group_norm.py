"""Group norm whose statistics a batch cannot change: the first layer of ``group``-norm encoders.

wav2vec 2.0 base, HuBERT base and their kin normalise each channel of their first convolution over *time*. In
a padded batch the plain module averages the padding in, which changes every frame of the clip by over 20 %.
Here each clip is normalised over its own frames only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from subtone.upstreams import valid
from subtone.upstreams.convolutions import activate
from subtone.upstreams.surveys import Moments


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
            num_frames = [(n - kernel) // stride + 1 for n in lengths]
            affine = [None if moments is None else self._affine(moments) for moments in valid.patches()]
            normed = clipwise_group_norm(frames, num_frames, self.layer_norm, affine)
        activated: Tensor = self.activation(normed)
        return activated

    @torch.no_grad()
    def of_clip(self, samples: Tensor, patches: Moments) -> Tensor:
        """Return what `forward` gives for one clip, or a chunk of one.

        The norm goes into the weights of the convolution, so that one product of matrices does both. In float32
        whatever the weights are.

        Parameters
        ----------
        samples
            ``(samples,)`` float32, at least one kernel long.
        patches
            Moments over the whole clip of what the convolution sees.

        Returns
        -------
        Tensor
            ``(channels, frames)`` float32.
        """
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        gain, shift = self._affine(patches)
        weight = gain[:, None] * self.conv.weight[:, 0].to(gain.dtype)  # (channels, kernel)
        # The offset of a recording is taken off its samples first: inside the products it would cost precision.
        offset = float(patches.mean.mean())
        shift = shift + weight.sum(dim=1) * offset
        if self.conv.bias is not None:
            shift = shift + gain * self.conv.bias
        windows = (samples - offset).unfold(0, kernel, stride).T  # (kernel, frames)
        normed = torch.addmm(shift.float()[:, None], weight.float(), windows)  # (channels, frames)
        return activate(normed, self.activation)

    def _affine(self, patches: Moments) -> tuple[Tensor, Tensor]:
        """Return the factor and the addend, ``(channels,)`` float64 each, that norm the convolution's output.

        A channel is a weighted sum of its patch of samples, so that its mean and variance over a clip follow
        from those of the patches.
        """
        device, norm = self.conv.weight.device, self.layer_norm
        exact = torch.float32 if device.type == "mps" else torch.float64
        weight = self.conv.weight[:, 0].to(exact)  # (channels, kernel)
        covariance = torch.as_tensor(patches.covariance, dtype=exact, device=device)  # (kernel, kernel)
        variance = ((weight @ covariance) * weight).sum(dim=1).clamp(min=0)  # (channels,)
        mean = weight @ torch.as_tensor(patches.mean, dtype=exact, device=device)  # (channels,)
        if self.conv.bias is not None:
            mean = mean + self.conv.bias
        gain = norm.weight * torch.rsqrt(variance + norm.eps)
        return gain, norm.bias - gain * mean


def clipwise_group_norm(
    frames: Tensor,
    num_frames: list[int],
    norm: nn.GroupNorm,
    affine: Sequence[tuple[Tensor, Tensor] | None] = (),
) -> Tensor:
    """Apply a group norm to each clip over its valid frames only.

    Parameters
    ----------
    frames
        ``(batch, channels, frames)``; padded frames may hold anything.
    num_frames
        Valid frames of each clip, 1 to ``frames``.
    norm
        The norm with its groups, weights and epsilon.
    affine
        For each clip that is normalised by what is known of it instead: factor and addend, ``(channels,)``;
        None for the others. Empty for none.

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
    known = list(affine) or [None] * len(frames)
    if all(n == longest for n in num_frames) and all(k is None for k in known):
        plain: Tensor = norm(frames)
        return plain
    # One kernel call a clip: the same arithmetic, to the bit, as for the clip alone, and no second pass over
    # the batch.
    rows = []
    for row, n, scaling in zip(frames, num_frames, known, strict=True):
        if scaling is None:
            normed = norm(row[None, :, :n])  # (1, channels, frames)
        else:
            gain, shift = (values.to(row.dtype)[None, :, None] for values in scaling)
            normed = row[None, :, :n] * gain + shift  # (1, channels, frames)
        rows.append(functional.pad(normed, (0, longest - n)))
    return torch.cat(rows)  # (batch, channels, frames)
