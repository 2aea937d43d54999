"""A small speech encoder with prosody beside it: the upstream of the models that ship with Subtone.

Encoders that are trained on what is said lose much of how it is said; every layer is followed by the stream of
`prosody`, so that whatever mix of layers a classifier learns, prosody comes through whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from subtone.errors import UpstreamError, nearest
from subtone.files import appears_whole, write_whole
from subtone.upstreams import passes, prosody, shipping
from subtone.upstreams.base import Encoded, FrameGrid, Upstream, Wave
from subtone.upstreams.checkpoint import Checkpoint
from subtone.upstreams.clips import as_clips
from subtone.upstreams.prosody import ProsodySurvey, ProsodyUpstream, Standardisation
from subtone.upstreams.prosody.measures import Measures
from subtone.upstreams.surveys import LevelSurvey, Survey, of_kind, one_each
from subtone.upstreams.whisper import WhisperCore, WhisperUpstream

MODEL_TYPE = "subtone-mini"
ALONE = ":speech"
"""What follows the name to have the encoder without the prosody beside it."""
_ENCODER = (
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "num_mel_bins",
    "max_source_positions",
    "activation_function",
    "dropout",
    "attention_dropout",
    "activation_dropout",
)


@dataclass(frozen=True, eq=False)
class MiniSurvey(Survey):
    """What both streams ask of a clip; ``prosody`` is None where there is no such stream."""

    speech: LevelSurvey
    prosody: ProsodySurvey | None


class MiniUpstream(Upstream):
    """A Whisper-shaped encoder; behind each of its layers, along the width of a frame, the prosody stream.

    Parameters
    ----------
    checkpoint
        A folder as `write_mini` writes it, opened.

    Raises
    ------
    UpstreamError
        If configuration or weights do not make one.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        encoder = config.get("encoder")
        if not isinstance(encoder, Mapping):
            raise UpstreamError(
                f"upstream {checkpoint.name!r}: config.json has no encoder; get the folder from its author again"
            )
        for key in encoder:
            if key not in _ENCODER:
                raise UpstreamError(
                    f"upstream {checkpoint.name!r}: config.json: encoder: unknown setting {key!r}; "
                    + nearest(str(key), _ENCODER)
                )
        beside = None if checkpoint.name.endswith(ALONE) else config.get("prosody")
        self._described: dict[str, Any] | None = None if beside is None else dict(beside)
        self._standardised = Standardisation() if beside is None else Standardisation.from_dict(beside)
        self._checkpoint = checkpoint
        self._speech = WhisperUpstream(replace(checkpoint, config={**encoder, "model_type": "whisper"}))
        self._prosody = None if beside is None else ProsodyUpstream()
        self.name = checkpoint.name
        self.taught_on = tuple(str(name) for name in config.get("taught_on", ()))
        self.grid: FrameGrid = self._speech.grid
        self.dim = self._speech.dim + (0 if self._prosody is None else self._prosody.dim)
        self.num_layers = self._speech.num_layers
        self.min_samples = self._speech.min_samples
        self._core = MiniCore(self._speech.core(), 0 if self._prosody is None else self._prosody.dim)

    @property
    def context_s(self) -> float:
        """What the prosody stream sees of a clip, more than the encoder's convolutions; see `Upstream`."""
        return max(stream.context_s for stream in (self._speech, self._prosody) if stream is not None)

    @property
    def one_pass_samples(self) -> int:
        """The most samples that the encoder's positions hold; see `Upstream`."""
        return self._speech.one_pass_samples

    def survey(self, blocks: Iterable[Wave]) -> MiniSurvey:
        """Look for what both streams ask of the clip, in one pass; see `Upstream.survey`."""
        parts = passes.pieces(blocks, self.min_samples)
        if self._prosody is None:
            return MiniSurvey(LevelSurvey(max(self._speech.loudest(parts))), None)
        # Side by side, so that the samples between the two are few.
        one, other = tee(parts)
        loudest, levels = self._speech.loudest(one), [-math.inf]

        def beside() -> Iterator[Measures]:
            for measures in prosody.measured(other):
                levels.append(next(loudest, -math.inf))
                yield measures

        found = prosody.summarise(beside())
        return MiniSurvey(LevelSurvey(max([*levels, *loudest])), found)

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        clips = as_clips(waves, self.device)
        known = [of_kind(survey, MiniSurvey) for survey in one_each(surveys, len(clips))]
        encoded = self._speech.encode(clips, [None if s is None else s.speech for s in known])
        if self._prosody is None:
            return encoded
        beside = self._prosody.encode(clips, [None if s is None else s.prosody for s in known])
        frames = self._standardised(beside.frames).masked_fill(~beside.mask[:, None, :, None], 0.0)
        frames = frames.to(encoded.frames).expand(-1, self.num_layers, -1, -1)  # (batch, layers, frames, P)
        return replace(encoded, frames=torch.cat([encoded.frames, frames], dim=-1))

    @torch.no_grad()
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the log-mel spectrogram and, each frame twice, the prosody below it; see `Upstream.front`.

        ``(num_mel + P, mel frames)``, P the width of the prosody stream.
        """
        known = of_kind(survey, MiniSurvey)
        mel = self._speech.front(wave, None if known is None else known.speech)  # (num_mel, mel frames)
        if self._prosody is None:
            return mel
        frames = self._prosody.front(wave, None if known is None else known.prosody)  # (P, frames)
        twice = self._standardised(frames.T).T.repeat_interleave(2, dim=1)[:, : mel.shape[1]]
        return torch.cat([mel, twice])

    def core(self) -> MiniCore:
        """Return the encoder, which lets prosody pass, after `front`; see `Upstream.core`."""
        return self._core

    def _frames_of(self, wave: Wave, survey: Survey | None) -> Tensor:
        if len(wave) <= self.one_pass_samples:
            return super()._frames_of(wave, survey)
        return self.encode([wave], [survey]).frames[0]

    @property
    def module(self) -> nn.Module:
        """The encoder; the prosody stream has nothing to train."""
        return self._speech.module

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's layers; see `Upstream.blocks`."""
        return self._speech.blocks

    @property
    def closing(self) -> Sequence[nn.Module]:
        """The encoder's last norm; see `Upstream.closing`."""
        return self._speech.closing

    @property
    def entry(self) -> nn.Module:
        """The encoder's first layer, which prosody does not pass; see `Upstream.entry`."""
        return self._speech.entry

    def fingerprint(self) -> str:
        """Return the SHA-256 of the encoder, of the prosody stream's version and of how it is standardised."""
        content = {"speech": self._speech.fingerprint(), "prosody": self._described}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def config(self) -> dict[str, Any]:
        """Return kind and source: ``"shipped"`` for one that is part of Subtone."""
        kind = "shipped" if self._checkpoint.folder.parent == shipping.ROOT else "mini"
        return {"kind": kind, "model_type": MODEL_TYPE, "source": self.name}

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, in half precision what half precision holds exactly."""
        _write(
            Path(folder),
            dict(self._checkpoint.config["encoder"]),
            self.module,
            self._described,
            self.taught_on,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._speech.device

    def to(self, device: str | torch.device) -> MiniUpstream:
        """Move to a device, in place; returns itself."""
        self._speech.to(device)
        if self._prosody is not None:
            self._prosody.to(device)
        return self


class MiniCore(nn.Module):
    """Map spectrogram and prosody ``(1, num_mel + P, mel frames)`` to ``(layers, frames, dim + P)``, for one clip.

    Shares the parts of the encoder; the prosody passes, behind every layer.
    """

    def __init__(self, speech: WhisperCore, width: int) -> None:
        super().__init__()
        self.speech = speech
        self.width = width
        self.training = speech.training

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        if self.width == 0:
            alone: Tensor = self.speech(inputs)
            return alone
        layers: Tensor = self.speech(inputs[:, : -self.width])  # (layers, frames, dim)
        beside = inputs[:, -self.width :, ::2].transpose(1, 2)  # (1, frames, P)
        beside = beside.to(layers.dtype).expand(layers.shape[0], -1, -1)  # (layers, frames, P)
        return torch.cat([layers, beside], dim=2)


def write_mini(
    folder: str | Path,
    encoder: WhisperEncoder,
    standardisation: Standardisation | None,
    taught_on: Sequence[str] = (),
) -> Path:
    """Write an encoder as a folder that `load` opens, its weights rounded to half precision.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    encoder
        Any size; computed in float32 when loaded.
    standardisation
        Of the prosody stream; ``Standardisation()`` keeps its numbers, None leaves the stream out.
    taught_on
        Corpora that the encoder was trained on with their emotions.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UpstreamError
        If a weight is not finite in half precision.
    """
    settings: WhisperConfig = encoder.config
    rounded = {name: value.detach().float().half() for name, value in encoder.state_dict().items()}
    for name, value in rounded.items():
        if not bool(value.isfinite().all()):
            raise UpstreamError(f"subtone-mini: {name} is not finite in half precision; train it anew")
    sizes = {key: getattr(settings, key) for key in _ENCODER}
    beside = None if standardisation is None else standardisation.to_dict()
    return _write(Path(folder), sizes, rounded, beside, taught_on)


def _write(
    folder: Path,
    encoder: dict[str, Any],
    weights: nn.Module | Mapping[str, Tensor],
    beside: Any,
    taught_on: Sequence[str],
) -> Path:
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    folder.mkdir(parents=True, exist_ok=True)
    with appears_whole(folder / "model.safetensors") as partial:
        save_file(
            {f"encoder.{key}": _halved(value) for key, value in state.items()}, partial, {"format": "pt"}
        )
    document = {"model_type": MODEL_TYPE, "encoder": encoder, "prosody": beside, "taught_on": list(taught_on)}
    # Last, because a folder without it is no upstream.
    write_whole(folder / "config.json", json.dumps(document, indent=2).encode())
    return folder


def _halved(value: Tensor) -> Tensor:
    """Return a tensor in half precision if that loses nothing, else as it is."""
    value = value.detach().cpu().contiguous()
    half = value.half()
    return half if torch.equal(half.to(value.dtype), value) else value
