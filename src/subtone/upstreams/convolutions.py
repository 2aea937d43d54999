"""Convolutions over the wave as products of matrices, frames first: on a CPU in float32, where that is faster.

torch's own takes twice as long for the one channel of a wave, and turns hours of frames round for every layer
norm. The numbers are the same to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def are_faster(convolutions: nn.ModuleList, inputs: Tensor) -> bool:
    """Return whether `frames_first` is the faster way, and a possible one, for these layers and inputs.

    That is for layers with a layer norm, in float32 on a CPU, when neither gradients are wanted nor another
    engine looks on, which knows convolutions better.
    """
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not torch.compiler.is_compiling()
        and all(_is_layer_normed(layer) for layer in convolutions)
    )


def frames_first(convolutions: nn.ModuleList, inputs: Tensor) -> Tensor:
    """Map ``(1, channels, inputs)`` to ``(1, frames, channels)`` through published layers with layer norms."""
    rows = inputs[0].T.contiguous()  # (inputs, channels)
    layer: Any
    for layer in convolutions:
        norm = layer.layer_norm
        rows = _convolve(rows, layer.conv)  # (fewer, channels)
        rows = functional.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        rows = activate(rows, layer.activation)
    return rows[None]


def activate(x: Tensor, activation: nn.Module) -> Tensor:
    """Apply an activation without gradients, the plain GELU in place: writing it elsewhere takes four times as long."""
    found: Tensor = torch.ops.aten.gelu_(x) if _is_gelu(activation) else activation(x)
    return found


def _is_gelu(activation: nn.Module) -> bool:
    return getattr(activation, "act", None) is functional.gelu


def _is_layer_normed(layer: Any) -> bool:
    conv, norm = layer.conv, getattr(layer, "layer_norm", None)
    plain = conv.groups == 1 and conv.padding == (0,) and conv.dilation == (1,)
    return isinstance(norm, nn.LayerNorm) and plain and conv.kernel_size[0] >= conv.stride[0]


def _convolve(rows: Tensor, conv: nn.Conv1d) -> Tensor:
    """Map ``(inputs, in_channels)`` to ``(outputs, out_channels)``.

    The taps of a kernel are taken a stride at a time: so many rows lie end to end in memory and make, as they
    are, a matrix of a row an output.
    """
    kernel, stride, width = conv.kernel_size[0], conv.stride[0], rows.shape[1]
    num_outputs = (len(rows) - kernel) // stride + 1
    weight = conv.weight.permute(2, 1, 0)  # (kernel, in_channels, out_channels)
    together = kernel if width == 1 else stride  # a window of samples is short enough to be copied out whole
    found = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    for first in range(0, kernel, together):
        taps = min(together, kernel - first)
        seen = rows[first:].as_strided((num_outputs, taps * width), (stride * width, 1))
        factor = weight[first : first + taps].reshape(taps * width, -1)  # (taps * in_channels, out_channels)
        found = torch.addmm(found, seen, factor) if first == 0 else found.addmm_(seen, factor)
    return found
