"""Write tests/numbers/ecapa.safetensors: what SpeechBrain's ECAPA-TDNN says of two clips, each alone.

Needs SpeechBrain, which Subtone does not. In an environment of its own, with torch, safetensors and::

    pip install --no-deps speechbrain hyperpyyaml ruamel.yaml sentencepiece joblib
    python tests/make_ecapa_numbers.py
"""

from __future__ import annotations

import importlib.machinery
import re
import sys
import types
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

DIM, CHANNELS, EMBEDDING, SCALE, ATTENTION, SQUEEZE = 12, 16, 10, 8, 8, 8
LENGTHS = (37, 9)

# SpeechBrain's name → ours, in this order.
NAMES = (
    (r"\.(conv|norm)\.(\w+)$", r".\2"),  # its layers wrap torch's
    (r"^blocks\.0\.", "first."),
    (r"^blocks\.(\d)", lambda found: f"blocks.{int(found[1]) - 1}"),
    (r"tdnn1", "before"),
    (r"res2net_block\.blocks", "groups"),
    (r"tdnn2", "after"),
    (r"se_block\.conv1", "gate.0"),
    (r"se_block\.conv2", "gate.2"),
    (r"^mfa", "merge"),
    (r"^asp\.tdnn\.conv", "pooling.hear"),
    (r"^asp\.tdnn\.norm", "pooling.norm"),
    (r"^asp\.conv", "pooling.score"),
    (r"^asp_bn", "norm"),
    (r"^fc", "out"),
)


def our_name(name: str) -> str:
    """Translate a parameter's name.

    >>> our_name("blocks.1.res2net_block.blocks.0.norm.norm.running_var")
    'blocks.0.groups.0.norm.running_var'
    """
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    return name


def our_tensor(name: str, tensor: Tensor) -> Tensor:
    """Drop the kernel axis where our layer is linear and SpeechBrain's a convolution over one frame."""
    linear = name.startswith("out.") or ".gate." in name
    return (tensor.squeeze(-1) if linear else tensor).clone()


def randomised(network: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value of its own, away from what it starts with."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.3, 0.7),
                (module.running_var, 0.3, 2.0),
            ):
                tensor.uniform_(low, high)
        elif isinstance(module, nn.Conv1d):
            module.weight.data *= 2  # else biases drown out what tells two clips apart
    return network.eval()


def main() -> None:
    """Load, run, save."""
    # SpeechBrain asks for torchaudio when it is imported; this network has no use for it.
    fake = types.ModuleType("torchaudio")
    fake.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    fake.__version__ = "2.0.0"
    fake.list_audio_backends = lambda: ["none"]
    sys.modules.setdefault("torchaudio", fake)
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    torch.manual_seed(20)
    network = randomised(
        ECAPA_TDNN(
            DIM,
            lin_neurons=EMBEDDING,
            channels=[CHANNELS] * 4 + [3 * CHANNELS],
            kernel_sizes=[5, 3, 3, 3, 1],
            dilations=[1, 2, 3, 4, 1],
            attention_channels=ATTENTION,
            res2net_scale=SCALE,
            se_channels=SQUEEZE,
            global_context=True,
        )
    )
    tensors = {}
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensors[f"weights.{our_name(name)}"] = our_tensor(our_name(name), tensor)
    for length in LENGTHS:
        frames = torch.randn(length, DIM)
        with torch.no_grad():
            vector = network(frames[None])[0, 0]  # (embedding,)
        tensors[f"frames.{length}"], tensors[f"vector.{length}"] = frames, vector.clone()
    target = Path(__file__).parent / "numbers" / "ecapa.safetensors"
    target.parent.mkdir(exist_ok=True)
    save_file(
        tensors, target, {"made_by": f"speechbrain {version('speechbrain')}, tests/make_ecapa_numbers.py"}
    )
    print(target, target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
