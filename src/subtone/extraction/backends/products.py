"""An upstream's network rebuilt for the fastest matrix kernels of a CPU; the same numbers but for rounding.

Three things are changed, in a copy that shares the weights:

- Linear layers go to oneDNN, which on AMD multiplies float32 matrices up to twice as fast as the library that torch
  goes to by itself.
- Convolutions over the wave become products of matrices on ``(frames, channels)``, which is how the front end hands
  over its frames and how the layers want them: no transposing, and the activation is applied while a block of the
  product is still in cache.
- The weight norm of the positional convolution is multiplied out once, not once a clip.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers.activations import GELUActivation

from subtone.upstreams.cores import CnnCore, LayersCore

#: Rows of a product that are copied out of their overlap together: they stay in cache until they are multiplied.
_BLOCK = 1024


def rebuilt(core: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the network with its weights in ``dtype``; weights that are in it already are shared.

    Parameters
    ----------
    core
        `Upstream.core` on a CPU.
    dtype
        ``torch.float32`` or ``torch.bfloat16``.
    """
    # What is in the memo is taken as its own copy.
    tensors = [*core.parameters(), *core.buffers()]
    new = copy.deepcopy(core, {id(tensor): tensor for tensor in tensors})
    for part in new.modules():
        _multiply_out_weight_norm(part)
        _take_weights(part, dtype)
    if not onednn_multiplies(dtype):
        return new
    for part in new.modules():
        if type(part) is nn.Linear:
            part.__class__ = OneDnnLinear
    if type(new) is CnnCore and all(map(_is_plain, new.convolutions)):
        return ProductCore(new)
    return new


def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Tell whether torch hands out oneDNN's linear layer here: it is no promised part of torch, so it is tried."""
    x, weight, bias = (torch.ones(shape, dtype=dtype) for shape in ((2, 3), (4, 3), (4,)))
    try:
        with torch.no_grad():
            got = _product(x, weight, bias, gelu=False)
            activated = _product(x, weight, bias, gelu=True)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    wanted = torch.full((2, 4), 4.0, dtype=dtype)
    return torch.equal(got, wanted) and torch.allclose(activated, functional.gelu(wanted))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool) -> Tensor:
    kernel = torch.ops.mkldnn._linear_pointwise
    return cast(Tensor, kernel(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else ""))


class OneDnnLinear(nn.Linear):
    """A linear layer by oneDNN, without gradients."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return _product(input, self.weight, self.bias, gelu=False)


class ProductConvolution(nn.Module):
    """A convolution over time, its norm over channels if it has one, and its activation, on ``(frames, channels)``.

    Parameters
    ----------
    layer
        With ``conv``, ``activation`` and perhaps ``layer_norm``, see `_is_plain`.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        conv: nn.Conv1d = layer.conv
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        with torch.no_grad():
            taps = conv.weight.transpose(1, 2).reshape(conv.out_channels, -1)  # (out, kernel * in)
        self.weight = nn.Parameter(taps, requires_grad=False)
        self.bias = conv.bias
        self.norm: nn.LayerNorm | None = getattr(layer, "layer_norm", None)
        self.activation: nn.Module = layer.activation
        self.fused = self.norm is None and is_gelu(self.activation)

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(frames, channels)``, contiguous, to ``(fewer, out)``."""
        count, channels = frames.shape
        # What a kernel sees lies in one stretch of memory; the stretches of neighbours overlap.
        rows = frames.as_strided(
            ((count - self.kernel) // self.stride + 1, self.kernel * channels),
            (self.stride * channels, 1),
            frames.storage_offset(),
        )
        out = frames.new_empty(len(rows), len(self.weight))  # (fewer, out)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK].contiguous()
            out[start : start + _BLOCK] = _product(block, self.weight, self.bias, gelu=self.fused)
        if self.fused:
            return out
        activated: Tensor = self.activation(out if self.norm is None else self.norm(out))
        return activated


class ProductCore(nn.Module):
    """A `CnnCore` whose convolutions are products of matrices."""

    def __init__(self, core: CnnCore) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(ProductConvolution(layer) for layer in core.convolutions)
        core.convolutions = nn.ModuleList()
        self.rest: LayersCore = core

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return self.rest.dtype

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(1, channels, inputs)`` to ``(layers, frames, dim)``."""
        frames = inputs[0].to(self.dtype).T.contiguous()  # (inputs, channels)
        for convolution in self.convolutions:
            frames = convolution(frames)  # (fewer, channels)
        return self.rest.layers_of(frames[None])


def is_gelu(activation: nn.Module) -> bool:
    """Tell whether an activation is the exact GELU, ``x Φ(x)``."""
    if isinstance(activation, nn.GELU):
        return activation.approximate == "none"
    return isinstance(activation, GELUActivation) and activation.act is functional.gelu


def _is_plain(layer: Any) -> bool:
    conv = getattr(layer, "conv", None)
    return (
        isinstance(conv, nn.Conv1d)
        and conv.groups == 1
        and conv.dilation == (1,)
        and conv.padding == (0,)
        and isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm | None)
        and hasattr(layer, "activation")
    )


def _multiply_out_weight_norm(part: nn.Module) -> None:
    if not parametrize.is_parametrized(part, "weight"):
        return
    with torch.no_grad():
        weight = cast(Tensor, part.weight).clone()
    # By hand: `remove_parametrizations` changes the class that the copy still has in common with its original.
    part.__class__ = type(part).__bases__[0]
    del part._modules["parametrizations"]
    part.register_parameter("weight", nn.Parameter(weight, requires_grad=False))


def _take_weights(part: nn.Module, dtype: torch.dtype) -> None:
    """Give a module weights of its own in ``dtype``, where it has others: ``Module.to`` would change the shared."""
    for name, weight in part.named_parameters(recurse=False):
        if weight.dtype != dtype:
            part.register_parameter(name, nn.Parameter(weight.detach().to(dtype), requires_grad=False))
    for name, buffer in part.named_buffers(recurse=False):
        if buffer.is_floating_point() and buffer.dtype != dtype:
            part._buffers[name] = buffer.to(dtype)
