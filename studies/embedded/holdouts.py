"""Who is held out: the splits that every candidate shares.

``corpora-a`` and ``corpora-b`` hold out two of the four corpora, all of them. ``design`` is for choosing between
designs: it holds out a third of the speakers of the three largest corpora, and the three small
corpora whole. ``nobody`` is for the encoder that ships.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone import protocols

FOUR = ("anger", "happiness", "neutral", "sadness")
SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
TESTED = ("ravdess", "emodb", "nemo", "ased")
UNHEARD = {"corpora-a": ("ravdess", "nemo"), "corpora-b": ("emodb", "ased")}
SMALL = ("emodb", "emotale", "emotiontts-ko")
NAMES = ("design", *UNHEARD, "nobody")


def held_out(table: pd.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    """Which clips of the cache's table may not be trained on."""
    corpus = table["corpus"].to_numpy(str)
    if name == "nobody":
        return np.zeros(len(table), bool)
    if name in UNHEARD:
        return np.isin(corpus, UNHEARD[name])
    return (thirds(table, seed=1) == 0) | np.isin(corpus, SMALL)


def thirds(table: pd.DataFrame, seed: int = 0) -> npt.NDArray[np.int64]:
    """Fold of each clip, 0 to 2, speakers whole; -1 for clips without an emotion, which are never tested."""
    fold_of = np.full(len(table), -1)
    indexed = table.assign(position=np.arange(len(table))).set_index("file")
    for _, part in indexed[indexed["emotion"].notna()].groupby("corpus"):
        split = protocols.build(part, "group-k-fold", k=3, dev="none", seed=seed, leaks=("speaker",))
        for number, fold in enumerate(split.folds):
            fold_of[split.table["position"].to_numpy(np.int64)[fold.test]] = number
    return fold_of
