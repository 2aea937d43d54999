"""What a corpus is, and the one table that every reader gives.

A reader turns a folder into :class:`Reading` (rows and what was left out); :meth:`Corpus.read` turns that
into the table. How names are walked and matched lies in :mod:`subtone.corpora.names`; each corpus has a small
file of its own.
"""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import audformat
import pandas as pd

from subtone.errors import CorpusError, nearest

EMOTIONS: tuple[str, ...] = (
    "anger",
    "happiness",
    "sadness",
    "neutral",
    "fear",
    "disgust",
    "surprise",
    "boredom",
    "calm",
    "contempt",
    "excitement",
    "frustration",
    "other",
)
"""The closed vocabulary. Excitement and frustration are IEMOCAP's; merging them is a protocol's decision."""

Gender = Literal["female", "male"]

TEXT_COLUMNS: tuple[str, ...] = (
    "corpus",
    "emotion",
    "raw",
    "speaker",
    "gender",
    "language",
    "session",
    "intensity",
    "sentence",
    "text",
)
NUMBER_COLUMNS: tuple[str, ...] = ("age", "arousal", "valence", "dominance")
COLUMNS: tuple[str, ...] = (*TEXT_COLUMNS, *NUMBER_COLUMNS, "split")
"""The columns of every table, in this order; what a corpus does not have is ``<NA>``."""


@dataclass(frozen=True)
class Row:
    """One utterance of a corpus; None where the corpus does not say.

    Parameters
    ----------
    file
        The recording.
    emotion
        One of :data:`EMOTIONS`.
    raw
        The corpus's own code for the emotion.
    speaker
        Identifier, unique inside the corpus.
    gender
        ``"female"`` or ``"male"``.
    language
        ISO 639-1 code; None takes the corpus's language where it has only one.
    session
        Identifier of the recording session.
    intensity
        The corpus's intensity, as a word.
    sentence
        Identifier of the lexical content: two rows with the same one say the same words.
    text
        Transcript.
    age
        Years.
    arousal, valence, dominance
        On the corpus's own scale.
    split
        ``"train"``, ``"dev"`` or ``"test"`` where the corpus has official parts.
    start_s, end_s
        The stretch of the file in seconds; ``end_s`` None means to the end.
    corpus
        Name for the column ``corpus`` where one reading holds several (a manifest); None takes the reader's.
    """

    file: Path
    emotion: str | None = None
    raw: str | None = None
    speaker: str | None = None
    gender: Gender | None = None
    language: str | None = None
    session: str | None = None
    intensity: str | None = None
    sentence: str | None = None
    text: str | None = None
    age: float | None = None
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    split: str | None = None
    start_s: float = 0.0
    end_s: float | None = None
    corpus: str | None = None


@dataclass
class Reading:
    """What a reader found: the rows, and every file that is not among them with the reason.

    Parameters
    ----------
    rows
        The utterances.
    skipped
        ``(file, reason)`` of audio files that the reader does not know, left out because the caller asked so.
    excluded
        ``(file, reason)`` of files of the corpus that are not part of its emotional speech (songs, video).
    duplicates
        ``(file, kept file)`` of further copies of a clip that is read once.
    missing
        ``(file, where it is named)`` of recordings that an annotation names and the folder does not hold.
    notes
        Sentences on what the folder lacks or contradicts, e.g. an annotation file that is not there.
    """

    rows: list[Row] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    excluded: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Reader = Callable[..., Reading]
"""``reader(path, **options) -> Reading``; every keyword of the function is an option of the corpus."""


@dataclass(frozen=True)
class Published:
    """The figures a corpus's authors print, to hold a user's copy against.

    Parameters
    ----------
    clips, speakers
        Counts; None where the source does not say.
    per_emotion
        Clips of each class, in our names.
    source
        Where the figures stand.
    also
        Figures of other circulating lists: list name → clips.
    """

    clips: int | None = None
    speakers: int | None = None
    per_emotion: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    also: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """A corpus: who made it, what it holds, and how a copy of it is read.

    Parameters
    ----------
    name
        Short lower-case name, as on the command line.
    title
        Full name.
    languages
        ISO 639-1 codes.
    licence
        As its publishers state it.
    url
        Where it is to be had.
    cite
        Authors, title, year.
    emotions
        The classes of the corpus, in our names; empty where they depend on the data.
    published
        Printed figures.
    reader
        ``reader(path, **options) -> Reading``.
    example
        A typical file name, shown when nothing fits.
    pattern
        Regular expression of a typical stem; used only to guess whose files a folder holds.
    design
        Gives the stems of all clips where the corpus was recorded by a full plan, so that a check can name
        the one that is gone.
    """

    name: str
    title: str
    languages: tuple[str, ...]
    licence: str
    url: str
    cite: str
    emotions: tuple[str, ...]
    published: Published
    reader: Reader
    example: str = ""
    pattern: str = ""
    design: Callable[[], Iterable[str]] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that :meth:`read` takes."""
        return tuple(inspect.signature(self.reader).parameters)[1:]

    def read(self, folder: str | os.PathLike[str], **options: Any) -> pd.DataFrame:
        """Read a copy of the corpus.

        Parameters
        ----------
        folder
            Where the copy lies, in any layout that keeps the corpus's file stems (for a manifest: the file).
        **options
            See :attr:`options`; readers that match names know ``skip_unknown=True`` (leave out files they do
            not know) and ``duplicates="first"`` (of several different files of one clip, keep the first).

        Returns
        -------
        pandas.DataFrame
            One row an utterance, sorted by file and start: audformat's segmented index (absolute ``file``,
            ``start``, ``end`` with NaT = to the end) and the columns :data:`COLUMNS`. ``attrs`` holds
            ``corpus`` and the lists ``skipped``, ``excluded``, ``duplicates``, ``missing`` and ``notes`` of
            :class:`Reading`.

        Raises
        ------
        CorpusError
            If the folder is missing, holds nothing of the corpus, or holds a file whose name breaks its
            rules.
        """
        for option in options:
            if option not in self.options:
                hint = nearest(option, self.options) if self.options else "it takes none"
                raise CorpusError(f"corpus {self.name!r}: unknown option {option!r}; {hint}")
        return table(self, self.reader(Path(folder), **options))


def table(corpus: Corpus, reading: Reading) -> pd.DataFrame:
    """Build the table of :meth:`Corpus.read` from what a reader found.

    Parameters
    ----------
    corpus
        Gives the column ``corpus`` and the default language.
    reading
        Rows in any order.

    Returns
    -------
    pandas.DataFrame
        See :meth:`Corpus.read`.

    Raises
    ------
    CorpusError
        If there is no row, two rows name the same stretch of a file, or an emotion is not in
        :data:`EMOTIONS`.
    """
    if not reading.rows:
        raise CorpusError(f"corpus {corpus.name!r}: no utterance found")
    language = corpus.languages[0] if len(corpus.languages) == 1 else None
    keyed = sorted(
        (
            (os.path.abspath(row.file), row.start_s, -1.0 if row.end_s is None else row.end_s, row)
            for row in reading.rows
        ),
        key=lambda item: item[:3],
    )
    for before, after in itertools.pairwise(keyed):
        if before[:3] == after[:3]:
            raise CorpusError(
                f"corpus {corpus.name!r}: {after[0]}: named twice (start {after[1]:g} s); "
                "an utterance has one row, remove the other"
            )
    rows = [item[3] for item in keyed]
    for path, _, _, row in keyed:
        if row.emotion is not None and row.emotion not in EMOTIONS:
            raise CorpusError(
                f"corpus {corpus.name!r}: {path}: {row.emotion!r} is no emotion of the closed vocabulary; "
                f"{nearest(row.emotion, EMOTIONS)}"
            )
    index = audformat.segmented_index(
        [item[0] for item in keyed],
        pd.to_timedelta([row.start_s for row in rows], unit="s"),
        pd.to_timedelta([row.end_s for row in rows], unit="s"),  # None -> NaT: to the end of the file
    )
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        values: Sequence[Any]
        if name == "corpus":
            values = [row.corpus or corpus.name for row in rows]
        elif name == "language":
            values = [row.language or language for row in rows]
        else:
            values = [getattr(row, name) for row in rows]
        columns[name] = pd.array(values, dtype="Float64" if name in NUMBER_COLUMNS else "string")
    frame = pd.DataFrame(columns, index=index)
    frame.attrs = {
        "corpus": corpus.name,
        "skipped": _pairs(reading.skipped),
        "excluded": _pairs(reading.excluded),
        "duplicates": _pairs(reading.duplicates),
        "missing": _pairs(reading.missing),
        "notes": list(reading.notes),
    }
    return frame


def _pairs(items: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Plain JSON lists, because pandas writes ``attrs`` into Parquet as JSON."""
    return [list(item) for item in sorted(items)]
