"""The whole study: the recipe `sap`, the anchors, the rivals, the table.

    python run.py --corpus ravdess=DATA/ravdess --upstream whisper-tiny.en=FOLDER --out OUT

Whatever is finished in OUT is not repeated, and a killed run is taken up where it was. After a change of the
recipe, ``--again`` runs it anew on the features that are there. ``--set`` goes to the recipe.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch: the seconds are those of one core

from collections.abc import Sequence
from pathlib import Path

import anchors
import rivals
import table
from protocols import Study, arguments, chosen, folders_of

from subtone import recipes, upstreams

PARTS = ("rivals", "anchors", "recipe", "table")


def recipe_of(
    study: Study, corpus: Path, label: str, source: str, out: Path, settings: Sequence[str], again: bool
) -> None:
    """Run the recipe on one study and upstream, unless that was done before."""
    folder = out / "recipe" / study.name / label
    if (folder / "metrics.json").exists() and not again:
        print(f"{study.name}, {label}, recipe: done before")
        return
    recipes.run(
        "sap",
        {study.corpus: study.folder(corpus, out)},
        upstream=source,
        out=folder,
        overrides=[*protocol_settings(study), *settings],
        store=out / "stores" / label,
        overwrite=True,
    )
    print(f"{study.name}, {label}, recipe: done", flush=True)


def protocol_settings(study: Study) -> list[str]:
    """The study's protocol as settings of the recipe."""
    settings = [f"protocol.folds={study.folds}", f"protocol.k={study.k}"]
    if study.classes is not None:
        settings.append(f"corpus.classes=[{', '.join(study.classes)}]")
    return settings


def main() -> None:
    parser = arguments("The study of segmental average pooling, from corpora to the committed page")
    anchors.add_upstreams(parser)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of the recipe"
    )
    parser.add_argument("--again", action="store_true", help="run the recipe even where it was run before")
    parser.add_argument("--results", type=Path, default=table.HERE / "results")
    options = parser.parse_args()
    for study, corpus in chosen(folders_of(options.corpus), options.only):
        if "rivals" in options.parts:
            rivals.study_of(study, corpus, options.out)
        for label, source in anchors.upstreams_of(options.upstream):
            if "anchors" in options.parts:
                anchors.study_of(study, corpus, label, upstreams.load(source), options.out)
            if "recipe" in options.parts:
                recipe_of(study, corpus, label, source, options.out, options.set, options.again)
    if "table" in options.parts:
        table.write(options.out, options.results)


if __name__ == "__main__":
    main()
