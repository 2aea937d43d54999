"""Small models of every make, trained on nothing: what holds for any model can be shown on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from subtone import upstreams
from subtone.classifier import PooledClassifier, Reduction
from subtone.model import EmotionModel
from subtone.pooling import statistics_of
from subtone.speech import get_detector


def model(
    upstream: upstreams.Upstream | None = None,
    *,
    layers: Any = "concat",
    head: Any = "mlp",
    components: int | None = 6,
    seeds: int = 2,
    **changes: Any,
) -> EmotionModel:
    """Return a model of random numbers over filter banks, or another upstream."""
    torch.manual_seed(0)
    upstream = upstream or upstreams.load("fbank:20")
    statistics = statistics_of("gap+sap", std=True)
    shape = (upstream.num_layers, upstream.dim * len(statistics))
    width = shape[1] if layers == "mix" else shape[0] * shape[1]
    basis = None if components is None else torch.randn(width, components) / width**0.5
    reduction = Reduction(torch.randn(shape), torch.rand(shape) + 1, basis, layers)
    classifiers = []
    for _ in range(seeds):
        one = PooledClassifier(reduction.num_layers, reduction.dim, 3, head=head, hidden=5).eval()
        for parameter in one.parameters():
            torch.nn.init.normal_(parameter)
        classifiers.append(one)
    made = EmotionModel(
        upstream=upstream,
        detector=get_detector("energy", min_speech_s=0.03, min_silence_s=0.03, speech_pad_s=0.0),
        statistics=statistics,
        reduction=reduction,
        classifiers=tuple(classifiers),
        labels=("anger", "happiness", "sadness"),
        temperature=1.7,
        trained_on=("toy",),
        card="# A card\n\nümläut\n",
    )
    return replace(made, **changes)
