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
from transformers.activations import GELUActivation

from subtone.upstreams import valid
from subtone.upstreams.surveys import WaveSurvey


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

    @torch.no_grad()
    def of_clip(self, samples: Tensor, survey: WaveSurvey, scale: float) -> Tensor:
        """Return what `forward` gives for one clip or a chunk of one, normalised as its survey says.

        As an output channel is a weighted sum of its patch of samples, its mean and variance over the clip
        follow from those of the patches, and the norm goes into the weights: one product of matrices does it
        all. Computed in float32 whatever the weights are.

        Parameters
        ----------
        samples
            ``(samples,)`` float32 as recorded, at least one kernel long.
        survey
            Of the whole clip, with its patches.
        scale
            What the samples are multiplied by before they enter the network.

        Returns
        -------
        Tensor
            ``(frames, channels)`` float32.
        """
        norm, device = self.layer_norm, samples.device
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        assert survey.patch_mean is not None and survey.patch_covariance is not None
        exact = torch.float32 if device.type == "mps" else torch.float64
        mean = torch.as_tensor(survey.patch_mean, dtype=exact, device=device)  # (kernel,)
        covariance = torch.as_tensor(survey.patch_covariance, dtype=exact, device=device)  # (kernel, kernel)
        weight = self.conv.weight[:, 0].to(exact) * scale  # (channels, kernel)
        variance = ((weight @ covariance) * weight).sum(dim=1)  # (channels,)
        gain = norm.weight.to(exact) * torch.rsqrt(variance.clamp(min=0) + norm.eps)
        weight = gain[:, None] * weight
        # The offset of the recording is taken off the samples first, so that it costs no precision.
        offset = float(mean.mean())
        bias = norm.bias.to(exact) - weight @ (mean - offset)  # (channels,)
        patches = (samples - offset).unfold(0, kernel, stride)  # (frames, kernel)
        normed = torch.addmm(bias.float(), patches, weight.float().T)  # (frames, channels)
        if _is_gelu(self.activation):
            return torch.ops.aten.gelu_(normed)  # in place: to write it elsewhere takes four times as long
        activated: Tensor = self.activation(normed)
        return activated

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


def _is_gelu(activation: nn.Module) -> bool:
    return (
        isinstance(activation, nn.GELU)
        and activation.approximate == "none"
        or (isinstance(activation, GELUActivation) and activation.act is functional.gelu)
    )


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
