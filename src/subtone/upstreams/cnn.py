"""Encoders on convolutions over the wave: wav2vec 2.0, XLS-R, HuBERT, WavLM, data2vec, UniSpeech(-SAT).

The networks are the published ones. Three things are put right so that a batch cannot change a clip: the
group norm of the first convolution takes its statistics over valid frames (`group_norm`), every convolution
over frames sees zeros beyond a clip's end, and the attention mask is always given, whatever the model card
says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from subtone.errors import UpstreamError
from subtone.upstreams import passes, valid
from subtone.upstreams.base import Encoded, FrameGrid, Wave
from subtone.upstreams.checkpoint import Checkpoint
from subtone.upstreams.clips import as_clips, lengthen, mask_of, stack, zero_mean_unit_variance
from subtone.upstreams.cores import CnnCore, tap_layers
from subtone.upstreams.group_norm import ClipwiseFirstConv
from subtone.upstreams.huggingface import HuggingFaceUpstream
from subtone.upstreams.passes import MomentsSum
from subtone.upstreams.positions import forget_positions
from subtone.upstreams.precision import full_precision
from subtone.upstreams.surveys import Moments, Survey, WaveSurvey, of_kind, one_each
from subtone.upstreams.wavlm import fuse_attention

_CLASSES = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wavlm": ("WavLMConfig", "WavLMModel"),
    "data2vec-audio": ("Data2VecAudioConfig", "Data2VecAudioModel"),
    "unispeech": ("UniSpeechConfig", "UniSpeechModel"),
    "unispeech-sat": ("UniSpeechSatConfig", "UniSpeechSatModel"),
    "wav2vec2-conformer": ("Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel"),
}


class CnnUpstream(HuggingFaceUpstream):
    """An encoder whose first stage is an unpadded stack of convolutions over the wave.

    Each clip is scaled to zero mean and unit variance over its own samples if the checkpoint's preprocessor
    configuration says so (``do_normalize``). Without one, ``layer``-norm models are scaled and ``group``-norm
    models are not, as they were pre-trained; a group norm undoes the scale anyway.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config: Any = self._module.config
        kernels, strides = list(config.conv_kernel), list(config.conv_stride)
        if not kernels or len(kernels) != len(strides) or min([*kernels, *strides]) < 1:
            raise UpstreamError(
                f"{self.name}: config.json: conv_kernel {kernels} and conv_stride {strides} must be equally many "
                "numbers of at least 1; get the checkpoint from its author again"
            )
        hop = math.prod(strides)
        window = 1
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            window = (window - 1) * stride + kernel
        self.grid = FrameGrid(hop=hop, window=window, offset=(window - hop) // 2)
        self.dim = int(config.hidden_size)
        self.num_layers = int(config.num_hidden_layers) + 1
        self.min_samples = window
        first = self._module.get_submodule("feature_extractor.conv_layers")[0]  # type: ignore[index]
        self._first: ClipwiseFirstConv | None = first if isinstance(first, ClipwiseFirstConv) else None
        self._core = CnnCore(self._module, first=0 if self._first is None else 1)
        # Frames to each side that the convolutions of relative positions see; a conformer's go unused.
        positional = (
            part.kernel_size[0] // 2
            for part in self._module.get_submodule("encoder.pos_conv_embed").modules()
            if isinstance(part, nn.Conv1d)
        )
        self._reach = 0 if checkpoint.model_type == "wav2vec2-conformer" else sum(positional)
        layer_norm = getattr(config, "feat_extract_norm", "layer") == "layer"
        self.normalize = bool((checkpoint.preprocessor or {}).get("do_normalize", layer_norm))

    def build(self, config: dict[str, Any]) -> nn.Module:
        """Build the published network and put its padding right."""
        config_class, model_class = (
            getattr(transformers, name) for name in _CLASSES[str(config["model_type"])]
        )
        settings = config_class.from_dict(config)
        settings.layerdrop = 0.0  # a dropped layer would be missing from the stack of layers
        settings.apply_spec_augment = False
        settings.add_adapter = False  # sits after the last layer and is none of them
        settings.return_dict = True
        module: nn.Module = model_class(settings)
        convolutions: Any = module.get_submodule("feature_extractor.conv_layers")
        if isinstance(
            convolutions[0].layer_norm if hasattr(convolutions[0], "layer_norm") else None, nn.GroupNorm
        ):
            convolutions[0] = ClipwiseFirstConv(convolutions[0])
        encoder = module.get_submodule("encoder")
        tap_layers(encoder)
        forget_positions(encoder)
        for part in encoder.modules():
            if isinstance(part, nn.Conv1d) and part.kernel_size[0] > 1:
                valid.zero_padding_before(part)
        if config["model_type"] == "wav2vec2-conformer":
            # Its layers hold such convolutions, and recomputing a layer would forget where the clips end.
            module.supports_gradient_checkpointing = False  # type: ignore[assignment]
        if config["model_type"] == "wavlm":
            fuse_attention(encoder)
        return module

    def front_end(self) -> dict[str, Any]:
        """Return whether clips are normalised."""
        return {"normalize": self.normalize}

    @property
    def context_s(self) -> float:
        """Half the convolutions' receptive field, and the reach of the positional ones; see `Upstream`."""
        return super().context_s + self._reach * self.grid.hop / self.grid.sample_rate_hz

    def survey(self, blocks: Iterable[Wave]) -> WaveSurvey | None:
        """Collect the moments of the samples and of the first convolution's patches; see `Upstream.survey`."""
        if self._first is None and not self.normalize:
            return None
        samples = MomentsSum(1)

        def to_the_end() -> Iterator[Tensor]:
            for piece in passes.pieces(blocks):
                samples.add(piece[:, None])
                yield piece
            # As in `encode`, where a short clip is padded after it was normalised: zero is then its mean.
            silence = float(samples.mean) if self.normalize else 0.0
            yield torch.full((max(0, self.min_samples - samples.count),), silence)

        patches = self._patches_of(to_the_end())
        return WaveSurvey(float(samples.mean), float(samples.covariance()), patches)

    def _patches_of(self, parts: Iterable[Tensor]) -> Moments | None:
        """Return the moments of what a group-norm encoder's first convolution sees; None for other encoders."""
        if self._first is None:
            for _ in parts:
                pass
            return None
        kernel, stride = self._first.conv.kernel_size[0], self._first.conv.stride[0]
        found = MomentsSum(kernel)
        for stretch in passes.stretches(parts, kernel, stride):
            found.add(stretch.unfold(0, kernel, stride))
        return found.moments()

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        clips = as_clips(waves, self.device)
        known = [of_kind(survey, WaveSurvey) for survey in one_each(surveys, len(clips))]
        too_short = tuple(len(clip) < self.min_samples for clip in clips)
        prepared = [self._prepared(clip, survey) for clip, survey in zip(clips, known, strict=True)]
        clips, patches = [samples for samples, _ in prepared], [moments for _, moments in prepared]
        num_samples = [len(clip) for clip in clips]
        num_frames = [self.grid.num_frames(n) for n in num_samples]
        wave = stack(clips).to(self.dtype)  # (batch, samples)
        for part in self._module.modules():
            if isinstance(part, nn.BatchNorm1d) and part.training:
                part.eval()  # its batch statistics would mix the clips, padding included
        with (
            valid.batch(num_samples, num_frames, patches),
            full_precision(wave.device),
            self._input_gradient(wave),
        ):
            output = self._module(
                wave,
                attention_mask=mask_of(num_samples, wave.device).long(),
                output_hidden_states=True,
            )
        frames = torch.stack(output.hidden_states, dim=1)  # (batch, layers, frames, dim)
        mask = mask_of(num_frames, wave.device)  # (batch, frames)
        return Encoded(frames.masked_fill(~mask[:, None, :, None], 0.0), mask, too_short)

    def _prepared(self, clip: Tensor, survey: WaveSurvey | None) -> tuple[Tensor, Moments | None]:
        """Return a clip normalised and long enough, and the moments of its patches if its survey has them."""
        patches = None if survey is None else survey.patches
        if self.normalize and survey is None:
            clip = zero_mean_unit_variance(clip)
        elif self.normalize and survey is not None:
            scale = (survey.variance + 1e-7) ** -0.5
            clip = (clip - survey.mean) * scale
            patches = None if patches is None else patches.scaled(survey.mean, scale)
        return lengthen(clip, self.min_samples), patches

    @torch.no_grad()
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the normalised samples, or the first layer of a group-norm encoder; see `Upstream.front`.

        Samples after the last frame's are left out, so that clips of equally many frames are of one shape.
        """
        (clip,) = as_clips([wave], self.device)
        samples, patches = self._prepared(clip, of_kind(survey, WaveSurvey))
        if self._first is not None and patches is None:
            patches = self._patches_of([samples.cpu()])
        samples = samples[: self.grid.hop * (self.grid.num_frames(len(samples)) - 1) + self.grid.window]
        if self._first is None or patches is None:
            return samples[None]  # (1, samples)
        return self._first.of_clip(samples, patches)  # (channels, inputs)

    def core(self) -> CnnCore:
        """Return the network after `front`; see `Upstream.core`."""
        return self._core

    @contextmanager
    def _input_gradient(self, wave: Tensor) -> Iterator[None]:
        """Let waves carry gradients of their own (adversarial noise, saliency), also in training mode.

        There the published feature extractor asks its input for gradients, which torch refuses for a tensor
        that was computed from others and has them already.
        """
        extractor: Any = self._module.get_submodule("feature_extractor")
        if not (extractor.training and extractor._requires_grad and wave.requires_grad):
            yield
            return
        extractor._requires_grad = False
        try:
            yield
        finally:
            extractor._requires_grad = True
