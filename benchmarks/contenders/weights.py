"""Random weights of a known shape, saved as a folder that everybody loads: ``python weights.py SHAPE SEED FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers

#: What facebook/wav2vec2-base and microsoft/wavlm-large say of their input.
_PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16_000,
    "padding_value": 0,
    "padding_side": "right",
    "do_normalize": True,
}


def config_of(shape: str) -> transformers.PretrainedConfig:
    """Return the configuration of a published model."""
    if shape == "wav2vec2-base":
        return transformers.Wav2Vec2Config()
    if shape == "wavlm-large":
        return transformers.WavLMConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_bias=False,
        )
    raise ValueError(f"shape {shape!r} is neither wav2vec2-base nor wavlm-large")


def make(shape: str, seed: int, folder: Path) -> Path:
    """Write the folder."""
    torch.manual_seed(seed)
    config = config_of(shape)
    transformers.AutoModel.from_config(config).eval().save_pretrained(folder)
    preprocessor = {**_PREPROCESSOR, "return_attention_mask": config.feat_extract_norm == "layer"}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    return folder


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
