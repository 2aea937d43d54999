"""All runs of the study: three recipes on four corpora, all classes and the common four; finished ones stay.

    python run.py --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb --corpus nemo=DATA/nemo \
        --corpus ased=DATA/ased --upstream WHISPER --out OUT

nEMO is thinned to every 4th clip and ASED to every 3rd, to spare time. A killed run goes on with the same command.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from subtone import corpora, recipes

#: Every so many clips of a corpus are taken.
EVERY = {"ravdess": 1, "emodb": 1, "nemo": 4, "ased": 3}
#: Corpora whose classes are more than these.
LARGER = ("ravdess", "nemo", "ased")
FOUR = "corpus.classes=[anger, happiness, neutral, sadness]"
LENGTHS = {"500ms": 0.5, "1s": 1.0, "2s": 2.0, "3s": 3.0}
ENDS = ("500ms", "3s")
#: Corpora on which segments are also encoded by themselves.
ALONE = ("emodb", "ravdess")


@dataclass(frozen=True)
class Cell:
    """One run of one recipe."""

    corpus: str
    classes: str
    recipe: str
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Of its result, below that of all."""
        return f"{self.corpus}-{self.classes}/{self.recipe}"


def shorter() -> tuple[str, ...]:
    """Return what leaves ``segment-cnn`` all lengths but one, to spare time."""
    segments = "{{segments: {{length_s: {}, overlap: 0.5, min_speech: 0.5}}}}"
    names = [name for name in LENGTHS if name != "2s"]
    made = ", ".join(f"cnn-{name}: {segments.format(LENGTHS[name])}" for name in names)
    pairs = ", ".join(f"[gap+sap, cnn-{name}]" for name in names)
    return f"cnns={{{made}}}", f"compare=[{pairs}]"


def transfer(names: Collection[str]) -> tuple[str, ...]:
    """Return what makes ``transfer-cnn`` one of some lengths."""
    images = "{weights: subtone-pictures, head_epochs: 3, learning_rate: 0.0003}"
    segments = "{{length_s: {}, overlap: 0.25, min_speech: 0.5}}"
    made = (
        f"transfer-cnn-{name}: {{segments: {segments.format(length)}, images: {images}}}"
        for name, length in LENGTHS.items()
        if name in names
    )
    return (f"cnns={{{', '.join(made)}}}",)


def alone() -> tuple[str, ...]:
    """Return what makes ``segment-cnn`` hear each segment by itself: the shortest and the longest, to spare time."""
    segments = "{{length_s: {}, overlap: 0.5, min_speech: 0.5, context: segment}}"
    made = (f"cnn-{name}: {{segments: {segments.format(LENGTHS[name])}}}" for name in ENDS)
    return f"cnns={{{', '.join(made)}}}", "compare=[]"


def cells(names: list[str]) -> Iterator[Cell]:
    """Yield the runs, what matters most first."""
    for classes in ("all", "four"):
        for name in names:
            if classes == "four" and name not in LARGER:
                continue
            which = (FOUR,) if classes == "four" else ()
            taken = ("1s",) if which else ("1s", "3s") if name in LARGER else tuple(LENGTHS)  # to spare time
            yield Cell(name, classes, "segment-cnn", (*which, *(shorter() if which else ())))
            yield Cell(name, classes, "svm-egemaps", which)
            yield Cell(name, classes, "transfer-cnn", (*which, *transfer(taken)))
    for name in names:
        if name in ALONE:
            yield Cell(name, "all", "segment-cnn-alone", alone())


def manifest(name: str, folder: Path, out: Path) -> Path:
    """Write every so many-th clip of a corpus as a table of files."""
    path = out / f"{name}.csv"
    if not path.exists():
        table = corpora.read(name, folder)
        table = table[table["emotion"].notna()].iloc[:: EVERY[name]]
        files = table.index.get_level_values("file")
        table.reset_index(drop=True).assign(file=files)[["file", "emotion", "speaker"]].to_csv(
            path, index=False
        )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="runs whose folder holds this text, e.g. emodb-all"
    )
    given = parser.parse_args()
    folders = dict(one.split("=", 1) for one in given.corpus)
    given.out.mkdir(parents=True, exist_ok=True)
    for cell in cells(list(folders)):
        out = given.out / cell.folder
        if given.only not in cell.folder or (out / "metrics.json").exists():
            continue
        thinned = EVERY[cell.corpus] > 1
        path = Path(folders[cell.corpus])
        began = time.perf_counter()
        recipes.run(
            cell.recipe.removesuffix("-alone"),
            {"manifest": manifest(cell.corpus, path, given.out)} if thinned else {cell.corpus: path},
            out=out,
            upstream=None if cell.recipe == "transfer-cnn" else given.upstream,
            overrides=cell.overrides,
            # One store serves the recipes that stand on the same upstream.
            store=given.out / "stores" / (cell.corpus + ("-fbank" if cell.recipe == "transfer-cnn" else "")),
        )
        print(f"{cell.folder}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
