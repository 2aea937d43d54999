"""How many floating-point operations a model owes for clips: counted on tensors that have a shape and no memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode


def count_flops(config: transformers.PretrainedConfig, samples: Sequence[int]) -> float:
    """Return the operations for clips of these lengths one by one, products and convolutions alone."""
    config = copy.deepcopy(config)
    config._attn_implementation = "eager"  # whose products the counter sees
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            for count in samples:
                model(torch.zeros(1, count))
    return float(counter.get_total_flops())
