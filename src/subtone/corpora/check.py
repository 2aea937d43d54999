"""Hold a user's copy of a corpus against what it should be: counts, missing and broken files, duplicates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from subtone.audio import SAMPLE_RATE_HZ, audio_digest, probe, read_blocks
from subtone.corpora.base import EMOTIONS, Corpus, Published
from subtone.corpora.registry import get
from subtone.errors import AudioError

NONE = "<NA>"
"""Stands for a missing emotion or speaker in the counts."""

_TOLERANT = {"skip_unknown": True, "skip_missing": True, "duplicates": "first"}


@dataclass(frozen=True)
class CorpusReport:
    """What :func:`check` found. Paths are absolute; counts are utterances unless said otherwise.

    Parameters
    ----------
    corpus, title
        Name and full name.
    folder
        What was checked.
    clips
        Utterances in the table.
    files
        Recordings they lie in.
    duration_s
        Total length of the recordings that could be read, in seconds.
    per_emotion
        Class → utterances, in the order of the vocabulary; ``"<NA>"`` for none.
    per_speaker
        Speaker → utterances.
    per_emotion_and_speaker
        Class → speaker → utterances, zeros included.
    missing
        ``(recording, where it is named)`` for recordings that the annotations name and the folder lacks; for
        corpora recorded by a full plan, of which at least nine tenths are here, those of the plan too.
    unreadable
        ``(file, why)`` for recordings that cannot be read.
    silent
        Recordings in which every sample is zero (only with ``full``).
    duplicates
        Groups of recordings with the same content: the same bytes or, with ``full``, the same samples.
    conflicts
        Those groups of duplicates whose members differ in emotion or speaker.
    beyond_end
        Utterances that end behind their recording, as ``(file, seconds too many)``.
    skipped
        ``(file, rule it breaks)`` for audio files that the reader does not know.
    excluded
        ``(file, what it is)`` for files of the corpus that are no emotional speech.
    copies
        ``(file, kept file)`` for further copies of a clip, in the same or another format, that are not read.
    notes
        Sentences of the reader, e.g. which annotation file is not there.
    published
        The printed figures: ``clips``, ``speakers``, ``per_emotion``, ``source``, ``also``.
    differences
        Sentences on what differs from them.
    """

    corpus: str
    title: str
    folder: str
    clips: int
    files: int
    duration_s: float
    per_emotion: Mapping[str, int]
    per_speaker: Mapping[str, int]
    per_emotion_and_speaker: Mapping[str, Mapping[str, int]]
    missing: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]
    silent: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    beyond_end: tuple[tuple[str, float], ...]
    skipped: tuple[tuple[str, str], ...]
    excluded: tuple[tuple[str, str], ...]
    copies: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    published: Mapping[str, Any]
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True when every file is there, known, readable and unambiguous.

        Other counts than printed are no fault, nor are duplicates with the same labels: RAVDESS has one.
        """
        faults = (self.missing, self.unreadable, self.silent, self.conflicts, self.beyond_end, self.skipped)
        return not any(faults)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        plain: dict[str, Any] = _plain({**asdict(self), "ok": self.ok})
        return plain

    def lines(self, *, most: int = 10) -> list[str]:
        """Return the report as plain text, at most ``most`` entries of each list."""
        hours, rest = divmod(round(self.duration_s), 3600)
        text = [
            f"{self.corpus}: {self.title}",
            f"folder: {self.folder}",
            f"clips: {self.clips} in {self.files} files, {hours} h {rest // 60:02d} min {rest % 60:02d} s",
            "emotions: " + _counts(self.per_emotion),
            f"speakers: {sum(name != NONE for name in self.per_speaker)}",
            *(f"  {speaker}: {count}" for speaker, count in self.per_speaker.items()),
        ]
        for name, entries in (
            ("missing files", [f"{file} (named in {where})" for file, where in self.missing]),
            ("unreadable files", [why if file in why else f"{file}: {why}" for file, why in self.unreadable]),
            ("silent files", list(self.silent)),
            ("duplicates by content", [" = ".join(group) for group in self.duplicates]),
            ("duplicates with other labels", [" = ".join(group) for group in self.conflicts]),
            ("utterances beyond the end", [f"{file} ({extra:.3f} s)" for file, extra in self.beyond_end]),
            ("unknown files", [f"{file}: {rule}" for file, rule in self.skipped]),
            ("excluded files", [f"{file}: {what}" for file, what in self.excluded]),
            ("copies not read", [f"{file} (kept: {kept})" for file, kept in self.copies]),
            ("notes", list(self.notes)),
            ("differences from the published figures", list(self.differences)),
        ):
            text.append(f"{name}: {len(entries) if entries else 'none'}")
            text += [f"  {entry}" for entry in entries[:most]]
            if len(entries) > most:
                text.append(f"  … and {len(entries) - most} more")
        return text


@dataclass(frozen=True)
class _Heard:
    """What reading one recording told."""

    error: str = ""
    duration_s: float | None = None
    digest: str = ""
    samples: str = ""
    silent: bool = False


def check(
    name: str,
    folder: str | os.PathLike[str],
    *,
    digests: bool = True,
    full: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> CorpusReport:
    """Check a copy of a corpus.

    Parameters
    ----------
    name
        E.g. ``"ravdess"``; see :data:`subtone.corpora.CORPORA`.
    folder
        Where the copy lies.
    digests
        Look for duplicates by content.
    full
        Decode every recording to its end, so that truncated files and equal samples in other containers are
        found; else only headers are read.
    progress
        Called with (recordings done, recordings in all).
    **options
        The reader's. Unless given, unknown names, absent files and different files of one clip are reported,
        not raised.

    Returns
    -------
    CorpusReport
        The findings.

    Raises
    ------
    CorpusError
        If the corpus is unknown or nothing of it is there.
    """
    corpus = get(name)
    tolerant = {key: value for key, value in _TOLERANT.items() if key in corpus.options}
    table = corpus.read(folder, **{**tolerant, **options})
    files = sorted(set(table.index.get_level_values("file")))
    heard = _hear(files, digests=digests, full=full, progress=progress)
    duplicates = _groups(files, heard) if digests else ()
    labels = _labels(table)
    per_emotion = _count(table["emotion"], EMOTIONS)
    per_speaker = _count(table["speaker"])
    return CorpusReport(
        corpus=corpus.name,
        title=corpus.title,
        folder=os.path.abspath(folder),
        clips=len(table),
        files=len(files),
        duration_s=sum(heard[file].duration_s or 0.0 for file in files),
        per_emotion=per_emotion,
        per_speaker=per_speaker,
        per_emotion_and_speaker=_cross(table, per_emotion, per_speaker),
        missing=(*_tuples(table, "missing"), *_gone(corpus, table)),
        unreadable=tuple((file, heard[file].error) for file in files if heard[file].error),
        silent=tuple(file for file in files if heard[file].silent),
        duplicates=duplicates,
        conflicts=tuple(group for group in duplicates if len({labels[file] for file in group}) > 1),
        beyond_end=_beyond(table, heard),
        skipped=_tuples(table, "skipped"),
        excluded=_tuples(table, "excluded"),
        copies=_tuples(table, "duplicates"),
        notes=tuple(table.attrs["notes"]),
        published=asdict(corpus.published),
        differences=differences(corpus, table),
    )


def differences(corpus: Corpus, table: pd.DataFrame) -> tuple[str, ...]:
    """Say in sentences where a table differs from the corpus's published figures.

    Parameters
    ----------
    corpus
        Whose figures count.
    table
        As :meth:`Corpus.read` gives it.

    Returns
    -------
    tuple of str
        Empty where nothing differs or nothing is published.
    """
    figures: Published = corpus.published
    source = f" ({figures.source})" if figures.source else ""
    found: list[str] = []
    clips, speakers = len(table), int(table["speaker"].nunique())
    if figures.clips is not None and clips != figures.clips:
        others = "".join(
            f"; {name} has {count}" for name, count in figures.also.items() if count != figures.clips
        )
        found.append(f"clips: {clips} here, {figures.clips} published{source}{others}")
    if figures.speakers is not None and speakers != figures.speakers:
        found.append(f"speakers: {speakers} here, {figures.speakers} published{source}")
    here = _count(table["emotion"], EMOTIONS)
    if figures.per_emotion:
        for emotion in dict.fromkeys([*figures.per_emotion, *here]):
            count, printed = here.get(emotion, 0), figures.per_emotion.get(emotion, 0)
            if count != printed:
                found.append(f"{emotion}: {count} here, {printed} published")
    return tuple(found)


def _hear(
    files: Sequence[str], *, digests: bool, full: bool, progress: Callable[[int, int], None] | None
) -> dict[str, _Heard]:
    """Read all recordings; decoding releases the interpreter lock, so threads help."""
    heard: dict[str, _Heard] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, one in zip(
            files, pool.map(lambda path: _hear_one(path, digests=digests, full=full), files)
        ):
            heard[file] = one
            if progress is not None:
                progress(len(heard), len(files))
    return heard


def _hear_one(file: str, *, digests: bool, full: bool) -> _Heard:
    try:
        info = probe(file)
        digest = audio_digest(file) if digests else ""
        if not full:
            return _Heard(duration_s=info.duration_s, digest=digest)
        samples, count, silent = hashlib.sha256(), 0, True
        for block in read_blocks(file):
            samples.update(block.data)
            count += len(block)
            silent = silent and not block.any()
    except AudioError as error:
        return _Heard(error=str(error))
    return _Heard(
        duration_s=count / SAMPLE_RATE_HZ,
        digest=digest,
        samples=samples.hexdigest() if digests else "",
        silent=silent,
    )


def _groups(files: Sequence[str], heard: Mapping[str, _Heard]) -> tuple[tuple[str, ...], ...]:
    """Group readable recordings of equal samples (equal bytes, where nothing was decoded)."""
    groups: dict[str, list[str]] = {}
    for file in files:
        address = heard[file].samples or heard[file].digest
        if address and not heard[file].silent:  # silent files are all alike, and listed by themselves
            groups.setdefault(address, []).append(file)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _labels(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """File → its labels, in order, as something to compare."""
    labels: dict[str, tuple[str, ...]] = {}
    emotions, speakers = table["emotion"].fillna(NONE), table["speaker"].fillna(NONE)
    for file, emotion, speaker in zip(table.index.get_level_values("file"), emotions, speakers):
        labels[file] = (*labels.get(file, ()), f"{emotion}/{speaker}")
    return labels


def _beyond(table: pd.DataFrame, heard: Mapping[str, _Heard]) -> tuple[tuple[str, float], ...]:
    """Find utterances that end more than 10 ms behind their recording."""
    found: list[tuple[str, float]] = []
    ends = pd.TimedeltaIndex(table.index.get_level_values("end")).total_seconds()
    for file, end in zip(table.index.get_level_values("file"), ends):
        duration = heard[file].duration_s
        if duration is not None and end > duration + 0.01:  # NaN, the end of the file, is never greater
            found.append((file, float(end - duration)))
    return tuple(found)


def _count(values: pd.Series[Any], order: Sequence[str] = ()) -> dict[str, int]:
    """Count values, in the given order or sorted (numbers by value); missing ones last."""
    counts = {str(value): int(count) for value, count in values.fillna(NONE).value_counts().items()}

    def rank(value: str) -> tuple[bool, int, int, str]:
        place = order.index(value) if value in order else len(order)
        return value == NONE, place, int(value) if value.isdigit() else 0, value

    return {value: counts[value] for value in sorted(counts, key=rank)}


def _cross(
    table: pd.DataFrame, emotions: Mapping[str, int], speakers: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    cells = {emotion: dict.fromkeys(speakers, 0) for emotion in emotions}
    for emotion, speaker in zip(table["emotion"].fillna(NONE), table["speaker"].fillna(NONE)):
        cells[emotion][speaker] += 1
    return cells


def _gone(corpus: Corpus, table: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Name the clips of a corpus's recording plan that a nearly complete copy lacks.

    A copy with less than nine tenths of them is a chosen part of the corpus (some classes, some speakers):
    there the counts say enough.
    """
    if corpus.design is None:
        return ()
    # SUBESCO has a stray bracket at the end of one name.
    there = {Path(file).stem.strip().rstrip("]").lower() for file in table.index.get_level_values("file")}
    planned = list(corpus.design())
    gone = [stem for stem in planned if stem.lower() not in there]
    if 10 * len(gone) > len(planned):
        return ()
    return tuple((stem, "the plan of the recordings") for stem in gone)


def _tuples(table: pd.DataFrame, name: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(first), str(second)) for first, second in table.attrs[name])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _plain(value: Any) -> Any:
    """Turn tuples and mappings into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
