"""Plain Hugging Face: the extractor and the model as its documentation shows them, one by one or in padded batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import transformers
from flops import count_flops
from worker import Wave, batches


class Way:
    """Fp32, on as many threads as there are cores for it."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Read extractor and weights."""
        torch.set_num_threads(threads)
        self._extractor = transformers.AutoFeatureExtractor.from_pretrained(weights)
        self._model = transformers.AutoModel.from_pretrained(weights).eval()
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def frames(self, waves: list[Wave], batch: int = 1, mask: bool = True) -> Iterator[Any]:
        """Yield the frames of all layers, of padded batches with or without an attention mask."""
        for some in batches(waves, batch):
            # A single clip is not padded: there is nothing to mask.
            inputs = self._extractor(
                some,
                sampling_rate=16_000,
                return_tensors="pt",
                padding=True,
                return_attention_mask=mask and batch > 1,
            )
            with torch.no_grad():
                hidden = self._model(**inputs, output_hidden_states=True).hidden_states
            yield from torch.stack(hidden, 1)  # each (layers, frames, dim)

    def flops(self, samples: list[int]) -> dict[str, float]:
        """Count the floating-point operations of clips one by one."""
        return {"flops": count_flops(self._model.config, samples)}
