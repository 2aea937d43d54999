"""SpeechBrain's IEMOCAP recipe (``train_with_wav2vec2``): its ``Brain``, wrapper, pooling and loss, padded batches.

Kept of the recipe: random order, relative lengths, two optimisers, mask and normalisation over the padded batch as its
wrapper has them. Set aside, to train what everybody trains: AdamW for Adam, the common rate and its fall, a bias in
the linear layer, no norm over the output, and convolutions that learn. Waves come from memory, so no worker reads them.
Where SpeechBrain cannot be imported the same steps are taken in plain PyTorch.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import tempfile
import types
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tuning import FAR, Job, Told, mean_loss
from worker import Skipped


class Way:
    """One training a process."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Import SpeechBrain if it is there."""
        torch.set_num_threads(threads)
        self._weights = weights
        if transformers.AutoConfig.from_pretrained(weights).model_type == "whisper":
            raise Skipped("the recipe is for encoders of the wav2vec 2.0 family")
        self._real = importlib.util.find_spec("speechbrain") is not None
        if self._real and importlib.util.find_spec("torchaudio") is None:
            _pretend_torchaudio()
        names = ("speechbrain",) if self._real else ()
        return {name: version(name) for name in (*names, "torch", "transformers")}

    def train(self, job: str, before: bool) -> dict[str, Any]:
        """Train, and tell."""
        given, told = Job.read(job), Told()
        with tempfile.TemporaryDirectory() as folder:
            network = _real(self._weights, folder, given) if self._real else _Reproduced(self._weights, given)

        def score(wave: npt.NDArray[np.float32]) -> Tensor:
            logits: Tensor = network(torch.from_numpy(wave)[None], torch.ones(1))
            return logits

        result: dict[str, Any] = {"how": "its own classes" if self._real else "loop reproduced"}
        if before:
            result["loss_before"] = mean_loss(network, score, given)
        torch.manual_seed(given.seed)
        with told.whole() as found:
            (_fit_real if self._real else _fit_reproduced)(network, given, told)
        return result | {"loss_after": mean_loss(network, score, given)} | found


class _Fall:
    """The common rate, falling linearly to 0."""

    def __init__(self, job: Job) -> None:
        self._highest, self._steps = job.learning_rate, job.epochs * -(-len(job.clips) // job.batch)
        self._done = 0

    def step(self, optimisers: list[torch.optim.Optimizer]) -> None:
        """Set the rate of the next update."""
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._highest * (self._steps - self._done) / self._steps
        self._done += 1


def _optimiser(parameters: Any, job: Job) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=job.learning_rate, weight_decay=0.0, fused=True)


def _pretend_torchaudio() -> None:
    """Let SpeechBrain import what it asks for and this recipe has no use for."""
    fake = types.ModuleType("torchaudio")
    fake.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    fake.__version__ = "2.0.0"  # type: ignore[attr-defined]
    fake.list_audio_backends = lambda: ["none"]  # type: ignore[attr-defined]
    sys.modules["torchaudio"] = fake


def _real(weights: str, folder: str, job: Job) -> nn.Module:
    from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.pooling import StatisticsPooling

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wav2vec2 = Wav2Vec2(weights, folder, dtype=torch.float32)
            self.avg_pool = StatisticsPooling(return_std=False)
            width = self.wav2vec2.model.config.hidden_size
            self.output_mlp = Linear(input_size=width, n_neurons=job.classes)
            job.start(self.output_mlp.w)

        def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
            pooled = self.avg_pool(self.wav2vec2(waves, lengths), lengths)
            logits: Tensor = self.output_mlp(pooled.view(pooled.shape[0], -1))
            return logits

    return Network()


def _fit_real(network: Any, job: Job, told: Told) -> None:
    import speechbrain
    from speechbrain.dataio.dataset import DynamicItemDataset
    from speechbrain.nnet.activations import Softmax
    from speechbrain.nnet.losses import nll_loss
    from speechbrain.utils.data_pipeline import provides, takes

    waves = [torch.from_numpy(wave) for wave in job.waves()]
    fall = _Fall(job)

    class EmoIdBrain(speechbrain.Brain):  # type: ignore[misc]
        def compute_forward(self, batch: Any, stage: Any) -> Tensor:  # noqa: ARG002
            batch = batch.to(self.device)
            waves, lengths = batch.sig
            scores: Tensor = self.hparams.log_softmax(network(waves, lengths))
            return scores

        def compute_objectives(self, predictions: Tensor, batch: Any, stage: Any) -> Tensor:  # noqa: ARG002
            targets, _ = batch.emo_encoded
            loss: Tensor = self.hparams.compute_cost(predictions, targets.squeeze(1))
            return loss

        def init_optimizers(self) -> None:
            self.optimizers_dict = {
                "model_optimizer": _optimiser(self.modules.output_mlp.parameters(), job),
                "wav2vec2_optimizer": _optimiser(self.modules.wav2vec2.parameters(), job),
            }

        def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:  # noqa: ARG002
            fall.step(list(self.optimizers_dict.values()))

        def on_fit_batch_end(self, batch: Any, outputs: Tensor, loss: Tensor, should_step: bool) -> None:  # noqa: ARG002
            told.update(float(loss.detach()), len(outputs), batch.sig.data.numel())

        def on_stage_start(self, stage: Any, epoch: int | None = None) -> None:  # noqa: ARG002
            told.begin()

        def on_stage_end(self, stage: Any, stage_loss: float, epoch: int | None = None) -> None:  # noqa: ARG002
            told.end()

    @takes("row")
    @provides("sig")
    def audio(row: int) -> Tensor:
        return waves[row]

    @takes("row")
    @provides("emo_encoded")
    def label(row: int) -> Tensor:
        return torch.LongTensor([job.targets[row]])

    clips = DynamicItemDataset(
        {str(row): {"row": row} for row in range(len(waves))},
        dynamic_items=[audio, label],
        output_keys=["id", "sig", "emo_encoded"],
    )
    brain = EmoIdBrain(
        modules={"wav2vec2": network.wav2vec2, "output_mlp": network.output_mlp},
        hparams={
            "log_softmax": Softmax(apply_log=True),
            "compute_cost": nll_loss,
            "device": "cpu",
            "precision": job.precision,
            "max_grad_norm": FAR,
            "noprogressbar": True,
        },
    )
    network.train()
    brain.fit(
        range(1, job.epochs + 1),
        clips,
        train_loader_kwargs={"batch_size": job.batch, "shuffle": True, "num_workers": 0, "drop_last": False},
    )


class _Reproduced(nn.Module):
    """What wrapper, pooling and linear layer of the recipe compute."""

    def __init__(self, weights: str, job: Job) -> None:
        super().__init__()
        self.model = transformers.AutoModel.from_pretrained(weights, dtype=torch.float32)
        self._normalises = transformers.AutoFeatureExtractor.from_pretrained(weights).do_normalize
        self.linear = job.start(nn.Linear(self.model.config.hidden_size, job.classes))

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        mask = torch.arange(waves.shape[1]) < (lengths * waves.shape[1]).round()[:, None]  # (batch, samples)
        if self._normalises:
            waves = functional.layer_norm(waves, waves.shape[1:])
        frames = self.model(waves, attention_mask=mask).last_hidden_state
        counts = [int(torch.round(length * frames.shape[1])) for length in lengths]
        pooled = torch.stack([own[:count].mean(0) for own, count in zip(frames, counts, strict=True)])
        logits: Tensor = self.linear(pooled)
        return logits


def _fit_reproduced(network: Any, job: Job, told: Told) -> None:
    waves, fall = [torch.from_numpy(wave) for wave in job.waves()], _Fall(job)
    parts = {"linear": network.linear, "model": network.model}
    optimisers = [_optimiser(part.parameters(), job) for part in parts.values()]
    network.train()

    def collate(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        padded = nn.utils.rnn.pad_sequence([waves[row] for row in rows], batch_first=True)
        lengths = torch.tensor([len(waves[row]) / padded.shape[1] for row in rows])
        return padded, lengths, torch.tensor([job.targets[row] for row in rows])

    loader: Any = DataLoader(
        range(len(waves)),  # type: ignore[arg-type]
        batch_size=job.batch,
        shuffle=True,
        collate_fn=collate,
    )
    for _ in range(job.epochs):
        told.begin()
        for padded, lengths, targets in loader:
            fall.step(optimisers)
            with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
                scores = functional.log_softmax(network(padded, lengths), dim=-1)
                loss = functional.nll_loss(scores, targets)
            loss.backward()
            for part in parts.values():
                nn.utils.clip_grad_norm_(part.parameters(), FAR)
            for optimiser in optimisers:
                optimiser.step()
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)
            told.update(float(loss.detach()), len(targets), padded.numel())
        told.end()
