"""The figures: every candidate on the same clips and folds, against eGeMAPS, with intervals and paired tests.

    python study.py --cache CACHE --features FEATURES --egemaps EGEMAPS --part speakers \\
        --systems tiny base mini mini+prosody --out results/speakers.json

Of RAVDESS, nEMO and ASED every second clip is used, of the others all, by all systems alike. FEATURES holds what
`features.py` wrote. The system ``mini`` is a trained encoder, another one for each hold-out:
``mini@HOLDOUT.npz`` are features by the one that was trained without its clips.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from cache import Cache
from design import read
from features import chosen
from holdouts import FOUR, TESTED, UNHEARD, thirds
from judge import Features, answer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from subtone.evaluation import compare, describe_environment, evaluate

SVM, LR = "eGeMAPS + SVM", "eGeMAPS + LR"
CLASSICAL = (SVM, LR)
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
        """Read features, ``A+B`` as A and B side by side; keep the last few."""
        if name not in self.held:
            if len(self.held) > 3:
                self.held.pop(next(iter(self.held)))
            found = read(self.folder, name)
            if found is None:
                raise SystemExit(f"{self.folder}: there are no features called {name}")
            self.held[name] = found
        return self.held[name]

    def scores(self, system: str, holdout: str, train: Rows, test: Rows, labels: tuple[str, ...]) -> Any:
        """Train a system on some clips and score others, unless that was done before."""
        asked = hashlib.sha256(
            repr((system, holdout, train.tolist(), test.tolist(), labels)).encode()
        ).hexdigest()
        done = self.folder / "scores" / f"{asked[:20]}.npy"
        if not done.exists():
            done.parent.mkdir(exist_ok=True)
            np.save(done, self._scores(system, holdout, train, test, labels))
        return np.load(done)

    def _scores(self, system: str, holdout: str, train: Rows, test: Rows, labels: tuple[str, ...]) -> Any:
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
        name = "+".join(f"{part}@{holdout}" if part == "mini" else part for part in system.split("+"))
        return answer(self.table, self.features(name), train, test, labels).scores


def speakers(room: Room, systems: Sequence[str], all_classes: bool) -> dict[str, Any]:
    """Three folds of speakers of each corpus by itself; encoders that are trained have heard nothing of the corpus."""
    record: dict[str, Any] = {}
    for corpus in TESTED:
        here = (room.corpus == corpus) & room.there
        labels = tuple(sorted(set(room.emotion[here]))) if all_classes else FOUR
        here &= np.isin(room.emotion, labels)
        holdout = next(name for name, corpora in UNHEARD.items() if corpus in corpora)
        found: dict[str, list[Any]] = {system: [] for system in systems}
        tests = [np.flatnonzero(here & (room.third == k)) for k in range(3)]
        for test in tests:
            train = np.setdiff1d(np.flatnonzero(here), test)
            for system in systems:
                found[system].append(room.scores(system, holdout, train, test, labels))
        print(corpus, len(labels), flush=True)
        record[corpus] = summed(
            room, np.concatenate(tests), {s: np.concatenate(v) for s, v in found.items()}, labels
        )
    return record


def unheard(room: Room, systems: Sequence[str]) -> dict[str, Any]:
    """Leave one corpus out: classifier and encoder trained on the others."""
    record = {}
    for corpus in TESTED:
        four = np.isin(room.emotion, FOUR) & room.there
        train, test = (
            np.flatnonzero(four & (room.corpus != corpus)),
            np.flatnonzero(four & (room.corpus == corpus)),
        )
        holdout = next(n for n, c in UNHEARD.items() if corpus in c)
        scores = {system: room.scores(system, holdout, train, test, FOUR) for system in systems}
        print(corpus, flush=True)
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
        if (a in CLASSICAL or a == "base") and b not in CLASSICAL and a != b
    ]
    for system, evaluation in evaluations.items():
        print(f"    {system}: UA {100 * evaluation['ua']:.1f}", flush=True)
    return {"clips": len(rows), "labels": labels, "systems": evaluations, "comparisons": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--egemaps", type=Path, required=True)
    parser.add_argument(
        "--systems", nargs="+", required=True, help="feature files, A+B for both side by side"
    )
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    parser.add_argument("--part", choices=("speakers", "speakers-all", "unheard"), required=True)
    given = parser.parse_args()
    room = Room(given.cache, given.features, given.egemaps)
    systems = [*CLASSICAL, *given.systems]
    if given.part == "unheard":
        record = unheard(room, systems)
    else:
        record = speakers(room, systems, given.part == "speakers-all")
    command = f"python studies/embedded/study.py --part {given.part} --systems {' '.join(given.systems)} ..."
    record["environment"] = describe_environment(seeds=(0, 1, 2), command=command, device="cpu")
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
