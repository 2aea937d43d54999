"""The Hugging Face Trainer, as the audio-classification example of transformers drives it.

Its features are made where a clip is fetched, and padded by the collator that the Trainer chooses for a feature
extractor. The projection between encoder and mean is left out; linear layer, rates and optimiser are everybody's.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from tuning import FAR, Job, Told, mean_loss


class Way:
    """Clips in random order or sorted by length; with an attention mask if the model card asks for one, or always."""

    def load(self, weights: str, threads: int) -> dict[str, str]:
        """Read the feature extractor; the model needs to know the classes."""
        torch.set_num_threads(threads)
        self._weights = weights
        self._extractor = transformers.AutoFeatureExtractor.from_pretrained(weights)
        return {name: version(name) for name in ("torch", "transformers", "accelerate")}

    def train(self, job: str, before: bool, order: str, mask: bool = False) -> dict[str, Any]:
        """Train, and tell."""
        given, told = Job.read(job), Told()
        extractor, (name, *_) = self._extractor, self._extractor.model_input_names
        if mask:
            extractor.return_attention_mask = True
        network = self._network(given)

        def score(wave: npt.NDArray[np.float32]) -> Tensor:
            inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt", return_attention_mask=False)
            logits: Tensor = network(inputs[name]).logits
            return logits

        result = {"loss_before": mean_loss(network, score, given)} if before else {}
        clips = _Clips(extractor, given, name)
        with tempfile.TemporaryDirectory() as folder:
            trainer = transformers.Trainer(
                model=network,
                args=transformers.TrainingArguments(
                    output_dir=folder,
                    per_device_train_batch_size=given.batch,
                    num_train_epochs=given.epochs,
                    learning_rate=given.learning_rate,
                    lr_scheduler_type="linear",
                    weight_decay=0.0,
                    max_grad_norm=FAR,
                    train_sampling_strategy=order,
                    bf16=given.precision == "bf16",
                    seed=given.seed,
                    use_cpu=True,
                    report_to="none",
                    save_strategy="no",
                    logging_strategy="no",
                    disable_tqdm=True,
                    remove_unused_columns=False,
                ),
                train_dataset=clips,
                processing_class=extractor,
                callbacks=[_Epochs(told)],
            )

            def watch(_: nn.Module, __: Any, inputs: dict[str, Tensor], outputs: Any) -> None:
                fed = inputs[name]
                samples = fed.shape[-1] * getattr(extractor, "hop_length", 1)
                told.update(float(outputs["loss"].detach()), len(fed), len(fed) * samples)

            hook = network.register_forward_hook(watch, with_kwargs=True)
            with told.whole() as found:
                trainer.train()
            hook.remove()
        return result | {"loss_after": mean_loss(network, score, given)} | found

    def _network(self, job: Job) -> Any:
        config = transformers.AutoConfig.from_pretrained(self._weights)
        network, about = transformers.AutoModelForAudioClassification.from_pretrained(
            self._weights,
            num_labels=job.classes,
            classifier_proj_size=config.hidden_size,
            dtype=torch.float32,
            output_loading_info=True,
        )
        missing = {key for key in about["missing_keys"] if not key.startswith(("projector.", "classifier."))}
        if missing:
            raise RuntimeError(f"the encoder lacks weights: {sorted(missing)[:3]}")
        network.projector = nn.Identity()
        job.start(network.classifier)
        return network


class _Clips(Dataset[dict[str, Any]]):
    """Decoded clips that become features when they are fetched, as ``set_transform`` has it in the example."""

    def __init__(self, extractor: Any, job: Job, name: str) -> None:
        self._extractor, self._waves, self._targets, self._name = extractor, job.waves(), job.targets, name

    def __len__(self) -> int:
        return len(self._waves)

    def __getitem__(self, row: int) -> dict[str, Any]:
        features = self._extractor(self._waves[row], sampling_rate=16_000)[self._name][0]
        return {self._name: features, "label": self._targets[row]}


class _Epochs(transformers.TrainerCallback):
    def __init__(self, told: Told) -> None:
        self._told = told

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._told.begin()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self._told.end()
