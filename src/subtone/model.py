"""An emotion model: upstream, detector, pooling, reduction and classifiers under one roof, from waves to scores.

How it is written and read is told in :mod:`subtone.bundle`; how recordings are cut and answered in
:mod:`subtone.inference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from subtone import inference
from subtone.classifier import PooledClassifier, Reduction
from subtone.extraction import PooledFeatures, pool_wave
from subtone.inference import Prediction, Scores
from subtone.speech import Detector, SpeechSegments
from subtone.upstreams import Upstream


@dataclass(frozen=True)
class EmotionModel:
    """From waves to emotion scores.

    Parameters
    ----------
    upstream
        Gives the frames.
    detector
        Finds the speech that SAP pools.
    statistics
        What is pooled, in the order in which the classifiers want it; see :data:`subtone.pooling.STATISTICS`.
    reduction
        Standardises and projects what was pooled.
    classifiers
        One or more; their probabilities are averaged (one a training seed).
    labels
        Emotions, in the order of the scores.
    temperature
        The logits are divided by it, so that a score means a probability.
    trained_on
        Names of the corpora whose speakers it has heard.
    card
        What a user must know, in Markdown: data, licence, figures, intended use and limits.
    """

    upstream: Upstream
    detector: Detector
    statistics: tuple[str, ...]
    reduction: Reduction
    classifiers: tuple[PooledClassifier, ...]
    labels: tuple[str, ...]
    temperature: float = 1.0
    trained_on: tuple[str, ...] = ()
    card: str = ""

    def score(
        self, waves: Sequence[npt.NDArray[np.float32]], speech: Sequence[SpeechSegments] | None = None
    ) -> Scores:
        """Score clips.

        Parameters
        ----------
        waves : sequence of ndarray
            Each ``(samples,)`` float32, 16 kHz, mono.
        speech : sequence of SpeechSegments, optional
            Where each clip holds speech; found by the model's own detector when missing.

        Returns
        -------
        Scores
            ``probabilities (clips, classes)``, rows sum to 1, and ``embeddings (clips, dim)``: the pooled
            features as the classifiers see them, flattened.
        """
        if speech is None:
            speech = self.detector.detect_many(waves)
        if not waves:
            return Scores(np.empty((0, len(self.labels))), np.empty((0, 0), np.float32))
        pooled = [pool_wave(self.upstream, w, s, self.statistics) for w, s in zip(waves, speech, strict=True)]
        return self.score_features(PooledFeatures.concatenate(pooled))

    def score_features(self, features: PooledFeatures) -> Scores:
        """Score clips whose features were extracted before; the same numbers as :meth:`score`."""
        with torch.inference_mode():
            x = torch.from_numpy(features.matrix(self.statistics))  # (clips, layers, dim)
            z = self.reduction(x)  # (clips, layers, dim)
            logits = torch.stack([c(z) for c in self.classifiers])  # (classifiers, clips, classes)
            probabilities = (logits.double() / self.temperature).softmax(-1).mean(0)
        return Scores(probabilities.numpy(), z.flatten(1).numpy())

    def save(self, folder: str | Path, *, with_upstream: bool = True, overwrite: bool = False) -> Path:
        """Write the model as a bundle; arguments as in :func:`subtone.bundle.save`."""
        from subtone import bundle

        return bundle.save(self, folder, with_upstream=with_upstream, overwrite=overwrite)

    def predict(self, sources: Any, **options: Any) -> Prediction:
        """Say the emotions of recordings; arguments as in :func:`subtone.inference.run`.

        Examples
        --------
        >>> import numpy as np, subtone
        >>> subtone.load("default").predict((np.zeros(16000, np.float32), 16000)).table["note"].tolist()
        ['silent']
        """
        return inference.run(self, sources, **options)
