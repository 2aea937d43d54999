"""NPC: predict a frame from its surroundings by convolutions that never see it (Liu, Chung & Glass 2020).

The encoder and its quantiser alone; what it is trained by is in `subtone.pretraining`. Source: arXiv 2011.00406.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from subtone.errors import UpstreamError
from subtone.upstreams.batch_norm import ValidBatchNorm
from subtone.upstreams.dropout import FrugalDropout
from subtone.upstreams.filterbank_network import (
    FilterBankEncoder,
    FilterBankNetworkUpstream,
    NetworkOptions,
    check_counts,
    check_shares,
    unless_full,
)

_MOST = {"hidden": 4096, "blocks": 32, "kernel": 255, "hidden_frames": 255, "groups": 64, "codes": 4096}


@dataclass(frozen=True)
class NpcOptions(NetworkOptions):
    """Shape of an NPC encoder; the defaults are those of the published model.

    Block ``l = 1 … blocks`` sees ``l`` frames to each side. For ``hidden_frames`` inputs to stay hidden, its masked
    convolution must leave out the ``hidden_frames + 2 l`` taps in the middle of its kernel (`mask_sizes`).

    Liu & Ma's configuration says mask size 7, kernel 15 and 4 blocks. Were 7 the inputs to hide, as that file's
    comment has it, the fourth masked convolution would have no tap left, which the published NPC refuses. As the
    taps that the first masked convolution leaves out, it is the published model, which hides 5 inputs: the
    defaults here.

    Attributes
    ----------
    hidden
        Width of a frame, ``groups * code_dim``.
    blocks
        Convolution blocks.
    kernel
        Taps of a masked convolution, those left out counted; odd.
    hidden_frames
        Inputs that the context of a frame never sees, its own in the middle; odd.
    dropout
        Share of numbers dropped at the end of each block, in training.
    groups
        Codebooks, each for its part of a frame.
    codes
        Codes in a codebook.
    temperature
        Of the Gumbel softmax.
    """

    hidden: int = 512
    blocks: int = 4
    kernel: int = 15
    hidden_frames: int = 5
    dropout: float = 0.1
    groups: int = 4
    codes: int = 64
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        check_counts("npc", self, _MOST)
        check_shares("npc", self, ("dropout",))
        for name in ("kernel", "hidden_frames"):
            if getattr(self, name) % 2 == 0:
                raise UpstreamError(f"npc: {name} must be odd, got {getattr(self, name)}")
        if self.mask_sizes[-1] >= self.kernel:
            raise UpstreamError(
                f"npc: {self.blocks} blocks with hidden_frames {self.hidden_frames} leave a kernel of {self.kernel} "
                f"nothing to see; it needs at least {self.mask_sizes[-1] + 2}"
            )
        if self.hidden % self.groups:
            raise UpstreamError(
                f"npc: hidden must be a multiple of groups ({self.groups}), got {self.hidden}"
            )
        if isinstance(self.temperature, bool) or not (
            isinstance(self.temperature, int | float) and 0 < self.temperature < math.inf
        ):
            raise UpstreamError(f"npc: temperature must be above 0, got {self.temperature!r}")

    @property
    def mask_sizes(self) -> tuple[int, ...]:
        """Taps in the middle of the kernel that the masked convolution after each block leaves out."""
        return tuple(self.hidden_frames + 2 * block for block in range(1, self.blocks + 1))

    @property
    def seen_frames(self) -> int:
        """Span of inputs that the context of a frame sees, the hidden ones in its middle counted."""
        return self.kernel + 2 * self.blocks


SIZES: dict[str, NpcOptions] = {
    "paper": NpcOptions(),
    "small": NpcOptions(hidden=192),
    "mini": NpcOptions(hidden=128),
    "tiny": NpcOptions(hidden=16, blocks=2, kernel=11, hidden_frames=3, groups=2, codes=8),
}


class NpcEncoder(FilterBankEncoder[NpcOptions]):
    """Blocks of convolutions; from each, a convolution that leaves out its middle; their sum is the context.

    The layers are the output of each block, which sees its own input, and then the context, which does not: the
    representation that NPC proposes. In training, hidden inputs still weigh in the statistics of the batch norms,
    one frame among all of the batch, as published.

    Parameters
    ----------
    options
        Its shape. Weights are random.
    """

    def __init__(self, options: NpcOptions) -> None:
        super().__init__(options)
        widths = [options.input_dim, *[options.hidden] * options.blocks]
        self.blocks = nn.ModuleList(
            ConvolutionBlock(width, options.hidden, options.dropout) for width in widths[:-1]
        )
        self.masked = nn.ModuleList(
            MaskedConvolution(options.hidden, options.kernel, mask_size) for mask_size in options.mask_sizes
        )
        self.quantizer = Quantizer(options.hidden, options.groups, options.codes, options.temperature)

    @property
    def dim(self) -> int:
        """Width of a frame of any layer."""
        return self.options.hidden

    @property
    def num_layers(self) -> int:
        """Layers handed out: one for each block, and the context."""
        return self.options.blocks + 1

    @property
    def stack(self) -> Sequence[nn.Module]:
        """The blocks of convolutions."""
        return tuple(self.blocks)

    @property
    def closing(self) -> Sequence[nn.Module]:
        """The masked convolutions, each after a block, which make the context."""
        return tuple(self.masked)

    @property
    def entry(self) -> nn.Module:
        """The first block."""
        return self.blocks[0]

    @property
    def reach(self) -> int:
        """Frames to each side that the context sees."""
        return (self.seen_frames - 1) // 2

    @property
    def hidden_frames(self) -> int:
        """Inputs that the context of a frame never sees, its own in the middle."""
        return self.options.hidden_frames

    @property
    def seen_frames(self) -> int:
        """Span of inputs that the context of a frame sees, the hidden ones in its middle counted."""
        return self.options.seen_frames

    def context(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the sum of the masked convolutions, ``(batch, frames, hidden)``, before quantisation."""
        return self._layers(features, mask)[-1]

    def quantize(self, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the codes' vectors for each frame of context; see `Quantizer`.

        Parameters
        ----------
        context
            ``(batch, frames, hidden)``.
        generator
            Of the Gumbel noise in training; torch's own when None.

        Returns
        -------
        Tensor
            ``(batch, frames, hidden)``.
        """
        quantized: Tensor = self.quantizer(context, generator)
        return quantized

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return all layers, ``(layers, batch, frames, hidden)``; see `FilterBankEncoder.forward`."""
        return torch.stack(self._layers(features, mask))

    def _layers(self, features: Tensor, mask: Tensor | None) -> list[Tensor]:
        mask = unless_full(mask)
        padded = None if mask is None else ~mask[:, :, None]  # (batch, frames, 1)
        valid = None if mask is None else mask.flatten().nonzero().flatten()  # (valid,)
        x = features if padded is None else features.masked_fill(padded, 0.0)
        found, contexts = [], []
        for block, masked in zip(self.blocks, self.masked, strict=True):
            x = block(x, valid)  # (batch, frames, hidden)
            x = x if padded is None else x.masked_fill(padded, 0.0)
            found.append(x)
            contexts.append(masked(x))
        return [*found, sum(contexts[1:], start=contexts[0])]


class ConvolutionBlock(nn.Module):
    """A convolution over three frames and a linear layer, both batch-normalised, added to the input.

    Where the width changes, in the first block, nothing is added.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.residual = width == hidden
        self.convolution = nn.Conv2d(width, hidden, (1, 3), padding=(0, 1))
        self.convolution_norm = ValidBatchNorm(hidden)
        self.linear = nn.Linear(hidden, hidden)
        self.norm = ValidBatchNorm(hidden)
        self.dropout = FrugalDropout(dropout)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map ``(batch, frames, width)``, zero where not valid, to ``(batch, frames, hidden)``."""
        # (batch, width, 1, frames) with channels last is how x lies in memory: nothing is copied.
        inner = self.convolution(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        inner = functional.relu(self.convolution_norm(inner, valid))  # (batch, frames, hidden)
        inner = self.dropout(self.norm(self.linear(inner), valid))
        return functional.relu(inner + x if self.residual else inner)


class MaskedConvolution(nn.Module):
    """A convolution whose kernel lacks the taps in its middle, and a hyperbolic tangent.

    Both sides of the kernel are computed as one convolution, over the frames to the left and those to the right
    laid beside each other: the taps left out cost nothing, have no weights, and can leak nothing.

    Parameters
    ----------
    dim
        Channels in and out.
    kernel
        Taps, those left out counted.
    mask_size
        Taps left out; both odd.
    """

    def __init__(self, dim: int, kernel: int, mask_size: int) -> None:
        super().__init__()
        self.margin, self.side = kernel // 2, (kernel - mask_size) // 2
        self.convolution = nn.Conv2d(dim, dim, (2, self.side))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, frames, dim)``, zero where not valid, to the same shape."""
        around = functional.pad(x, (0, 0, self.margin, self.margin))  # (batch, frames + kernel - 1, dim)
        skip = 2 * self.margin + 1 - self.side
        sides = torch.stack(
            [around[:, :-skip], around[:, skip:]], dim=1
        )  # (batch, 2, frames + side - 1, dim)
        summed: Tensor = self.convolution(sides.permute(0, 3, 1, 2))  # (batch, dim, 1, frames)
        return summed.squeeze(2).transpose(1, 2).tanh()


class Quantizer(nn.Module):
    """Replace each part of a frame by one of its codebook's vectors (vector quantisation in groups).

    In training the code is drawn by the Gumbel softmax, hard, with the gradient of the soft one (Jang et al. 2017);
    in evaluation it is the likeliest.

    Parameters
    ----------
    dim
        Width of a frame.
    groups
        Parts of a frame, each with a codebook.
    codes
        Codes in a codebook.
    temperature
        Of the softmax.
    """

    def __init__(self, dim: int, groups: int, codes: int, temperature: float) -> None:
        super().__init__()
        self.groups, self.temperature = groups, temperature
        width = dim // groups
        self.weight = nn.Parameter(torch.empty(groups, width, codes))
        self.bias = nn.Parameter(torch.empty(groups, 1, codes))
        self.codebooks = nn.Parameter(torch.empty(groups, codes, width))
        for parameter, fan_in in ((self.weight, width), (self.bias, width), (self.codebooks, codes)):
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map ``(batch, frames, dim)`` to the same shape."""
        parts = frames.reshape(-1, self.groups, self.weight.shape[1]).transpose(0, 1)  # (groups, rows, width)
        logits = torch.baddbmm(self.bias, parts, self.weight).float()  # (groups, rows, codes)
        if self.training:
            logits = (logits + gumbel(logits, generator)) / self.temperature
        chosen = torch.zeros_like(logits).scatter(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
        if self.training:
            soft = logits.softmax(dim=-1)
            chosen = chosen - soft.detach() + soft
        quantized = torch.bmm(chosen.to(self.codebooks.dtype), self.codebooks)  # (groups, rows, width)
        return quantized.transpose(0, 1).reshape(frames.shape)


def gumbel(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return noise of the standard Gumbel distribution, of the shape and on the device of a float32 tensor.

    Drawn as ``-log(-log U)``: on a CPU two logarithms of uniform numbers take a third of the time that torch takes
    for exponential ones.
    """
    device = like.device if generator is None else generator.device
    uniform = torch.rand(like.shape, generator=generator, device=device).to(like.device)
    return uniform.clamp_(min=torch.finfo(torch.float32).tiny).log_().neg_().log_().neg_()


class NpcUpstream(FilterBankNetworkUpstream):
    """An NPC encoder over its filter banks; with its survey, a chunk's frames are exactly those of the clip."""

    model_type: ClassVar[str] = "subtone-npc"
    options_class = NpcOptions
    encoder_class = NpcEncoder
