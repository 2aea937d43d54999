"""Prosody as an upstream: pitch, loudness and voice quality frame by frame, one layer, nothing learned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subtone.errors import UpstreamError
from subtone.files import write_whole
from subtone.upstreams import passes
from subtone.upstreams.base import Encoded, FrameGrid, Upstream, Wave
from subtone.upstreams.clips import as_clips, mask_of, stack
from subtone.upstreams.prosody import spectrum
from subtone.upstreams.prosody.measures import (
    EXPONENT,
    HOP,
    LOUD,
    UNVOICED,
    VOICED,
    WINDOW,
    Measures,
    measure,
)
from subtone.upstreams.prosody.summary import ProsodySurvey, summarise, weighted
from subtone.upstreams.surveys import Survey, of_kind, one_each

NAME = "prosody"
MODEL_TYPE = "subtone-prosody"
VERSION = 3
"""Counts up whenever the numbers change."""
_BLOCK = 2_048  # frames at once, so that hours need no more memory than minutes
_REACH = (WINDOW - HOP) // 2  # samples beyond each side of a hop cell
_SHORTEST = 160  # samples of a frame of its own, as Whisper's front end counts
_FLOOR = 1e-5  # of the level: 50 dB below it nothing is heard any more

DIMS: tuple[str, ...] = (
    "voicing",
    "voicing_change",
    "level",
    "loudness",
    "loudness_rise",
    "loudness_fall",
    "flux",
    "peak",
    *LOUD,
    *VOICED,
    *UNVOICED,
)
"""What each number of a frame is."""


class ProsodyUpstream(Upstream):
    """Pitch, loudness and voice quality on the frame grid of Whisper's encoders, one layer.

    Mean and standard deviation over frames are made to carry what functionals of hand-made feature sets do: what
    only voice has (pitch, harmonicity, …) departs from the clip's own voiced mean by as much as the frame is
    voiced and loud, so that its mean and standard deviation over all frames are those of the voiced ones; soft
    histograms carry percentiles, rises and falls their slopes. A recording's gain does not matter.

    Parameters
    ----------
    device
        Where to compute.

    Examples
    --------
    >>> upstream = ProsodyUpstream()
    >>> upstream.extract([torch.zeros(16_000)])[0].shape == (1, 50, len(DIMS))
    True
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.name = NAME
        self.grid = FrameGrid(hop=HOP, window=WINDOW, offset=-HOP // 2, shortest=_SHORTEST)
        self.dim = len(DIMS)
        self.num_layers = 1
        self.min_samples = 400
        self._device = torch.device(device)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], device: str | torch.device = "cpu") -> ProsodyUpstream:
        """Return the stream that a configuration describes.

        Raises
        ------
        UpstreamError
            If its numbers were another version's.
        """
        version = config.get("version")
        if version != VERSION:
            raise UpstreamError(
                f"prosody: made with version {version!r} of the measures, this Subtone has {VERSION}; make what "
                "builds on them anew, or install the Subtone that it was made with"
            )
        return cls(device)

    def survey(self, blocks: Iterable[Wave]) -> ProsodySurvey:
        """Find the clip's level and the means of its voice; see `Upstream.survey`."""
        return summarise(measured(passes.pieces(blocks)))

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        clips = as_clips(waves, self._device)
        known = one_each(surveys, len(clips))
        frames = [self.frames(clip, survey) for clip, survey in zip(clips, known, strict=True)]
        mask = mask_of([len(f) for f in frames], self._device)  # (batch, frames)
        return Encoded(stack(frames)[:, None], mask, tuple(len(clip) < self.min_samples for clip in clips))

    @torch.no_grad()
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the frames themselves, ``(dim, frames)``; see `Upstream.front`."""
        (clip,) = as_clips([wave], self._device)
        return self.frames(clip, survey).T.contiguous()

    def core(self) -> None:
        """Return None: there is no network."""
        return None

    def frames(self, clip: Tensor, survey: Survey | None = None) -> Tensor:
        """Return the frames ``(frames, dim)`` of a checked clip ``(samples,)``, or of a chunk of a surveyed one."""
        blocks = list(_in_blocks(torch.cat(list(_within_silence([clip])))))
        known = of_kind(survey, ProsodySurvey) or summarise(blocks)
        return torch.cat([_against(block, known) for block in blocks])

    def fingerprint(self) -> str:
        """Return the SHA-256 of name and version: there are no weights."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()

    def config(self) -> dict[str, Any]:
        """Return the kind and the version of the numbers."""
        return {"kind": NAME, "version": VERSION}

    def save(self, folder: str | Path) -> None:
        """Write a folder with ``config.json`` alone."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        document = {"model_type": MODEL_TYPE, "version": VERSION}
        write_whole(Path(folder) / "config.json", json.dumps(document, indent=2).encode())

    @property
    def device(self) -> torch.device:
        """Where the computation happens."""
        return self._device

    def to(self, device: str | torch.device) -> ProsodyUpstream:
        """Compute on another device from now on; returns itself."""
        self._device = torch.device(device)
        return self


def measured(parts: Iterable[Tensor]) -> Iterator[Measures]:
    """Yield the measures of a clip that comes in parts, in blocks; silence lies around it."""
    for stretch in passes.stretches(_within_silence(parts), WINDOW, HOP):
        yield from _in_blocks(stretch)


def _in_blocks(stretch: Tensor) -> Iterator[Measures]:
    for start in range(0, len(stretch) - WINDOW + 1, _BLOCK * HOP):
        yield measure(stretch[start : start + (_BLOCK - 1) * HOP + WINDOW])


def _within_silence(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield a clip with as much silence around it as makes its last window that of its last frame."""
    before, count = WINDOW // 2, 0
    device: torch.device | None = None
    for part in parts:
        if device is None:
            device = part.device
            yield torch.zeros(before, device=device)
        count += len(part)
        yield part
    if device is None:
        yield torch.zeros(before)
    num_frames = max(1, (count - _SHORTEST) // HOP + 1)
    # Fewer than a window's half, so that no window follows it.
    yield torch.zeros((num_frames - 1) * HOP + WINDOW - before - count, device=device)


def _against(measures: Measures, survey: ProsodySurvey) -> Tensor:
    """Return ``(frames, dim)``: measures against what the survey says of the clip."""
    unit = survey.level**EXPONENT
    level = spectrum.decibels(measures.energy / survey.level + _FLOOR)  # (frames,)
    change = measures.loudness_change / unit
    plain = torch.stack(
        [
            measures.voicing,
            measures.voicing_change,
            level,
            measures.loudness / unit,
            change.clamp(min=0),
            (-change).clamp(min=0),
            measures.flux / unit,
            measures.peak * measures.loudness / unit,
        ],
        dim=1,
    )
    columns = [plain]
    for (values, weights), kind in zip(weighted(measures), survey.kinds, strict=True):
        mean = kind.mean.to(values)
        columns.append(mean + (values - mean) * (weights / (unit * kind.spread))[:, None])
    return torch.cat(columns, dim=1)
