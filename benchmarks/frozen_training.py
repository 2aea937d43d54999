"""Time a whole leave-one-speaker-out study from ready features: folds × seeds × {GAP, SAP, GAP+SAP}.

    python benchmarks/frozen_training.py --corpus ravdess=PATH --upstream FOLDER --store STORE --out RESULT.json

The rival is the same training one fold and seed at a time, as a loop would do it; it is timed on a few members, in turn
with the batched run, and counted up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from subtone import recipes, upstreams
from subtone.evaluation import describe_environment
from subtone.extraction import clips_of, extract
from subtone.recipes.data import divide, positions, read_corpora
from subtone.speech import get_detector
from subtone.training import train_frozen


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, metavar="NAME=PATH")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--members", type=int, default=4, help="members of the loop that are timed")
    given = parser.parse_args()
    name, path = given.corpus.split("=", 1)
    recipe = recipes.load("sap")
    table = read_corpora(recipe, {name: path})
    found = extract(clips_of(table), upstreams.load(given.upstream), get_detector(), store=given.store)
    split = divide(recipe, {name: path}, table.iloc[found.rows])
    features = found.features.select(positions(split))
    classes = split.protocol.classes
    targets = np.array([classes.index(e) for e in split.table["emotion"]])
    inputs = {n: features.matrix(s.statistics) for n, s in recipe.systems.items()}
    batched, looped = [], []
    for _ in range(given.repeats):
        began = time.perf_counter()
        for x in inputs.values():
            train_frozen(x, targets, split.folds, recipe.seeds, len(classes), recipe.training.options)
        batched.append(time.perf_counter() - began)
        x, began = inputs["gap+sap"], time.perf_counter()
        for member in range(given.members):
            fold = split.folds[member % len(split.folds)]
            train_frozen(x, targets, [fold], [member], len(classes), recipe.training.options)
        looped.append(time.perf_counter() - began)
        print(f"all batched {batched[-1]:.1f} s; {given.members} one by one {looped[-1]:.1f} s", flush=True)
    members = len(split.folds) * len(recipe.seeds) * len(inputs)
    one_by_one = statistics.median(looped) / given.members * members
    result = {
        "protocol": split.protocol.describe(),
        "members": members,
        "batched_s": round(statistics.median(batched), 1),
        "batched_s_all": [round(s, 1) for s in batched],
        "one_by_one_s": round(one_by_one, 1),
        "ratio": round(one_by_one / statistics.median(batched), 2),
        "load_average_1min": os.getloadavg()[0],
        "environment": describe_environment(
            seeds=recipe.seeds,
            device="cpu",
            command=f"python benchmarks/frozen_training.py --corpus {name}=PATH --upstream FOLDER --store STORE "
            "--out RESULT.json",
        ),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
