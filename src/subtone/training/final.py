"""Train a model to use: chosen and measured by speaker-disjoint folds, then fitted on everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from subtone import protocols
from subtone.errors import ProtocolError
from subtone.evaluation import Evaluation, evaluate, soft_vote
from subtone.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from subtone.extraction import Failure, clips_of, extract
from subtone.extraction.engine import OnClip
from subtone.model import EmotionModel
from subtone.pooling import statistics_of
from subtone.protocols import Protocol, Split, speaker_ids
from subtone.speech import Detector, get_detector
from subtone.training.card import write_card
from subtone.training.frozen import train_final, train_frozen
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
    k: int = 10,
    store: str | Path | None = None,
    on_clip: OnClip | None = None,
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
    k : int
        Folds, at most one a speaker.
    store : path, optional
        Keep the features, see :func:`subtone.extraction.extract`.
    on_clip : callable, optional
        Progress of the extraction.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ProtocolError
        If there are too few speakers or clips to hold some out.
    """
    detector = detector or get_detector()
    options = options or FrozenOptions()
    statistics = statistics_of(pooling, form, std)
    keep = table["emotion"].notna()
    if labels is not None:
        keep &= table["emotion"].isin([*labels, *(merges or {})]).fillna(False)
    if not keep.any():
        raise ProtocolError("no clip has an emotion to learn; check the labels asked for")
    table = table[keep.to_numpy(bool)]
    _divide(table, k, labels, merges)  # too few speakers are told before hours of extraction
    found = extract(
        clips_of(table),
        upstream,
        detector,
        statistics=statistics if store is None else None,
        store=store,
        on_clip=on_clip,
    )
    split = _divide(table.iloc[found.rows], k, labels, merges)
    classes = split.protocol.classes
    number = {label: i for i, label in enumerate(classes)}
    targets = np.array([number[str(e)] for e in split.table["emotion"]], np.int64)
    x = found.features.select(split.table["position"].to_numpy(np.int64)).matrix(statistics)
    run = train_frozen(x, targets, split.folds, seeds, len(classes), options)
    held = ~np.isnan(run.dev_logits).any(axis=(0, 2))
    temperature = fit_temperature(
        run.dev_logits[:, held].reshape(-1, len(classes)), np.tile(targets[held], len(seeds))
    )
    vote = soft_vote(apply_temperature(run.logits, temperature))
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
        trained_on=tuple(split.protocol.corpus.split("+")),
    )
    error = expected_calibration_error(vote, targets)
    card = write_card(
        f"Emotion model on {upstream.name}, {pooling}",
        protocol=split.protocol,
        evaluation=evaluation,
        calibration_error=error,
    )
    return TrainedModel(replace(model, card=card), split.protocol, evaluation, error, found.failed)


def _divide(
    table: pd.DataFrame, k: int, labels: Sequence[str] | None, merges: Mapping[str, str] | None
) -> Split:
    """Divide the speakers into folds; a column ``position`` keeps the row of ``table`` that a clip was."""
    speakers = len(set(speaker_ids(table)))
    return protocols.build(
        table.assign(position=np.arange(len(table))),
        "group-k-fold",
        k=max(2, min(k, speakers)),
        classes=labels,
        merges=merges,
        leaks=("speaker",),
    )
