"""Classifiers on pooled features, judged: on new speakers of a corpus, and on corpora that were never heard.

Everything takes positions into the cache's table, so that all candidates answer the same questions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from holdouts import FOUR

from subtone.evaluation import soft_vote
from subtone.evaluation.calibration import apply_temperature
from subtone.protocols import Fold
from subtone.training import FrozenOptions, train_frozen

SEEDS = (0, 1, 2)
NUM_STATISTICS = 4  # of features.py
OPTIONS = FrozenOptions()
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Features:
    """Pooled features of some clips: ``x (clips, layers, dim)``, and the row of the cache's table of each."""

    rows: Rows
    x: npt.NDArray[np.float32]

    def at(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Features of these clips."""
        where = np.full(max(self.rows.max(), rows.max()) + 1, -1)
        where[self.rows] = np.arange(len(self.rows))
        assert (where[rows] >= 0).all()
        return self.x[where[rows]]


def side_by_side(parts: list[Features]) -> Features:
    """Join the streams of every statistic; one of a single layer stands beside every layer of the others.

    So are the frames of `subtone.upstreams.mini` pooled.
    """
    rows = parts[0].rows
    for part in parts[1:]:
        rows = rows[np.isin(rows, part.rows)]
    layers = max(part.x.shape[1] for part in parts)
    at = [part.at(rows) for part in parts]
    streams = [
        np.repeat(x, layers // x.shape[1], 1).reshape(len(rows), layers, NUM_STATISTICS, -1) for x in at
    ]
    return Features(rows, np.concatenate(streams, 3).reshape(len(rows), layers, -1))


@dataclass(frozen=True, eq=False)
class Answer:
    """Scores ``(test, classes)``, means over seeds; logits ``(seeds, test, classes)``; training steps."""

    scores: Floats
    logits: npt.NDArray[np.float32]
    steps: int


def ua(truth: npt.NDArray[np.str_], scores: Floats, labels: tuple[str, ...]) -> float:
    """Mean recall in percent."""
    said = np.array(labels)[scores.argmax(1)]
    return float(100 * np.mean([(said[truth == c] == c).mean() for c in np.unique(truth)]))


def answer(
    table: pd.DataFrame,
    features: Features,
    train: Rows,
    test: Rows,
    labels: tuple[str, ...] = FOUR,
    options: FrozenOptions | None = None,
    served: npt.NDArray[np.float32] | None = None,
    added: tuple[Features, ...] = (),
) -> Answer:
    """Train on some clips, a fifth of their speakers for development, and score others.

    ``served`` are the features to score, ``features`` of the test clips if None: they may be of other lines.
    ``added`` are further versions of the training clips.
    """
    rng = np.random.default_rng(0)
    emotions = table["emotion"].to_numpy()
    train = train[np.isin(emotions[train].astype(str), labels)]
    who = table["who"].to_numpy(str)
    dev_speakers: list[str] = []
    for corpus in np.unique(table["corpus"].to_numpy(str)[train]):
        names = np.unique(who[train[table["corpus"].to_numpy(str)[train] == corpus]])
        dev_speakers += list(rng.permutation(names)[: max(1, round(0.2 * len(names)))])
    extra = [train[np.isin(train, version.rows)] for version in added]
    served = features.at(test) if served is None else served
    x = np.concatenate(
        [
            features.at(train),
            *(v.at(rows) for v, rows in zip(added, extra, strict=True)),
            served,
        ]
    )
    place = np.concatenate([train, *extra])
    n = len(place)
    # Development clips are those that are served: no copies.
    development = np.isin(who[place], dev_speakers)
    dev = np.flatnonzero(development[: len(train)])
    fold = Fold("", np.flatnonzero(~development), dev, n + np.arange(len(served)))
    number = {label: i for i, label in enumerate(labels)}
    y = np.array([number[str(e)] for e in emotions[place]] + [0] * len(served), np.int64)
    run = train_frozen(x, y, [fold], SEEDS, len(labels), options or OPTIONS)
    logits = run.logits[:, fold.test]
    return Answer(soft_vote(apply_temperature(logits, 1.0)), logits, int(np.median(run.steps)))


def linear(regularisation: float = 0.3) -> FrozenOptions:
    """A linear head instead of the default's hidden layer."""
    return replace(OPTIONS, head="linear", dropout=0.0, input_dropout=regularisation)
