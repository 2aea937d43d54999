"""Filter banks as an upstream: the classic features, one layer, nothing learned."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from subtone.errors import UpstreamError
from subtone.files import write_whole
from subtone.upstreams import kaldi, passes
from subtone.upstreams.base import Encoded, FrameGrid, Upstream, Wave
from subtone.upstreams.clips import as_clips, lengthen, mask_of, stack
from subtone.upstreams.passes import MomentsSum
from subtone.upstreams.surveys import BandSurvey, LevelSurvey, Survey, of_kind, one_each

Cmvn = Literal["none", "level", "utterance"]
_SUFFIXES: dict[str, str] = {"none": "", "level": "+level", "utterance": "+cmvn"}
MODEL_TYPE = "subtone-fbank"
_EXTRAS = {"delta", "deltas", "level", "cmvn"}
_EITHER = ({"delta", "deltas"}, {"level", "cmvn"})
_NAME = re.compile(r"fbank(:(?P<num_mel>\d+))?(?P<extras>(\+[a-z]+)*)")


@dataclass(frozen=True)
class FilterBankOptions:
    """What a frame of filter banks holds.

    Attributes
    ----------
    num_mel
        Mel bands, 1 to 128; 80 is the usual number for speech.
    deltas
        Highest time derivative appended to a frame, 0 to 2.
    cmvn
        ``"none"`` keeps the level, which carries emotion where all recordings are made alike, and is the
        default. ``"level"`` subtracts one number a clip, the logarithm of its frames' mean energy, each frame
        weighed by its energy (``log Σ e² − log Σ e``), so that neither the recording's gain nor silence around it
        matters. ``"utterance"`` scales each band to mean 0 and variance 1 over the clip.
    """

    num_mel: int = 80
    deltas: int = 0
    cmvn: Cmvn = "none"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if (
            isinstance(self.num_mel, bool)
            or not isinstance(self.num_mel, int)
            or not 1 <= self.num_mel <= 128
        ):
            raise UpstreamError(f"fbank: num_mel must be a whole number from 1 to 128, got {self.num_mel!r}")
        if isinstance(self.deltas, bool) or self.deltas not in (0, 1, 2):
            raise UpstreamError(f"fbank: deltas must be 0, 1 or 2, got {self.deltas!r}")
        if self.cmvn not in get_args(Cmvn):
            raise UpstreamError(f"fbank: cmvn must be one of {', '.join(get_args(Cmvn))}, got {self.cmvn!r}")

    @property
    def name(self) -> str:
        """The name that `parse_name` reads back, e.g. ``"fbank:40+deltas"``."""
        deltas = ("", "+delta", "+deltas")[self.deltas]
        return f"fbank:{self.num_mel}{deltas}{_SUFFIXES[self.cmvn]}"


def parse_name(name: str) -> FilterBankOptions | None:
    """Read ``"fbank"``, ``"fbank:40"``, ``"fbank:40+delta+cmvn"``; None for any other name.

    ``+delta`` appends the first derivative, ``+deltas`` the first and second, ``+level`` takes the
    level of each clip away, ``+cmvn`` normalises each of its bands.

    Raises
    ------
    UpstreamError
        If the name begins so but goes on otherwise.

    Examples
    --------
    >>> parse_name("fbank:40+deltas")
    FilterBankOptions(num_mel=40, deltas=2, cmvn='none')
    >>> parse_name("facebook/hubert-base-ls960") is None
    True
    """
    if not re.match(r"fbank($|[:+])", name):
        return None
    match = _NAME.fullmatch(name)
    extras = set(match["extras"].split("+")[1:]) if match else {"?"}
    if match is None or extras - _EXTRAS or any(pair <= extras for pair in _EITHER):
        raise UpstreamError(
            f"upstream {name!r}: filter banks are named fbank[:BANDS][+delta|+deltas][+level|+cmvn], "
            "e.g. fbank:40+deltas"
        )
    return FilterBankOptions(
        num_mel=int(match["num_mel"] or 80),
        deltas=2 if "deltas" in extras else int("delta" in extras),
        cmvn="utterance" if "cmvn" in extras else "level" if "level" in extras else "none",
    )


class FilterBank(Upstream):
    """Kaldi-style log-mel filter banks, one layer; see `kaldi.filter_bank` for the recipe.

    Parameters
    ----------
    options
        Bands, deltas, normalisation.
    device
        Where to compute.

    Examples
    --------
    >>> FilterBank().extract([torch.zeros(16_000)])[0].shape
    (1, 98, 80)
    """

    def __init__(self, options: FilterBankOptions | None = None, device: str | torch.device = "cpu") -> None:
        self.options = options or FilterBankOptions()
        self.name = self.options.name
        self.grid = FrameGrid(hop=kaldi.HOP, window=kaldi.WINDOW, offset=(kaldi.WINDOW - kaldi.HOP) // 2)
        self.dim = self.options.num_mel * (self.options.deltas + 1)
        self.num_layers = 1
        self.min_samples = kaldi.WINDOW
        self._device = torch.device(device)

    @property
    def context_s(self) -> float:
        """Half a window, and the frames that the deltas see; see `Upstream`."""
        return super().context_s + kaldi.reach(self.options.deltas) * kaldi.HOP / self.grid.sample_rate_hz

    def survey(self, blocks: Iterable[Wave]) -> LevelSurvey | BandSurvey | None:
        """Collect what ``+level`` or ``+cmvn`` take off; see `Upstream.survey`."""
        if self.options.cmvn == "none":
            return None
        parts = passes.stretches(passes.pieces(blocks, self.min_samples), kaldi.WINDOW, kaldi.HOP)
        banks = (kaldi.filter_bank(part, self.options.num_mel) for part in parts)  # each (frames, num_mel)
        if self.options.cmvn == "level":
            return LevelSurvey(float(_level(frames.double() for frames in banks)))
        features = MomentsSum(self.dim)
        for frames in kaldi.deltas_in_blocks(banks, self.options.deltas):
            features.add(frames)
        return BandSurvey(features.mean.numpy(), features.covariance().diagonal().numpy())

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        clips = as_clips(waves, self._device)
        known = one_each(surveys, len(clips))
        features = [self._features(clip, survey) for clip, survey in zip(clips, known, strict=True)]
        frames = stack(features)[:, None]  # (batch, 1, frames, dim)
        mask = mask_of([len(f) for f in features], self._device)  # (batch, frames)
        return Encoded(frames, mask, tuple(len(clip) < self.min_samples for clip in clips))

    @torch.no_grad()
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the frames themselves, ``(dim, frames)``; see `Upstream.front`."""
        (clip,) = as_clips([wave], self._device)
        return self._features(clip, survey).T.contiguous()

    def core(self) -> None:
        """Return None: there is no network."""
        return None

    def _features(self, clip: Tensor, survey: Survey | None) -> Tensor:
        features = kaldi.filter_bank(
            lengthen(clip, self.min_samples), self.options.num_mel
        )  # (frames, num_mel)
        if self.options.cmvn == "level":
            level = of_kind(survey, LevelSurvey)
            features = features - (_level([features]) if level is None else level.level)
        features = kaldi.add_deltas(features, self.options.deltas)  # (frames, dim)
        if self.options.cmvn == "utterance":
            bands = of_kind(survey, BandSurvey)
            if bands is None:
                variance, mean = torch.var_mean(features, dim=0, correction=0)
            else:
                mean, variance = (
                    torch.tensor(values).to(features) for values in (bands.mean, bands.variance)
                )
            features = (features - mean) * torch.rsqrt(variance + 1e-7)
        return features

    def fingerprint(self) -> str:
        """Return the SHA-256 of the options: there are no weights."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()

    def config(self) -> dict[str, Any]:
        """Return the kind and the options."""
        return {"kind": "fbank", **asdict(self.options)}

    def save(self, folder: str | Path) -> None:
        """Write a folder with ``config.json`` alone."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        document = {"model_type": MODEL_TYPE, **asdict(self.options)}
        write_whole(Path(folder) / "config.json", json.dumps(document, indent=2).encode())

    @property
    def device(self) -> torch.device:
        """Where the computation happens."""
        return self._device

    def to(self, device: str | torch.device) -> FilterBank:
        """Compute on another device from now on; returns itself."""
        self._device = torch.device(device)
        return self


def _level(banks: Iterable[Tensor]) -> Tensor:
    """Return the logarithm of the mean energy of a clip's frames, each weighed by its energy.

    So weighed, silence before, after or between weighs nothing.
    """
    squares, energies = [], []
    for frames in banks:  # (frames, num_mel)
        energy = frames.logsumexp(1) - math.log(frames.shape[1])  # (frames,), logarithms
        squares.append((2 * energy).logsumexp(0))
        energies.append(energy.logsumexp(0))
    return torch.stack(squares).logsumexp(0) - torch.stack(energies).logsumexp(0)
