"""A model's answers on a labelled corpus, against the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from subtone.errors import CorpusError, UsageError, nearest
from subtone.evaluation import Evaluation, evaluate
from subtone.extraction import Extraction, ExtractionOptions, Failure, OnProgress, clips_of, extract
from subtone.model import EmotionModel
from subtone.protocols import speaker_ids


@dataclass(frozen=True)
class Assessment:
    """What a model is worth on a corpus.

    Parameters
    ----------
    evaluation
        UA, WA and the rest, intervals over speakers.
    predictions
        One row a clip: ``truth``, ``label``, ``speaker`` and a probability an emotion; audformat index.
    failed
        Clips that could not be read.
    left_out
        Emotion → clips that the model has no label for.
    """

    evaluation: Evaluation
    predictions: pd.DataFrame
    failed: tuple[Failure, ...]
    left_out: dict[str, int]


def assess(
    model: EmotionModel,
    table: pd.DataFrame,
    *,
    merges: Mapping[str, str] | None = None,
    store: str | Path | None = None,
    options: ExtractionOptions | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Assessment:
    """Let a model answer every clip of a corpus and compare with the corpus's labels.

    A clip in which no speech is found is answered all the same, since the corpus says that it holds an emotion.

    Parameters
    ----------
    model : EmotionModel
        What to judge.
    table : DataFrame
        As :func:`subtone.corpora.read` gives it.
    merges : mapping, optional
        Emotion of the corpus → label of the model, e.g. ``{"excitement": "happiness"}``.
    store : path, optional
        Keep the features, see :func:`subtone.extraction.extract`.
    options : ExtractionOptions, optional
        How to extract: which backend, and how precisely.
    seed : int
        Of the bootstrap.
    on_progress : callable, optional
        Progress of the extraction.

    Returns
    -------
    Assessment

    Raises
    ------
    CorpusError
        If no clip has an emotion that the model knows.
    UsageError
        If a merge is from an emotion that the corpus lacks, or to a label that the model lacks.
    """
    _check_merges(merges or {}, table, model)
    emotion = table["emotion"].replace(dict(merges or {}))
    known = emotion.isin(model.labels).fillna(False).to_numpy(bool)
    left_out = {str(k): int(v) for k, v in emotion[~known].fillna("no label").value_counts().items()}
    if not known.any():
        found = ", ".join(left_out) or "none"
        raise CorpusError(
            f"no clip has an emotion that the model knows ({', '.join(model.labels)}); the corpus has: {found}"
        )
    rows = table[known]
    found_features: Extraction = extract(
        clips_of(rows),
        model.upstream,
        model.detector,
        statistics=model.statistics,
        store=store,
        options=options,
        on_progress=on_progress,
    )
    rows = rows.iloc[found_features.rows]
    truth = emotion[known].iloc[found_features.rows]
    scores = model.score_features(found_features.features).probabilities  # (clips, classes)
    speakers = speaker_ids(rows)
    evaluation = evaluate(
        truth.to_numpy(), scores, model.labels, speakers, seed=seed, seconds=round(found_features.seconds, 3)
    )
    predictions = pd.DataFrame(scores, index=rows.index, columns=list(model.labels))
    predictions.insert(0, "label", [model.labels[i] for i in scores.argmax(1)])
    predictions.insert(0, "truth", truth.to_numpy())
    predictions.insert(2, "speaker", rows.get("speaker", pd.Series(pd.NA, rows.index)).to_numpy())
    return Assessment(evaluation, predictions, found_features.failed, left_out)


def _check_merges(merges: Mapping[str, str], table: pd.DataFrame, model: EmotionModel) -> None:
    """Refuse a merge that would do nothing, or only take clips away."""
    had = [str(emotion) for emotion in table["emotion"].dropna().unique()]
    for old, new in merges.items():
        if old not in had:
            raise UsageError(f"merge {old}={new}: the corpus has no emotion {old!r}; {nearest(old, had)}")
        if new not in model.labels:
            raise UsageError(
                f"merge {old}={new}: the model has no label {new!r}; {nearest(new, model.labels)}"
            )
