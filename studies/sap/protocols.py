"""The protocols of the study, fixed here for all systems: which clips, which classes, who is tested."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from subtone import corpora
from subtone.protocols import Split, build

# Found after the first runs, when unseen speakers' emotions were named without an error; see notes.md.
ASED_CAVEAT = (
    "This block does not measure emotion alone: sentence and clip length give the class away, in sentences 06 and 07 "
    "too. It is left out of the counts above."
)
FOUR = ("anger", "happiness", "neutral", "sadness")


@dataclass(frozen=True)
class Study:
    """One row block of the table.

    Attributes
    ----------
    name, title
        For folders, and for readers.
    corpus
        Name of its reader.
    folds, k
        As in `subtone.protocols.build`; all other choices are its defaults (development speakers are a fifth
        of the training speakers, seed 0).
    classes
        Emotions to keep; None keeps all that the corpus has.
    sentences
        Keep only clips of these sentences; None keeps all.
    caveat
        Why the figures do not say what they seem to; such a study is not counted in the page's answer.
    """

    name: str
    title: str
    corpus: str
    folds: str
    k: int = 10
    classes: tuple[str, ...] | None = None
    sentences: tuple[str, ...] | None = None
    caveat: str = ""

    def folder(self, corpus: Path, out: Path) -> Path:
        """Where this study's clips lie: the corpus itself, or a folder of links to the chosen sentences."""
        if self.sentences is None:
            return corpus
        table = corpora.read(self.corpus, corpus)
        chosen = table[table["sentence"].isin(self.sentences)]
        links = out / "subsets" / self.name
        for file in chosen.index.get_level_values("file"):
            link = links / Path(file).relative_to(corpus.resolve())
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.unlink(missing_ok=True)  # a link into a corpus that has moved
                link.symlink_to(os.path.realpath(file))
        return links

    def table(self, corpus: Path, out: Path) -> pd.DataFrame:
        """Read the study's clips."""
        return corpora.read(self.corpus, self.folder(corpus, out))

    def split(self, corpus: Path, out: Path) -> Split:
        """Divide the study's clips into folds."""
        return build(self.table(corpus, out), self.folds, k=self.k, classes=self.classes)


STUDIES = (
    Study("ravdess", "RAVDESS, 8 classes, 10 folds of speakers", "ravdess", "group-k-fold"),
    Study("ravdess-loso", "RAVDESS, 8 classes, leave one speaker out", "ravdess", "leave-one-speaker-out"),
    Study("emodb-4", "EmoDB-4, leave one speaker out", "emodb", "leave-one-speaker-out", classes=FOUR),
    Study("nemo", "nEMO, 6 classes, leave one speaker out", "nemo", "leave-one-speaker-out"),
    Study(
        "ased",
        "ASED, 5 classes, 10 folds of speakers, all sentences",
        "ased",
        "group-k-fold",
        caveat=ASED_CAVEAT,
    ),
    Study(
        "ased-06-07",
        "ASED, 5 classes, 10 folds of speakers, sentences 06 and 07 only",
        "ased",
        "group-k-fold",
        sentences=("06", "07"),
        caveat=ASED_CAVEAT,
    ),
)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what all parts of the study take: corpora, output folder, and which studies."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--corpus",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="ravdess, emodb, nemo or ased and its folder; repeat. Studies of other corpora are left out.",
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder, outside the repository")
    parser.add_argument("--only", nargs="*", choices=[study.name for study in STUDIES], help="default: all")
    return parser


def folders_of(pairs: list[str]) -> dict[str, Path]:
    """``["ravdess=FOLDER"]`` → ``{"ravdess": Path("FOLDER")}``, folders resolved."""
    known = {study.corpus for study in STUDIES}
    folders = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or name not in known:
            raise SystemExit(
                f"--corpus {pair}: give NAME=FOLDER, with NAME one of {', '.join(sorted(known))}"
            )
        folders[name] = Path(folder).resolve()
    return folders


def chosen(folders: Mapping[str, Path], only: list[str] | None) -> Iterator[tuple[Study, Path]]:
    """Studies whose corpus is there, with its folder."""
    for study in STUDIES:
        if study.corpus in folders and (not only or study.name in only):
            yield study, folders[study.corpus]
