"""The study of emotional masking: both recipes on all corpora, at a budget that two cores train in an hour or two.

    python run.py npc --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb --audio DATA/baved --out OUT

The two architectures are two runs, one thread each, which may go side by side. A killed run goes on with the same
command. What is measured ends in OUT/<architecture>; ``page.py`` makes the results' page of it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch: one core for each architecture

import argparse
import shutil
import sys
import time
from pathlib import Path

from subtone import recipes
from subtone.cli.options import named_paths

#: Updates of the weights: about as much speech for each variant of an architecture. Mockingjay's second target
#: makes it run its network twice, so it gets fewer.
STEPS = {"npc": 500, "mockingjay": 300}
SETTINGS = (
    "pretraining.size=mini",
    "pretraining.batch_size=8",
    "pretraining.precision=bf16",
    "detector={name: energy}",  # nothing here pools over speech, so a detector that costs nothing
    "extraction={backend: torch, precision: bf16}",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architecture", choices=sorted(STEPS))
    parser.add_argument(
        "--corpus", action="append", required=True, metavar="NAME=PATH", help="measured and heard"
    )
    parser.add_argument(
        "--audio", action="append", default=[], metavar="PATH", help="heard in pre-training only"
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder, outside the repository")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    given = parser.parse_args()
    out, recipe = given.out / given.architecture, f"ems-{given.architecture}"
    work = given.out / f"{given.architecture}.work"
    last = [0.0]

    def tell(doing: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{doing} ({done} of {total})", file=sys.stderr, flush=True)

    recipes.run(
        recipe,
        named_paths(given.corpus),
        out=out,
        store=work,
        overrides=[
            *SETTINGS,
            f"pretraining.steps={STEPS[given.architecture]}",
            f"pretraining.audio={[str(Path(path).resolve()) for path in given.audio]}",
            *given.settings,
        ],
        overwrite=True,
        on_progress=tell,
    )
    curves = out / "curves"
    curves.mkdir()
    for run in sorted((work / recipe / "runs").iterdir()):
        shutil.copy(run / "curves.csv", curves / f"{run.name}.csv")
    print(out)


if __name__ == "__main__":
    main()
