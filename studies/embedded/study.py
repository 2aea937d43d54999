"""The figures: every candidate on the same clips and folds, against eGeMAPS, with intervals and paired tests.

    python study.py --cache CACHE --features FEATURES --egemaps EGEMAPS --out results [--parts corpora unheard lines]

Of RAVDESS, nEMO and ASED every second clip is used, of the others all, by all systems alike. FEATURES holds what `features.py` wrote. A system's encoder may differ from fold to fold: ``NAME@HOLDOUT.npz`` are
features by an encoder that was trained without the clips of that hold-out; ``NAME.npz`` those of a frozen one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from cache import Cache
from features import chosen
from holdouts import FOUR, TESTED, UNHEARD, thirds
from judge import Features, answer, side_by_side
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from subtone.evaluation import compare, describe_environment, evaluate

SVM, LR = "eGeMAPS + SVM", "eGeMAPS + LR"
CLASSICAL = (SVM, LR)
FRONTS = {"base": "whisper-base, frozen"}
Rows = npt.NDArray[np.int64]


class Room:
    """The clips, and every system's features of them."""

    def __init__(self, cache: Path, features: Path, egemaps: Path) -> None:
        self.table = Cache(cache).table
        self.folder = features
        self.corpus = self.table["corpus"].to_numpy(str)
        self.emotion = self.table["emotion"].to_numpy(object).astype(str)
        self.who = self.table["who"].to_numpy(str)
        self.third = thirds(self.table)
        self.there = np.isin(np.arange(len(self.table)), chosen(Cache(cache), every=2))
        self.functionals = self._functionals(egemaps)
        self.held: dict[str, Features] = {}

    def _functionals(self, folder: Path) -> npt.NDArray[np.float64]:
        known = pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("egemaps-*.parquet"))])
        known = known[~known.index.duplicated()]
        return known.drop(columns="seconds").reindex(self.table["digest"]).to_numpy(np.float64)

    def features(self, name: str) -> Features:
        """Read ``A+B`` as A and B side by side; keep the last few."""
        if name not in self.held:
            if len(self.held) > 3:
                self.held.pop(next(iter(self.held)))
            parts = []
            for part in name.split("+"):
                kept = np.load(self.folder / f"{part}.npz")
                parts.append(Features(kept["rows"], kept["x"].astype(np.float32)))
            self.held[name] = side_by_side(parts)
        return self.held[name]

    def scores(self, system: str, holdout: str, train: Rows, test: Rows, labels: tuple[str, ...]) -> Any:
        """Train a system on some clips and score others."""
        if system in CLASSICAL:
            train = train[np.isin(self.emotion[train], labels)]
            model = make_pipeline(
                StandardScaler(),
                SVC(C=1.0, class_weight="balanced", decision_function_shape="ovr")
                if system == SVM
                else LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000),
            ).fit(self.functionals[train], self.emotion[train])
            said = model.predict(self.functionals[test])
            return (said[:, None] == np.array(labels)).astype(float)
        name = "+".join(
            f"{part}@{holdout}" if (self.folder / f"{part}@{holdout}.npz").exists() else part
            for part in system.split("+")
        )
        return answer(self.table, self.features(name), train, test, labels).scores


def speakers(room: Room, systems: Sequence[str], labels_of: str, mixed: bool) -> dict[str, Any]:
    """Three folds of speakers: of each corpus by itself, or one model for all corpora (``mixed``)."""
    record: dict[str, Any] = {}
    for corpus in TESTED:
        here = (room.corpus == corpus) & room.there
        labels = FOUR if labels_of == "four" else tuple(sorted(set(room.emotion[here])))
        here &= np.isin(room.emotion, labels)
        record[corpus] = judged(room, systems, corpus, here, labels, mixed)
    return record


def judged(
    room: Room, systems: Sequence[str], corpus: str, here: npt.NDArray[np.bool_], labels: tuple[str, ...], mixed: bool
) -> dict[str, Any]:
    """All systems on one corpus."""
    tests: list[Rows] = []
    found: dict[str, list[Any]] = {system: [] for system in systems}
    for k in range(3):
        test = np.flatnonzero(here & (room.third == k))
        pool = room.there & np.isin(room.emotion, labels) if mixed else here
        train = np.flatnonzero(pool & (room.third != k))
        tests.append(test)
        for system in systems:
            holdout = f"speakers-{k}" if mixed else next((n for n, c in UNHEARD.items() if corpus in c), "")
            found[system].append(room.scores(system, holdout, train, test, labels))
    return summed(room, np.concatenate(tests), {s: np.concatenate(v) for s, v in found.items()}, labels)


def unheard(room: Room, systems: Sequence[str]) -> dict[str, Any]:
    """Leave one corpus out: classifier and encoder trained on the others."""
    record = {}
    for corpus in TESTED:
        four = np.isin(room.emotion, FOUR) & room.there
        train, test = np.flatnonzero(four & (room.corpus != corpus)), np.flatnonzero(four & (room.corpus == corpus))
        holdout = next(n for n, c in UNHEARD.items() if corpus in c)
        scores = {system: room.scores(system, holdout, train, test, FOUR) for system in systems}
        record[corpus] = summed(room, test, scores, FOUR)
    return record


def summed(room: Room, rows: Rows, scores: dict[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    """Figures with intervals, and every system against each of the first two."""
    truth, who = room.emotion[rows], room.who[rows]
    evaluations = {s: evaluate(truth, v, labels, who).to_dict(full=True) for s, v in scores.items()}
    pairs = [
        compare(truth, scores[a], scores[b], labels, who, names=(a, b)).to_dict()
        for a in scores
        for b in scores
        if (a in CLASSICAL or a in FRONTS) and b not in CLASSICAL and a != b
    ]
    for system, evaluation in evaluations.items():
        print(f"    {system}: UA {100 * evaluation['ua']:.1f}", flush=True)
    return {"clips": len(rows), "labels": labels, "systems": evaluations, "comparisons": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--egemaps", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", required=True, help="feature files, A+B for both side by side")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    parser.add_argument("--part", choices=("speakers", "speakers-all", "mixed", "unheard"), required=True)
    given = parser.parse_args()
    room = Room(given.cache, given.features, given.egemaps)
    systems = [*CLASSICAL, *given.systems]
    if given.part == "unheard":
        record = unheard(room, systems)
    else:
        record = speakers(room, systems, "all" if given.part == "speakers-all" else "four", given.part == "mixed")
    command = f"python studies/embedded/study.py --part {given.part} --systems {' '.join(given.systems)} ..."
    record["environment"] = describe_environment(seeds=(0, 1, 2), command=command, device="cpu")
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
