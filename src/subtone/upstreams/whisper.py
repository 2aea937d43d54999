"""The Whisper encoder on clips as long as they are, not padded to 30 s.

The log-mel front end and the encoder's arithmetic are the published ones; a clip of exactly 30 s gives the
published hidden states. Shorter clips use the first positions only, which is four to ten times faster for an
utterance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from subtone.errors import UpstreamError
from subtone.upstreams import passes
from subtone.upstreams.base import SAMPLE_RATE_HZ, Encoded, FrameGrid, Wave
from subtone.upstreams.checkpoint import Checkpoint
from subtone.upstreams.clips import as_clips, lengthen, mask_of, stack
from subtone.upstreams.huggingface import HuggingFaceUpstream
from subtone.upstreams.precision import full_precision
from subtone.upstreams.surveys import LevelSurvey, Survey, of_kind, one_each

_FFT = 400  # samples: 25 ms
_MEL_HOP = 160  # samples: 10 ms
_HOP = 2 * _MEL_HOP  # the second convolution halves the rate
_PIECES = 4  # of a long clip, encoded at once at least


class WhisperUpstream(HuggingFaceUpstream):
    """A Whisper encoder without its padding to 30 s; a decoder in the checkpoint is not loaded.

    A clip longer than the encoder's positions (30 s as published) is cut into the fewest pieces that fit, of
    equal length to within a frame, each encoded as a clip of its own; their frames are joined in order, so
    none is lost.
    """

    weights_prefix: ClassVar[str] = "encoder."

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config: Any = self._module.config
        # Frame t is centred on sample 320 t; counting begins with one mel frame. The receptive field is a mel
        # window, one mel hop to each side by the first convolution and one more by the second.
        self.grid = FrameGrid(
            hop=_HOP,
            window=_FFT + 4 * _MEL_HOP,
            offset=-_HOP // 2,
            sample_rate_hz=SAMPLE_RATE_HZ,
            shortest=_MEL_HOP,
        )
        self.dim = int(config.d_model)
        self.num_layers = int(config.encoder_layers) + 1
        self.min_samples = _FFT
        self._num_mel = int(config.num_mel_bins)
        self._positions = int(config.max_source_positions)
        self._core = WhisperCore(self._module)
        for key, expected in (("n_fft", _FFT), ("hop_length", _MEL_HOP), ("feature_size", self._num_mel)):
            given = (checkpoint.preprocessor or {}).get(key, expected)
            if given != expected:
                raise UpstreamError(
                    f"upstream {self.name!r}: preprocessor_config.json says {key}={given}; a Whisper encoder "
                    f"with {self._num_mel} mel bands needs {expected}"
                )

    def build(self, config: dict[str, Any]) -> nn.Module:
        """Build the encoder alone."""
        settings = WhisperConfig.from_dict(config)
        settings.encoder_layerdrop = 0.0  # a dropped layer would be missing from the stack of layers
        module: nn.Module = WhisperEncoder(settings)
        return module

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's layers; see `Upstream.blocks`."""
        return tuple(self._module.get_submodule("layers").children())

    @property
    def closing(self) -> Sequence[nn.Module]:
        """The norm of the last hidden state; see `Upstream.closing`."""
        return (self._module.get_submodule("layer_norm"),)

    @property
    def entry(self) -> nn.Module:
        """The first layer: what comes before is no module of its own; see `Upstream.entry`."""
        return self.blocks[0]

    def front_end(self) -> dict[str, Any]:
        """Return the mel bands; the rest is fixed."""
        return {"num_mel": self._num_mel}

    @property
    def one_pass_samples(self) -> int:
        """The most samples that give no more frames than the encoder has positions: a hop over 30 s."""
        return self._positions * _HOP + _MEL_HOP - 1

    def survey(self, blocks: Iterable[Wave]) -> LevelSurvey:
        """Find the clip's loudest band in base-10 logarithms, below which its spectrogram is floored.

        Whisper's own transcriber floors a long recording so, by its loudest moment, before it cuts windows of
        30 s out of the spectrogram. (Without a survey, a long clip is cut first: see the class.)
        """
        return LevelSurvey(max(self.loudest(passes.pieces(blocks, self.min_samples)), default=-math.inf))

    def loudest(self, parts: Iterable[Tensor]) -> Iterator[float]:
        """Yield the loudest band of each stretch of a clip of at least 400 samples that comes in parts."""
        for stretch in passes.stretches(_mirrored(parts), _FFT, _MEL_HOP):
            yield float(_log_power(stretch, self._num_mel).max())

    @torch.no_grad()
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the log-mel spectrogram ``(num_mel, mel frames)``; see `Upstream.front`."""
        (clip,) = as_clips([wave], self.device)
        if len(clip) > self.one_pass_samples:
            raise UpstreamError(
                f"a wave of {len(clip)} samples has more frames than the {self._positions} positions of "
                f"{self.name!r}; cut it into chunks of at most {self.one_pass_samples} samples"
            )
        with full_precision(self.device):
            return self._spectrogram(clip, of_kind(survey, LevelSurvey)).T.contiguous()

    def _spectrogram(self, clip: Tensor, survey: LevelSurvey | None) -> Tensor:
        loudest = None if survey is None else survey.level
        return log_mel(lengthen(clip, self.min_samples), self._num_mel, loudest)  # (mel frames, num_mel)

    def _frames_of(self, wave: Wave, survey: Survey | None) -> Tensor:
        (clip,) = as_clips([wave], self.device)
        found = [super(WhisperUpstream, self)._frames_of(piece, survey) for piece in self._pieces(clip)]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)  # (layers, frames, dim)

    def core(self) -> WhisperCore:
        """Return the encoder after `front`; see `Upstream.core`."""
        return self._core

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        clips = as_clips(waves, self.device)
        known = [of_kind(survey, LevelSurvey) for survey in one_each(surveys, len(clips))]
        too_short = tuple(len(clip) < self.min_samples for clip in clips)
        pieces = [self._pieces(clip) for clip in clips]
        flat = [
            self._spectrogram(piece, survey)
            for clip, survey in zip(pieces, known, strict=True)
            for piece in clip
        ]
        size = max(len(clips), _PIECES)  # a clip of hours must not become one huge batch
        with full_precision(self.device):
            batches = [self._encode_pieces(flat[i : i + size]) for i in range(0, len(flat), size)]
        encoded = [piece for batch in batches for piece in batch]  # each (frames, layers, dim)
        joined, start = [], 0
        for clip in pieces:
            joined.append(torch.cat(encoded[start : start + len(clip)]))  # (frames, layers, dim)
            start += len(clip)
        frames = stack(joined).transpose(1, 2)  # (batch, layers, frames, dim)
        return Encoded(frames, mask_of([len(f) for f in joined], frames.device), too_short)

    def _pieces(self, clip: Tensor) -> list[Tensor]:
        """Cut a clip into the fewest pieces that the encoder's positions can hold; most clips stay whole."""
        num_frames = self.grid.num_frames(len(clip))
        num_pieces = -(-num_frames // self._positions)
        cuts = [_HOP * (num_frames * i // num_pieces) for i in range(num_pieces)] + [len(clip)]
        return [lengthen(clip[start:end], self.min_samples) for start, end in pairwise(cuts)]

    def _encode_pieces(self, spectrograms: list[Tensor]) -> list[Tensor]:
        """Return ``(frames, layers, dim)`` of each piece, given its ``(mel frames, num_mel)``."""
        encoder: Any = self._module
        mels = [mel.to(self.dtype) for mel in spectrograms]
        num_mel_frames = [len(mel) for mel in mels]
        num_frames = [(n + 1) // 2 for n in num_mel_frames]
        mask = mask_of(num_frames, self.device)  # (batch, frames)
        padded = ~mask_of(num_mel_frames, self.device)[:, None, :]  # (batch, 1, mel frames)

        x = stack(mels).transpose(
            1, 2
        )  # (batch, num_mel, mel frames), zero beyond each clip as conv1 pads it
        x = functional.gelu(encoder.conv1(x)).masked_fill(padded, 0.0)  # (batch, dim, mel frames)
        x = functional.gelu(encoder.conv2(x)).transpose(1, 2)  # (batch, frames, dim)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        x = functional.dropout(x, p=encoder.dropout, training=encoder.training)

        attention = None
        if len(set(num_frames)) > 1:
            blocked = torch.zeros(mask.shape, dtype=x.dtype, device=x.device)
            blocked = blocked.masked_fill(~mask, torch.finfo(x.dtype).min)  # (batch, frames)
            attention = blocked[:, None, None, :].expand(-1, 1, x.shape[1], -1)  # (batch, 1, frames, frames)
        layers = [x]
        for layer in encoder.layers:
            x = layer(x, attention)
            layers.append(x)
        layers[-1] = encoder.layer_norm(x)  # as published: the last hidden state is the normed one
        stacked = torch.stack(layers, dim=2)  # (batch, frames, layers, dim)
        return [rows[:n] for rows, n in zip(stacked, num_frames, strict=True)]


class WhisperCore(nn.Module):
    """Map a log-mel spectrogram ``(1, num_mel, mel frames)`` to ``(layers, frames, dim)``, for one clip.

    Shares the parts of the encoder. Positions are cut to the clip where it runs, so that a traced copy takes
    clips of any length that the positions hold.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.conv1: nn.Module = encoder.conv1
        self.conv2: nn.Module = encoder.conv2
        self.positions: nn.Embedding = encoder.embed_positions
        self.layers: nn.ModuleList = encoder.layers
        self.layer_norm: nn.Module = encoder.layer_norm
        self.training = encoder.training

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class; the layers are in the precision of the weights."""
        x = inputs.to(self.positions.weight.dtype)  # (1, num_mel, mel frames)
        x = functional.gelu(self.conv1(x))  # (1, dim, mel frames)
        x = functional.gelu(self.conv2(x)).transpose(1, 2)  # (1, frames, dim)
        x = x + self.positions.weight[: x.shape[1]]
        layers = [x]
        for layer in self.layers:
            x = layer(x, None)
            layers.append(x)
        layers[-1] = self.layer_norm(x)  # as published: the last hidden state is the normed one
        return torch.cat(layers)  # (layers, frames, dim)


def log_mel(wave: Tensor, num_mel: int, loudest: float | None = None) -> Tensor:
    """Return Whisper's log-mel spectrogram of a clip as long as it is.

    Power of a 400-point Hann spectrum every 160 samples, the clip mirrored at its ends; Slaney mel bands;
    base-10 logarithm, floored eight orders below the clip's own maximum; ``(x + 4) / 4``.

    Parameters
    ----------
    wave
        ``(samples,)`` float, 16 kHz, at least 400 samples.
    num_mel
        Mel bands: 80, or 128 since large-v3.
    loudest
        The maximum to floor below, of the clip that ``wave`` is a chunk of; None for that of ``wave``.

    Returns
    -------
    Tensor
        ``(samples // 160, num_mel)`` float32.
    """
    mirrored = functional.pad(wave[None], (_FFT // 2, _FFT // 2), mode="reflect")[0]
    mel = _log_power(mirrored, num_mel)[:, :-1]  # (num_mel, mel frames)
    mel = torch.maximum(mel, mel.max() - 8.0) if loudest is None else mel.clamp(min=loudest - 8.0)
    return ((mel + 4.0) / 4.0).T.contiguous()  # (mel frames, num_mel)


def _log_power(samples: Tensor, num_mel: int) -> Tensor:
    """Return base-10 logarithms ``(num_mel, mel frames)`` of the windows that lie wholly in ``samples``."""
    window = torch.hann_window(_FFT, device=samples.device)
    spectrum = torch.stft(
        samples, _FFT, _MEL_HOP, window=window, center=False, return_complex=True
    )  # (bins, mel frames)
    power = spectrum.real.square() + spectrum.imag.square()
    return (_mel_filters(num_mel).to(samples.device) @ power).clamp(min=1e-10).log10()


def _mirrored(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield a clip of at least 400 samples with its start mirrored, as far as its last window but one reaches.

    The last window is not part of a spectrogram; the one before sees fewer samples than a mirror of 40.
    """
    head: Tensor | None = torch.zeros(0)
    tail = torch.zeros(0)
    for part in parts:
        tail = torch.cat([tail, part])[-_FFT // 2 :]
        if head is not None:
            head = torch.cat([head, part])
            if len(head) <= _FFT // 2:
                continue
            part, head = torch.cat([head[1 : _FFT // 2 + 1].flip(0), head]), None
        yield part
    yield tail[-1 - (_FFT // 2 - _MEL_HOP) : -1].flip(0)


@lru_cache(maxsize=4)
def _mel_filters(num_mel: int) -> Tensor:
    filters = mel_filter_bank(
        num_frequency_bins=1 + _FFT // 2,
        num_mel_filters=num_mel,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float().T.contiguous()  # (num_mel, bins)
