"""Train a model to use: chosen and measured by speaker-disjoint folds, then fitted on everybody."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone import protocols
from subtone.errors import ProtocolError, UsageError
from subtone.evaluation import Evaluation, evaluate, soft_vote
from subtone.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from subtone.extraction import ExtractionOptions, Failure, OnProgress, clips_of, extract
from subtone.model import EmotionModel
from subtone.pooling import statistics_of
from subtone.protocols import Protocol, Split, speaker_ids
from subtone.protocols.build import FOLDS
from subtone.speech import Detector, get_detector
from subtone.training.card import write_card
from subtone.training.frozen import FrozenRun, train_final, train_frozen
from subtone.training.heard import taught_on
from subtone.training.options import FrozenOptions
from subtone.upstreams import Upstream


@dataclass(frozen=True)
class TrainedModel:
    """A model, and what its kind reached on speakers that it had not heard.

    Parameters
    ----------
    model
        Fitted on all clips.
    protocol
        Of the folds that measured it and chose its training steps and temperature.
    evaluation
        Of the fold models, each on its own test speakers.
    calibration_error
        Expected calibration error (0–1) of the fold models on their test speakers, at the model's temperature.
    failed
        Clips that could not be read.
    """

    model: EmotionModel
    protocol: Protocol
    evaluation: Evaluation
    calibration_error: float
    failed: tuple[Failure, ...]


def train_model(
    table: pd.DataFrame,
    upstream: Upstream,
    *,
    detector: Detector | None = None,
    labels: Sequence[str] | None = None,
    merges: Mapping[str, str] | None = None,
    pooling: str = "gap+sap",
    form: Literal["frame", "segment"] = "frame",
    std: bool = True,
    options: FrozenOptions | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    folds: str = "group-k-fold",
    k: int = 10,
    dev: str = "speakers",
    dev_share: float = 0.2,
    fold_seed: int = 0,
    leaks: Collection[str] = ("speaker", "audio"),
    store: str | Path | None = None,
    extraction: ExtractionOptions | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedModel:
    """Train an emotion model on a corpus table.

    Speakers are divided into ``k`` folds. The fold models say how well this kind of model does on new speakers, how
    many steps to train, and (by their development speakers) the temperature. The model itself is then trained on all
    clips for the median of those steps.

    Parameters
    ----------
    table : DataFrame
        As :func:`subtone.corpora.read` gives it; several may be concatenated.
    upstream : Upstream
        Gives the frames; stays as it is.
    detector : Detector, optional
        Silero by default.
    labels : sequence of str, optional
        Emotions to learn; all that the table has by default. Other clips are left out.
    merges : mapping, optional
        Emotion → the one it counts as.
    pooling, form, std
        See :func:`subtone.pooling.statistics_of`.
    options : FrozenOptions, optional
        Training of the classifiers.
    seeds : sequence of int
        One classifier a seed; the model averages their probabilities.
    folds, k, dev, dev_share, fold_seed, leaks
        How the clips are divided to measure, see :func:`subtone.protocols.build`; ``k`` is at most the number of
        speakers, save for random folds of clips. Without development speakers all the steps of ``options`` are
        trained, and the temperature is 1.
    store : path, optional
        Keep the features, see :func:`subtone.extraction.extract`.
    extraction : ExtractionOptions, optional
        How to extract: which backend, and how precisely. The model itself serves in float32.
    on_progress : callable, optional
        Progress of the extraction.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ProtocolError
        If there are too few speakers or clips to hold some out.
    UsageError
        If silence is to be left out.
    """
    if extraction is not None and extraction.leave_out_silence_s is not None:
        raise UsageError(
            "extraction.leave_out_silence_s is for recipes: a saved model hears all of a recording, so it is trained "
            "on all; leave it away"
        )
    detector = detector or get_detector()
    options = options or FrozenOptions()
    statistics = statistics_of(pooling, form, std)
    keep = table["emotion"].notna()
    if labels is not None:
        keep &= table["emotion"].isin([*labels, *(merges or {})]).fillna(False)
    if not keep.any():
        raise ProtocolError("no clip has an emotion to learn; check the labels asked for")
    table = table[keep.to_numpy(bool)]

    by_speaker = FOLDS.get(folds) != "random-k-fold"

    def divide(part: pd.DataFrame) -> Split:
        """Divide; a column ``position`` keeps the row of ``part`` that a clip was."""
        return protocols.build(
            part.assign(position=np.arange(len(part))),
            folds,
            k=max(2, min(k, len(set(speaker_ids(part))))) if by_speaker else k,
            classes=labels,
            merges=merges,
            dev=dev,
            dev_share=dev_share,
            seed=fold_seed,
            leaks=leaks,
        )

    divide(table)  # leaks and too few speakers are told before hours of extraction
    found = extract(
        clips_of(table),
        upstream,
        detector,
        statistics=statistics,
        store=store,
        options=extraction,
        on_progress=on_progress,
    )
    split = divide(table.iloc[found.rows])
    classes = split.protocol.classes
    number = {label: i for i, label in enumerate(classes)}
    targets = np.array([number[str(e)] for e in split.table["emotion"]], np.int64)
    x = found.features.select(split.table["position"].to_numpy(np.int64)).matrix(statistics)
    run = train_frozen(x, targets, split.folds, seeds, len(classes), options)
    # What is measured on a fold is calibrated without the speakers that it tests.
    vote = np.empty(run.logits.shape[1:])
    for fold in split.folds:
        others = np.ones(len(targets), bool)
        others[fold.test] = False
        measured = _temperature(run, targets, others)
        vote[fold.test] = soft_vote(apply_temperature(run.logits[:, fold.test], measured))
    temperature = _temperature(run, targets, np.ones(len(targets), bool))
    evaluation = evaluate([classes[t] for t in targets], vote, classes, speaker_ids(split.table))
    reduction, classifiers = train_final(
        x, targets, seeds, len(classes), options, steps=int(np.median(run.steps))
    )
    model = EmotionModel(
        upstream=upstream,
        detector=detector,
        statistics=statistics,
        reduction=reduction,
        classifiers=classifiers,
        labels=classes,
        temperature=temperature,
        trained_on=tuple(sorted({*upstream.taught_on, *(str(name) for name in table["corpus"].dropna())})),
    )
    error = expected_calibration_error(vote, targets)
    heard = taught_on([upstream], table)
    card = write_card(
        f"Emotion model on {upstream.name}, {pooling}",
        protocol=split.protocol,
        evaluation=evaluation,
        calibration_error=error,
        more=f"**Not on new speakers**{heard}." if heard else "",
    )
    return TrainedModel(replace(model, card=card), split.protocol, evaluation, error, found.failed)


def _temperature(run: FrozenRun, targets: npt.NDArray[np.int64], among: npt.NDArray[np.bool_]) -> float:
    """Fit a temperature on the development scores of some clips; 1 if none of them has any."""
    rows = among & ~np.isnan(run.dev_logits).any(axis=(0, 2))
    if not rows.any():
        return 1.0
    logits = run.dev_logits[:, rows]  # (seeds, clips, classes)
    return fit_temperature(logits.reshape(-1, logits.shape[-1]), np.tile(targets[rows], len(logits)))
