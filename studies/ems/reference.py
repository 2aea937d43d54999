"""What the filter banks give that the networks hear: the same corpora, folds, pooling and classifier, nothing learned.

python reference.py --corpus ravdess=DATA/ravdess --out OUT/fbank

"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from pathlib import Path

from subtone import recipes
from subtone.cli.options import named_paths

SETTINGS = (
    "protocol.folds=group-k-fold",
    "protocol.k=3",
    "systems={fbank: {pooling: gap}}",
    "compare=[]",
    "detector={name: energy}",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, required=True, help="working folder, outside the repository")
    given = parser.parse_args()
    found = {}
    for name, path in named_paths(given.corpus).items():
        folder = recipes.run(
            "sap",
            {name: path},
            upstream="fbank+deltas",
            out=given.out / name,
            overrides=SETTINGS,
            overwrite=True,
        )
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        system = record["systems"]["fbank"]
        found[name] = {
            "ua": system["ua"],
            "ua_ci": system["ua_ci"],
            "folds_checksum": record["protocol"]["folds_checksum"],
        }
        print(name, found[name], flush=True)
    (given.out / "reference.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
