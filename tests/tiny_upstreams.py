"""Small random speech encoders of every family, saved as on the hub: genuine in time, few channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_CNN = {
    **_SIZES,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    # Left on, to see them put out of action.
    "layerdrop": 0.5,
    "mask_time_prob": 0.5,
}
_LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_GROUP = {"feat_extract_norm": "group"}

CNN_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-group": ("Wav2Vec2", _GROUP),
    "wav2vec2-group-stable": ("Wav2Vec2", {**_GROUP, "do_stable_layer_norm": True}),
    "wav2vec2-layer": ("Wav2Vec2", {**_LAYER, "do_stable_layer_norm": False}),
    "xls-r": ("Wav2Vec2", _LAYER),
    "hubert-group": ("Hubert", _GROUP),
    "hubert-group-batchnorm": ("Hubert", {**_GROUP, "conv_pos_batch_norm": True}),
    "hubert-layer": ("Hubert", _LAYER),
    "wavlm-group": ("WavLM", {**_GROUP, "num_buckets": 32}),
    "wavlm-layer": ("WavLM", {**_LAYER, "num_buckets": 32}),
    "data2vec": ("Data2VecAudio", {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}),
    "unispeech-group": ("UniSpeech", _GROUP),
    "unispeech-layer": ("UniSpeech", _LAYER),
    "unispeech-sat-group": ("UniSpeechSat", _GROUP),
    "unispeech-sat-layer": ("UniSpeechSat", _LAYER),
    "conformer-relative": ("Wav2Vec2Conformer", {"feat_extract_norm": "layer", "conv_bias": True}),
    "conformer-rotary": ("Wav2Vec2Conformer", {**_GROUP, "position_embeddings_type": "rotary"}),
}
W2V_BERT_FAMILIES = {
    f"w2v-bert-{kind}": {"position_embeddings_type": kind, "max_source_positions": 40}
    for kind in ("relative_key", "relative", "rotary")
}
WHISPER_FAMILIES = {"whisper-80": {"num_mel_bins": 80}, "whisper-128": {"num_mel_bins": 128}}
FAMILIES = [*CNN_FAMILIES, *W2V_BERT_FAMILIES, *WHISPER_FAMILIES]


def network(family: str, suffix: str = "Model", **settings: Any) -> Any:
    """Return a random network of a family, each parameter moved off its trivial start (ones, zeros)."""
    torch.manual_seed(len(family))
    if family in CNN_FAMILIES:
        stem, own = CNN_FAMILIES[family]
        sizes = {**_CNN, **own}
    elif family in W2V_BERT_FAMILIES:
        stem, sizes = "Wav2Vec2Bert", {**_SIZES, **W2V_BERT_FAMILIES[family], "layerdrop": 0.5}
    else:
        stem = "Whisper"
        sizes = {
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_source_positions": 300,
            "vocab_size": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "encoder_layerdrop": 0.5,
            **WHISPER_FAMILIES[family],
        }
    config = getattr(transformers, f"{stem}Config")(**{**sizes, **settings})
    module = getattr(transformers, f"{stem}{suffix}")(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.running_mean.normal_()
    return module


def write(folder: Path, family: str, **settings: Any) -> Path:
    """Save a random network of a family with safetensors; returns the folder."""
    network(family, **settings).save_pretrained(folder)
    return folder


Maker = Callable[[str], Path]


def noise(num_samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return a clip of noise with an offset and a swell, ``(samples,)``: nothing stationary in it."""
    wave = np.random.default_rng(seed + num_samples).standard_normal(num_samples)
    swell = np.linspace(0.02, 0.3, num_samples) if num_samples else np.zeros(0)
    return (wave * swell + 0.01).astype(np.float32)


def relative_error(
    got: npt.NDArray[np.float32] | torch.Tensor, wanted: npt.NDArray[np.float32] | torch.Tensor
) -> float:
    """Return the largest relative L2 error of any single frame of any layer, both ``(..., frames, dim)``."""
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    scale = np.maximum(np.linalg.norm(b, axis=-1), 1e-6)
    return float((np.linalg.norm(a - b, axis=-1) / scale).max())
