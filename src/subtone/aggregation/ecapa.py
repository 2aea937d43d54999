"""ECAPA-TDNN: convolutions over frames, then attentive statistics; a clip's vector never depends on its batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subtone.aggregation.batch_norm import StepBatchNorm
from subtone.errors import UsageError

_DILATIONS = (2, 3, 4)  # of the three SE-Res2Net blocks
_REACHES = (2, 3, 4)  # frames that a convolution looks to either side: kernel 5; kernel 3 with each dilation
_FLOOR = 1e-12  # of a variance: there the square root keeps a finite gradient


class EcapaError(UsageError, ValueError):
    """A size, a shape or a mask that ECAPA-TDNN cannot honour."""


class Ecapa(nn.Module):
    """ECAPA-TDNN: the frames of a clip become one vector.

    A convolution, three SE-Res2Net blocks, a convolution over the outputs of all three, attentive statistics
    pooling whose attention also sees the clip's mean and standard deviation, and a linear layer.

    A clip is as if it were alone: convolutions reflect at its own ends, means and attention see its valid
    frames. Batch normalisation in training is over the valid frames of the micro-batch; its running
    statistics move when :func:`subtone.aggregation.settle` is called.

    Parameters
    ----------
    dim : int
        Size of a frame.
    channels : int
        Of the convolutions; ``scale`` divides it.
    embedding : int
        Size of the vector.
    scale : int
        Groups of channels in a Res2Net layer, at least 2; each but the first hears the one before it.
    attention, squeeze : int
        Hidden sizes of the attention and of the squeeze-and-excitation gates.

    Raises
    ------
    EcapaError
        (a ``ValueError``) If a size is out of range.

    Notes
    -----
    Desplanques, Thienpondt and Demuynck 2020, "ECAPA-TDNN: Emphasized Channel Attention, Propagation and
    Aggregation in TDNN Based Speaker Verification" (arXiv 2005.07143), in the layout of SpeechBrain's
    ``ECAPA_TDNN``, which gives the same numbers for a clip alone.

    Examples
    --------
    >>> ecapa = Ecapa(dim=8, channels=16, embedding=6)
    >>> ecapa(torch.randn(2, 50, 8), torch.ones(2, 50, dtype=torch.bool)).shape
    torch.Size([2, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        channels: int = 512,
        embedding: int = 192,
        scale: int = 8,
        attention: int = 128,
        squeeze: int = 128,
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "channels": channels, "embedding": embedding}
        for name, size in {**sizes, "attention": attention, "squeeze": squeeze}.items():
            if size < 1:
                raise EcapaError(f"{name} = {size} must be at least 1")
        if scale < 2 or channels % scale:
            raise EcapaError(f"scale = {scale} must be at least 2 and divide channels = {channels}")
        self.dim = dim
        wide = len(_DILATIONS) * channels
        self.first = _Tdnn(dim, channels, kernel=5)
        self.blocks = nn.ModuleList(
            _SeRes2Block(channels, scale, squeeze, dilation) for dilation in _DILATIONS
        )
        self.merge = _Tdnn(wide, wide)
        self.pooling = _ContextAttention(wide, attention)
        self.norm = StepBatchNorm(2 * wide)
        self.out = nn.Linear(2 * wide, embedding)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool ``(batch, frames, dim)`` to ``(batch, embedding)``.

        Parameters
        ----------
        frames : Tensor
            ``(batch, frames, dim)``, floating; masked frames may hold anything, NaN included.
        mask : Tensor, optional
            ``(batch, frames)`` bool, True where a frame is valid: the first ones of a clip, at least one.
            Default: all are.

        Returns
        -------
        Tensor
            ``(batch, embedding)``; float32, or float64 for float64 frames.

        Raises
        ------
        EcapaError
            (a ``ValueError``) If shapes or types disagree, or a clip's valid frames are not its first ones.
        """
        clips = self._clips(frames, mask)
        frames = frames[:, : clips.longest].transpose(1, 2)  # (batch, dim, frames)
        frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
        if clips.mask is not None:
            frames = frames.masked_fill(~clips.mask[:, None], 0)
        x = self.first(frames, clips)  # (batch, channels, frames)
        seen = []
        for block in self.blocks:
            x = block(x, clips)
            seen.append(x)
        pooled = self.pooling(self.merge(torch.cat(seen, 1), clips), clips)  # (batch, 6 * channels)
        vector: Tensor = self.out(self.norm(pooled))  # (batch, embedding)
        return vector.to(frames.dtype)

    def _clips(self, frames: Tensor, mask: Tensor | None) -> _Clips:
        if frames.dim() != 3 or not frames.is_floating_point() or frames.shape[2] != self.dim:
            raise EcapaError(
                f"frames must be floating (batch, frames, dim = {self.dim}), "
                f"got {frames.dtype} {tuple(frames.shape)}; was it built for this upstream?"
            )
        num_frames = frames.shape[1]
        if mask is None:
            mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        if mask.dtype != torch.bool or mask.shape != frames.shape[:2]:
            raise EcapaError(
                f"mask must be a bool tensor (batch, frames) = {tuple(frames.shape[:2])}, "
                f"got {mask.dtype} {tuple(mask.shape)}; True marks the valid frames"
            )
        lengths = mask.sum(1)  # (batch,)
        ends = torch.arange(num_frames, device=mask.device) < lengths[:, None]
        wrong = ((lengths == 0) | (mask != ends).any(1)).nonzero().flatten().tolist()
        if wrong:
            raise EcapaError(
                f"mask: the valid frames of row {wrong} are not its first ones, or there are none; "
                "put them first and leave out the clips that give no frame"
            )
        return _Clips.of(mask, lengths)


@dataclass(frozen=True)
class _Clips:
    """Where the clips of a batch end: what convolutions, means and norms ask of a mask."""

    longest: int
    lengths: Tensor
    """``(batch,)``"""
    mask: Tensor | None
    """``(batch, longest)``; None where all clips are equally long."""
    edges: dict[int, tuple[Tensor, Tensor]]
    """Reach → where the frames beyond the ends are copied from, ``(batch, 1, 2 * reach)``, and where those
    behind the end go in the padded clip, ``(batch, 1, reach)``."""

    @classmethod
    def of(cls, mask: Tensor, lengths: Tensor) -> _Clips:
        shortest, longest = torch.stack([*lengths.aminmax()]).tolist() if len(lengths) else [0, 0]
        if shortest == longest:
            return cls(longest, lengths, None, {})
        edges = {}
        for reach in _REACHES:
            beyond = torch.arange(reach, device=mask.device)
            behind = lengths[:, None, None] + beyond  # (batch, 1, reach)
            before = (beyond - reach).expand_as(behind)
            sources = _reflected(torch.cat([before, behind], 2), lengths[:, None, None])
            edges[reach] = sources, behind + reach
        return cls(longest, lengths, mask[:, :longest], edges)

    def padded(self, x: Tensor, reach: int) -> Tensor:
        """Reflect each clip of ``(batch, channels, longest)`` at its own ends, ``reach`` frames to a side."""
        if self.mask is None:
            if reach < self.longest:
                return F.pad(x, (reach, reach), mode="reflect")
            times = torch.arange(-reach, self.longest + reach, device=x.device)
            return x.index_select(2, _reflected(times, torch.full_like(times, self.longest)))
        sources, places = self.edges[reach]
        before, behind = x.gather(2, sources.expand(-1, x.shape[1], -1)).chunk(2, 2)
        # Copying only the few frames at the ends; a gather of whole clips costs several times as much.
        whole = torch.cat([before, x, torch.zeros_like(behind)], 2)  # (batch, channels, longest + 2 * reach)
        return whole.scatter_(2, places.expand(-1, x.shape[1], -1), behind)

    def mean(self, x: Tensor) -> Tensor:
        """Average ``(batch, channels, longest)``, zero where masked, over valid frames."""
        return x.sum(2) / self.lengths[:, None]  # (batch, channels)


def _reflected(times: Tensor, length: Tensor) -> Tensor:
    """Fold times back into 0..length - 1, as often as it takes: a triangular wave, edges not repeated.

    >>> _reflected(torch.arange(-3, 6), torch.tensor(3)).tolist()
    [1, 2, 1, 0, 1, 2, 1, 0, 1]
    """
    period = (2 * (length - 1)).clamp(min=1)
    within = times % period
    return torch.where(within < length, within, period - within)


class _Tdnn(nn.Module):
    """Convolution, ReLU, batch norm."""

    def __init__(self, dim: int, channels: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.reach = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(dim, channels, kernel, dilation=dilation)
        self.norm = StepBatchNorm(channels)

    def forward(self, x: Tensor, clips: _Clips) -> Tensor:
        if self.reach:
            x = clips.padded(x, self.reach)
        normed: Tensor = self.norm(self.conv(x).relu(), clips.mask)
        return normed


class _SeRes2Block(nn.Module):
    """Res2Net between two 1x1 convolutions, gated by squeeze-and-excitation, added to its input."""

    def __init__(self, channels: int, scale: int, squeeze: int, dilation: int) -> None:
        super().__init__()
        self.scale = scale
        self.before = _Tdnn(channels, channels)
        group = channels // scale
        self.groups = nn.ModuleList(_Tdnn(group, group, 3, dilation) for _ in range(scale - 1))
        self.after = _Tdnn(channels, channels)
        self.gate = nn.Sequential(
            nn.Linear(channels, squeeze), nn.ReLU(), nn.Linear(squeeze, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor, clips: _Clips) -> Tensor:
        first, *others = self.before(x, clips).chunk(self.scale, 1)  # each (batch, channels / scale, frames)
        heard = [first]
        for part, group in zip(others, self.groups, strict=True):
            heard.append(group(part if len(heard) == 1 else part + heard[-1], clips))
        y = self.after(torch.cat(heard, 1), clips)  # (batch, channels, frames)
        return torch.addcmul(x, y, self.gate(clips.mean(y)).to(y.dtype)[..., None])


class _ContextAttention(nn.Module):
    """Mean and standard deviation under weights of each channel's own, learned from frame and whole clip."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hear = nn.Conv1d(3 * dim, hidden, 1)  # of frame ‖ mean ‖ standard deviation
        self.norm = StepBatchNorm(hidden)
        self.score = nn.Conv1d(hidden, dim, 1)

    def forward(self, x: Tensor, clips: _Clips) -> Tensor:
        mean = clips.mean(x)  # (batch, dim)
        centred = (x - mean[..., None]).square()
        if clips.mask is not None:
            centred = centred * clips.mask[:, None]
        context = torch.cat([mean, clips.mean(centred).clamp(_FLOOR).sqrt()], 1)  # (batch, 2 * dim)
        # One convolution of frame ‖ context; the context is the same at all frames, so it goes through it once.
        local, whole = torch.split(self.hear.weight, [x.shape[1], context.shape[1]], 1)
        heard = F.conv1d(x, local) + F.linear(context, whole[..., 0], self.hear.bias)[..., None]
        scores = self.score(self.norm(heard.relu(), clips.mask).tanh()).to(x.dtype)  # (batch, dim, frames)
        if clips.mask is not None:
            scores = scores.masked_fill(~clips.mask[:, None], -torch.inf)
        weights = scores.softmax(2)
        mean = (weights * x).sum(2)
        variance = (weights * (x - mean[..., None]).square()).sum(2)
        return torch.cat([mean, variance.clamp(_FLOOR).sqrt()], 1)  # (batch, 2 * dim)
