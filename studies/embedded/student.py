"""The network that is trained: Whisper's encoder with fewer layers and narrower feed-forward parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from subtone import upstreams


def cut(
    folder: str | Path, layers: int, width: int | None, calibration: Callable[[], Tensor]
) -> WhisperEncoder:
    """Take the first ``layers`` of a published encoder and, of feed-forward parts, the ``width`` units that say most.

    A unit says as much as the root mean square of its activations times the length of its output weights. What the
    units that go would have said on average is added to the bias.

    Parameters
    ----------
    folder
        The published encoder.
    layers, width
        What to keep; None keeps the width.
    calibration
        Gives spectrograms ``(batch, bands, frames)`` to measure activations on.
    """
    whole: Any = upstreams.load(str(folder)).module
    settings = WhisperConfig.from_dict({**whole.config.to_dict(), "encoder_layers": layers})
    if width is not None:
        settings.encoder_ffn_dim = width
    small: Any = WhisperEncoder(settings).eval()
    small.conv1, small.conv2 = whole.conv1, whole.conv2
    small.embed_positions, small.layer_norm = whole.embed_positions, whole.layer_norm
    seen: dict[int, Tensor] = {}
    hooks = [
        layer.fc2.register_forward_pre_hook(lambda _m, args, i=i: seen.__setitem__(i, args[0].detach()))
        for i, layer in enumerate(whole.layers)
    ]
    with torch.no_grad():
        frames(whole, calibration())
        for i in range(layers):
            layer = whole.layers[i]
            if width is not None and width < layer.fc1.out_features:
                units = seen[i].flatten(0, 1)  # (frames, units)
                says = units.square().mean(0).sqrt() * layer.fc2.weight.norm(dim=0)
                keep = says.topk(width).indices.sort().values
                gone = torch.ones(len(says), dtype=torch.bool)
                gone[keep] = False
                first, second = nn.Linear(384, width), nn.Linear(width, 384)
                first.weight.copy_(layer.fc1.weight[keep])
                first.bias.copy_(layer.fc1.bias[keep])
                second.weight.copy_(layer.fc2.weight[:, keep])
                second.bias.copy_(layer.fc2.bias + layer.fc2.weight[:, gone] @ units.mean(0)[gone])
                layer.fc1, layer.fc2 = first, second
            small.layers[i] = layer
    for hook in hooks:
        hook.remove()
    return small


def frames(encoder: Any, mel: Tensor) -> list[Tensor]:
    """All layers of a batch of clips of one length: ``(batch, bands, mel frames)`` to each ``(batch, frames, dim)``."""
    x = functional.gelu(encoder.conv1(mel))  # (batch, dim, mel frames)
    x = functional.gelu(encoder.conv2(x)).transpose(1, 2)  # (batch, frames, dim)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    layers = [x]
    for layer in encoder.layers:
        x = layer(x, None)
        layers.append(x)
    layers[-1] = encoder.layer_norm(x)
    return layers


def write(encoder: Any, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a folder that `subtone.upstreams.load` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    config = encoder.config.to_dict()
    kept = {
        key: config[key]
        for key in (
            "activation_function", "d_model", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layers",
            "max_source_positions", "num_mel_bins", "scale_embedding",
        )
    }  # fmt: skip
    kept |= {
        "model_type": "whisper",
        "architectures": ["WhisperModel"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    # The decoder is not there; its sizes are named so that the published class builds none.
    kept |= {"decoder_layers": 0, "decoder_ffn_dim": 8, "decoder_attention_heads": 6, "vocab_size": 8}
    kept |= {"max_target_positions": 8, "pad_token_id": 0, "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {f"encoder.{k}": v.detach().to(dtype).contiguous() for k, v in encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
