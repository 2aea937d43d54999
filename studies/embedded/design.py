"""Choose between designs: on the split ``design``, whose held-out speakers no candidate was trained on.

    python design.py --cache CACHE --features FEATURES --candidates a b c

Small corpora are new to every encoder: their 3 folds of speakers ask how well frames serve in a corpus that the encoder
does not know, and a classifier trained on the large corpora asks how well it does there without any training.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from dataclasses import replace
from pathlib import Path

import judge
import numpy as np
from cache import Cache
from holdouts import FOUR, SMALL, held_out, thirds
from judge import Features, answer, side_by_side, ua

LARGE = ("ravdess", "nemo", "ased")


def read(folder: Path, name: str) -> Features | None:
    """What features.py wrote."""
    line = next((f"-{line}" for line in ("telephone", "noise", "silence") if name.endswith(f"-{line}")), "")
    parts = []
    for part in name.removesuffix(line).split("+"):
        part, _, layers = part.partition(":")  # a:3 are the first 3 layers of a, its input apart
        path = folder / f"{part}{line}.npz"
        if not path.exists():
            return None
        kept = np.load(path)
        x = kept["x"].astype(np.float32)
        parts.append(Features(kept["rows"], x[:, : int(layers) + 1] if layers else x))
    return side_by_side(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--candidates", nargs="+", required=True)
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY=VALUE", help="of FrozenOptions")
    given = parser.parse_args()
    judge.OPTIONS = replace(
        judge.OPTIONS, **{k: json.loads(v) for k, v in (o.split("=") for o in given.options)}
    )
    cache = Cache(given.cache)
    table = cache.table
    corpus, emotion = table["corpus"].to_numpy(str), table["emotion"].to_numpy(object).astype(str)
    held, third = held_out(table, "design"), thirds(table, seed=1)
    four = np.isin(emotion, FOUR)
    common = np.ones(len(table), bool)
    for name in given.candidates:
        features = read(given.features, name)
        assert features is not None
        common &= np.isin(np.arange(len(table)), features.rows)
    for name in given.candidates:
        features = read(given.features, name)
        assert features is not None
        there = common
        figures: dict[str, float] = {}
        for c in LARGE:
            train = np.flatnonzero((corpus == c) & ~held & there & four)
            test = np.flatnonzero((corpus == c) & held & there & four)
            figures[c] = ua(emotion[test], answer(table, features, train, test).scores, FOUR)
        for c in SMALL:
            scores = []
            tests = []
            for k in range(3):
                train = np.flatnonzero((corpus == c) & (third != k) & four & there)
                test = np.flatnonzero((corpus == c) & (third == k) & four & there)
                scores.append(answer(table, features, train, test).scores)
                tests.append(test)
            figures[f"in {c}"] = ua(emotion[np.concatenate(tests)], np.concatenate(scores), FOUR)
        train = np.flatnonzero(np.isin(corpus, LARGE) & ~held & there & four)
        test = np.flatnonzero(np.isin(corpus, SMALL) & there & four)
        for line in ("", "telephone", "noise"):
            served = read(given.features, f"{name}-{line}") if line else features
            if served is None:
                continue
            here = test[np.isin(test, served.rows)]
            scores = answer(table, features, train, here, served=served.at(here)).scores
            for c in np.unique(corpus[here]):
                mine = corpus[here] == c
                figures[f"zero {c} {line}".strip()] = ua(emotion[here][mine], scores[mine], FOUR)
        print(name, *given.options, " ".join(f"{k} {v:.1f};" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
