"""What every upstream promises: a frame grid, stacked layers, and frames that do not depend on the batch.

The families live in files of their own; how a name becomes an upstream is told in `loading`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from subtone.errors import UpstreamError
from subtone.upstreams.mode import evaluation
from subtone.upstreams.precision import full_precision
from subtone.upstreams.surveys import Survey, one_each

SAMPLE_RATE_HZ = 16_000
"""The sampling rate of every upstream; ``subtone.load_audio`` resamples to it."""

Wave = npt.NDArray[np.floating[Any]] | Tensor
"""One clip: ``(samples,)`` float, 16 kHz, mono, nominally in [-1, 1]."""


@dataclass(frozen=True)
class FrameGrid:
    """Where the frames of an upstream lie in the wave; plain sample counts at ``sample_rate_hz``.

    Frame ``t`` stands for its *hop cell* ``[offset + hop * t, offset + hop * (t + 1))``: the stretch of one
    hop centred on the middle of its receptive field. Cells of neighbours touch and never overlap. The first
    and last cells are *not* stretched to the ends of the wave; they are only clipped to it.

    Attributes
    ----------
    hop
        Samples from one frame to the next, e.g. 320 (20 ms).
    window
        Samples that a frame's convolutions see (its receptive field before any attention), e.g. 400 (25 ms).
    offset
        First sample of frame 0's hop cell, before clipping; negative when the encoder pads its input.
    sample_rate_hz
        Samples in a second, 16,000.
    shortest
        Fewest samples that give a frame of their own; ``window`` unless the encoder pads its input.

    Examples
    --------
    >>> grid = FrameGrid(hop=320, window=400, offset=40)
    >>> grid.num_frames(16_000)
    49
    >>> grid.cells(2, 500).tolist()
    [[40, 360], [360, 500]]
    >>> grid.times_s(2).tolist()
    [0.0125, 0.0325]
    """

    hop: int
    window: int
    offset: int
    sample_rate_hz: int = SAMPLE_RATE_HZ
    shortest: int | None = None

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip of ``num_samples`` has; at least 1, as shorter clips are padded."""
        shortest = self.window if self.shortest is None else self.shortest
        return max(1, (num_samples - shortest) // self.hop + 1)

    def cells(self, num_frames: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Return each frame's hop cell ``[start, end)`` in samples, clipped to the wave; ``(frames, 2)``.

        A cell that lies beyond the wave (a padded clip) is empty: its start equals its end.
        """
        starts = self.offset + self.hop * np.arange(num_frames, dtype=np.int64)  # (frames,)
        cells = np.stack([starts, starts + self.hop], axis=1)  # (frames, 2)
        return np.clip(cells, 0, num_samples)

    def times_s(self, num_frames: int) -> npt.NDArray[np.float64]:
        """Return the centre of each frame in seconds from the start of the clip, ``(frames,)``."""
        centres = self.offset + self.hop / 2 + self.hop * np.arange(num_frames, dtype=np.float64)
        return centres / self.sample_rate_hz


@dataclass(frozen=True)
class Encoded:
    """The frames of a batch of clips.

    Attributes
    ----------
    frames
        ``(batch, layers, frames, dim)``; zero where ``mask`` is False.
    mask
        ``(batch, frames)`` bool, True where a frame belongs to the clip.
    too_short
        For each clip, whether it was shorter than the receptive field and got padded to it with zeros.
    """

    frames: Tensor
    mask: Tensor
    too_short: tuple[bool, ...]


class Upstream(abc.ABC):
    """Waves in, frames of all layers out; a clip's frames are the same alone and in any batch.

    Attributes
    ----------
    name
        What it was loaded by.
    grid
        Where its frames lie.
    dim
        Width of a frame.
    num_layers
        Hidden layers handed out; for transformers the input of the first layer counts as layer 0.
    min_samples
        Clips shorter than this are padded to it with zeros and flagged ``too_short``.
    taught_on
        Corpora that it was trained on with their emotions; none as a rule.
    """

    name: str
    grid: FrameGrid
    dim: int
    num_layers: int
    min_samples: int
    taught_on: tuple[str, ...] = ()

    @abc.abstractmethod
    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; differentiable when gradients are enabled.

        Parameters
        ----------
        waves
            Clips, each ``(samples,)`` float at 16 kHz, NumPy or torch, at least one.
        surveys
            For each wave that is a chunk of a clip: the survey of that clip; None for a whole clip. None for
            whole clips throughout.

        Returns
        -------
        Encoded
            Frames of all layers, their mask, and which clips were too short.

        Raises
        ------
        UpstreamError
            If a clip is not one-dimensional float, or holds NaN or infinity; if a survey is of another family
            or there is not one for each wave.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return the SHA-256 of weights and configuration: the same one means the same frames."""

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """Return a JSON-serialisable description that `load_from_config` reads back."""

    @abc.abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the upstream as a folder that `load` reads back to the identical upstream."""

    @abc.abstractmethod
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return what enters the network for one clip: ``extract`` is `core` after `front`.

        Runs without gradients.

        Parameters
        ----------
        wave
            A clip, or a chunk of one, ``(samples,)`` float at 16 kHz.
        survey
            If ``wave`` is a chunk: the survey of its whole clip.

        Returns
        -------
        Tensor
            ``(channels, inputs)`` float32, contiguous: the layout that convolutions read fastest. Without a
            `core`, these are the frames, ``(dim, frames)``.

        Raises
        ------
        UpstreamError
            If the clip is not one-dimensional float, holds NaN or infinity, or is longer than `one_pass_samples`.
        """

    @abc.abstractmethod
    def core(self) -> nn.Module | None:
        """Return the network after `front` for one clip alone, or None when there is none.

        Its ``forward`` maps ``(1, channels, inputs)`` to ``(layers, frames, dim)`` without masks, for any number
        of inputs, and can be traced by other engines. It shares the network's weights and mode (evaluation, when
        loaded).
        """

    def survey(self, blocks: Iterable[Wave]) -> Survey | None:  # noqa: ARG002
        """Look through a clip once for what each of its frames depends on, so that chunks can be encoded alone.

        Parameters
        ----------
        blocks
            The samples of the clip in order, in blocks of any sizes, each ``(samples,)`` float at 16 kHz.

        Returns
        -------
        Survey or None
            To be given with chunks of this clip; None, without looking, when frames depend on their
            surroundings alone.

        Raises
        ------
        UpstreamError
            If a block is not one-dimensional float, or holds NaN or infinity.
        """
        return None

    @property
    def context_s(self) -> float:
        """Seconds that a chunk must reach beyond each side of a frame's hop cell for the frame to be exact.

        What attention over the whole clip adds is not counted: it sees as much as it is given.
        """
        return (self.grid.window - self.grid.hop) / 2 / self.grid.sample_rate_hz

    @property
    def one_pass_samples(self) -> int | None:
        """The most samples that the network can see at once; None when there is no bound."""
        return None

    @property
    def module(self) -> nn.Module | None:
        """The network, or None when there is nothing to train."""
        return None

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The layers of the network from bottom to top, those that give layers 1 and up; empty without a network."""
        return ()

    @property
    def closing(self) -> Sequence[nn.Module]:
        """What of the network comes after blocks and before none, e.g. a final norm; all else lies below them.

        What no frame depends on, such as the last norm of pre-norm wav2vec 2.0, is not counted.
        """
        return ()

    @property
    def entry(self) -> nn.Module | None:
        """The module where frames on the grid enter the stack of `blocks`; None without a network.

        Its first positional argument is ``(batch, frames, channels)``; wav2vec 2.0 hides frames there in training.
        """
        return None

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the computation happens."""

    @abc.abstractmethod
    def to(self, device: str | torch.device) -> Upstream:
        """Move to a device, in place; returns itself."""

    def extract(
        self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """Return the frames of each clip, one clip at a time: the fastest way on few CPU cores.

        Runs in evaluation mode without gradients, whatever mode the network is in, and leaves that mode as it
        was. Several threads may call it at once.

        Parameters
        ----------
        waves
            Clips, each ``(samples,)`` float at 16 kHz, NumPy or torch; may be empty.
        surveys
            As for `encode`.

        Returns
        -------
        list of NDArray
            Each ``(layers, frames, dim)`` float32, equal to `encode` of any batch with that clip.

        Raises
        ------
        UpstreamError
            As for `encode`.
        """
        each = one_each(surveys, len(waves))
        with evaluation(self.module), torch.no_grad():
            return [
                self._extract_one(wave, survey, number)
                for number, (wave, survey) in enumerate(zip(waves, each, strict=True))
            ]

    def _extract_one(self, wave: Wave, survey: Survey | None, number: int) -> npt.NDArray[np.float32]:
        try:
            frames = self._frames_of(wave, survey)  # (layers, frames, dim)
        except UpstreamError as error:
            # What is done to one clip calls every clip "wave 0"; name the clip that the caller knows.
            raise UpstreamError(str(error).replace("wave 0", f"wave {number}", 1)) from None
        found: npt.NDArray[np.float32] = frames.float().cpu().numpy()
        return found

    def _frames_of(self, wave: Wave, survey: Survey | None) -> Tensor:
        """Return ``(layers, frames, dim)`` of one clip or chunk."""
        inputs, core = self.front(wave, survey)[None], self.core()  # (1, channels, inputs)
        if core is None:
            return inputs.transpose(1, 2)
        with full_precision(inputs.device):
            frames: Tensor = core(inputs)
        return frames

    def __repr__(self) -> str:
        """Name the family, the checkpoint and the shape of what comes out."""
        return f"{type(self).__name__}({self.name!r}, layers={self.num_layers}, dim={self.dim})"
