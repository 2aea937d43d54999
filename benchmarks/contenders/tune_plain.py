"""No rival but a yardstick: a loop of a few lines on the published network, clip by clip, in Subtone's own batches.

No padding, no order of its own: its losses are what Subtone's have to be, update by update.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from tuning import Job, Told, mean_loss
from worker import Skipped


class Way:
    """One training a process."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Read the encoder."""
        torch.set_num_threads(threads)
        self._encoder = transformers.AutoModel.from_pretrained(weights, dtype=torch.float32)
        if self._encoder.config.model_type == "whisper":
            raise Skipped("the published network takes 30 s and nothing shorter")
        self._extractor = transformers.AutoFeatureExtractor.from_pretrained(weights)
        return {name: version(name) for name in ("torch", "transformers")}

    def train(self, job: str, before: bool) -> dict[str, Any]:
        """Train, and tell."""
        given, told, encoder = Job.read(job), Told(), self._encoder
        linear = given.start(nn.Linear(encoder.config.hidden_size, given.classes))
        network, waves = nn.ModuleList([encoder, linear]), given.waves()

        def score(wave: npt.NDArray[np.float32]) -> Tensor:
            inputs = self._extractor(
                wave, sampling_rate=16_000, return_tensors="pt", return_attention_mask=False
            )
            logits: Tensor = linear(encoder(inputs["input_values"]).last_hidden_state.mean(1))
            return logits

        result = {"loss_before": mean_loss(network, score, given)} if before else {}
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=0.0, fused=True)
        steps, step = sum(map(len, given.batches)), 0
        with told.whole() as found:
            network.train()
            for batches in given.batches:
                told.begin()
                for batch in batches:
                    optimiser.param_groups[0]["lr"] = given.learning_rate * (steps - step) / steps
                    losses = []
                    for row in batch:
                        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
                            logits = score(waves[row])
                        loss = functional.cross_entropy(logits.float(), torch.tensor([given.targets[row]]))
                        (loss / len(batch)).backward()
                        losses.append(float(loss.detach()))
                    optimiser.step()
                    optimiser.zero_grad(set_to_none=True)
                    told.update(float(np.mean(losses)), len(batch), sum(len(waves[row]) for row in batch))
                    step += 1
                told.end()
        return result | {"loss_after": mean_loss(network, score, given)} | found
