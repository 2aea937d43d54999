"""S3PRL's ``hf_wav2vec2_custom`` upstream, in padded batches as its DataLoaders make them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from worker import Wave, batches


class Way:
    """Fp32; padding, attention mask and lengths are S3PRL's own."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Import S3PRL, which asks torchaudio at import for two things that it no longer has and we do not use."""
        import torchaudio

        torchaudio.set_audio_backend = lambda *_: None
        torchaudio.sox_effects = sys.modules["torchaudio.sox_effects"] = types.ModuleType("sox_effects")
        torchaudio.sox_effects.apply_effects_tensor = None
        from s3prl.nn import S3PRLUpstream

        torch.set_num_threads(threads)
        self._upstream = S3PRLUpstream("hf_wav2vec2_custom", weights).eval()
        return {name: version(name) for name in ("s3prl", "torch", "transformers")}

    def frames(self, waves: list[Wave], batch: int) -> Iterator[Any]:
        """Yield the frames of all layers; S3PRL repeats a clip's last frame, which is not looked at."""
        for some in batches(waves, batch):
            lengths = torch.tensor([len(wave) for wave in some])
            padded = torch.nn.utils.rnn.pad_sequence(
                [torch.from_numpy(wave) for wave in some], batch_first=True
            )
            with torch.no_grad():
                hidden, _ = self._upstream(padded, lengths)
            yield from torch.stack(hidden, 1)  # each (layers, frames, dim)
