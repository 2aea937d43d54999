"""w2v-BERT 2.0: a conformer on Kaldi filter banks, two frames stacked into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from subtone.errors import UpstreamError
from subtone.upstreams import kaldi, passes
from subtone.upstreams.base import Encoded, FrameGrid, Wave
from subtone.upstreams.checkpoint import Checkpoint
from subtone.upstreams.clips import as_clips, lengthen, mask_of, stack
from subtone.upstreams.cores import LayersCore, tap_layers
from subtone.upstreams.huggingface import HuggingFaceUpstream
from subtone.upstreams.passes import MomentsSum
from subtone.upstreams.positions import forget_positions
from subtone.upstreams.precision import full_precision
from subtone.upstreams.surveys import BandSurvey, Survey, of_kind, one_each


class W2vBertUpstream(HuggingFaceUpstream):
    """A w2v-BERT encoder on its own filter banks.

    Each mel band of a clip is scaled to mean 0 and variance 1 over the clip (variance over ``n - 1`` frames),
    then ``stride`` frames, 2 as published, are stacked into one; frames left over at the end are dropped.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config: Any = self._module.config
        width = int(config.feature_projection_input_dim)
        preprocessor = checkpoint.preprocessor or {}
        self._stride = int(preprocessor.get("stride", 2))
        self._num_mel = int(preprocessor.get("num_mel_bins", width // self._stride))
        if self._stride < 1 or self._num_mel * self._stride != width:
            raise UpstreamError(
                f"upstream {self.name!r}: {self._num_mel} mel bands times stride {self._stride} do not fill "
                f"the {width} inputs that config.json asks for (feature_projection_input_dim)"
            )
        hop = kaldi.HOP * self._stride
        window = kaldi.WINDOW + kaldi.HOP * (self._stride - 1)
        self.grid = FrameGrid(hop=hop, window=window, offset=(window - hop) // 2)
        self._core = LayersCore(self._module)
        self.dim = int(config.hidden_size)
        self.num_layers = int(config.num_hidden_layers) + 1
        # The variance of a band needs two filter-bank frames.
        self.min_samples = max(window, kaldi.WINDOW + kaldi.HOP)

    def build(self, config: dict[str, Any]) -> nn.Module:
        """Build the published network."""
        settings = Wav2Vec2BertConfig.from_dict(config)
        settings.layerdrop = 0.0  # a dropped layer would be missing from the stack of layers
        settings.apply_spec_augment = False
        settings.add_adapter = False  # sits after the last layer and is none of them
        settings.use_intermediate_ffn_before_adapter = False
        settings.return_dict = True
        module: nn.Module = Wav2Vec2BertModel(settings)
        tap_layers(module.get_submodule("encoder"))
        forget_positions(module.get_submodule("encoder"))
        return module

    def front_end(self) -> dict[str, Any]:
        """Return mel bands and stride."""
        return {"num_mel": self._num_mel, "stride": self._stride}

    def survey(self, blocks: Iterable[Wave]) -> BandSurvey:
        """Collect mean and variance of each mel band; see `Upstream.survey`."""
        bands = MomentsSum(self._num_mel)
        parts = passes.pieces(blocks, self.min_samples)
        for stretch in passes.stretches(parts, kaldi.WINDOW, kaldi.HOP):
            bands.add(kaldi.filter_bank(stretch, self._num_mel))
        return BandSurvey(bands.mean.numpy(), bands.covariance(correction=1).diagonal().numpy())

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        clips = as_clips(waves, self.device)
        known = one_each(surveys, len(clips))
        inputs = [self._features(clip, survey) for clip, survey in zip(clips, known, strict=True)]
        num_frames = [len(x) for x in inputs]
        mask = mask_of(num_frames, self.device)  # (batch, frames)
        x = stack(inputs).to(self.dtype)  # (batch, frames, num_mel * stride)
        with full_precision(x.device):
            output = self._module(x, attention_mask=mask.long(), output_hidden_states=True)
        frames = torch.stack(output.hidden_states, dim=1)  # (batch, layers, frames, dim)
        too_short = tuple(len(clip) < self.min_samples for clip in clips)
        return Encoded(frames.masked_fill(~mask[:, None, :, None], 0.0), mask, too_short)

    @torch.no_grad()
    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the stacked, normalised filter banks ``(num_mel * stride, frames)``; see `Upstream.front`."""
        (clip,) = as_clips([wave], self.device)
        return self._features(clip, survey).T.contiguous()

    def core(self) -> LayersCore:
        """Return the network after `front`; see `Upstream.core`."""
        return self._core

    def _features(self, clip: Tensor, survey: Survey | None) -> Tensor:
        """Return the stacked, normalised filter banks of a clip, ``(frames, num_mel * stride)``."""
        banks = kaldi.filter_bank(lengthen(clip, self.min_samples), self._num_mel)  # (banks, num_mel)
        known = of_kind(survey, BandSurvey)
        if known is None:
            variance, mean = torch.var_mean(banks, dim=0, correction=1)
        else:
            mean, variance = (torch.tensor(values).to(banks) for values in (known.mean, known.variance))
        banks = (banks - mean) * torch.rsqrt(variance + 1e-7)
        num_frames = len(banks) // self._stride
        return banks[: num_frames * self._stride].reshape(num_frames, -1)  # (frames, num_mel * stride)
