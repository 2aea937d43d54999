"""SpeechBrain's ``Wav2Vec2`` in padded batches with relative lengths, as its recipes use it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from worker import Wave, batches


class Way:
    """Fp32, frozen, all layers handed out."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Import SpeechBrain and read the weights."""
        from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2

        torch.set_num_threads(threads)
        self._upstream = Wav2Vec2(weights, tempfile.mkdtemp(), freeze=True, output_all_hiddens=True)
        return {name: version(name) for name in ("speechbrain", "torch", "transformers")}

    def frames(self, waves: list[Wave], batch: int) -> Iterator[Any]:
        """Yield the frames of all layers."""
        for some in batches(waves, batch):
            padded = torch.nn.utils.rnn.pad_sequence(
                [torch.from_numpy(wave) for wave in some], batch_first=True
            )
            lengths = torch.tensor([len(wave) / padded.shape[1] for wave in some])
            hidden = self._upstream(padded, lengths)  # (layers, batch, frames, dim)
            yield from hidden.transpose(0, 1)
