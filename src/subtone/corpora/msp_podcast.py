"""MSP-Podcast: spontaneous turns cut from podcasts, rated by crowds.

Labels are in ``Labels/labels_consensus.csv`` (or ``.json``), audio in ``Audios``, words in ``Transcripts``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from subtone.corpora.annotated import Clips, csv_lines, find_files, number, read_text, require_rows
from subtone.corpora.base import Corpus, Published, Reading, Row
from subtone.corpora.labels import gender_of
from subtone.corpora.names import Duplicates, check_folder
from subtone.errors import CorpusError, nearest

NAME = "msp-podcast"
EXAMPLE = "MSP-PODCAST_0001_0008.wav"

CODES: dict[str, str | None] = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": None,  # the raters did not agree
}
SPLITS: dict[str, str] = {
    "train": "train",
    "development": "dev",
    "validation": "dev",  # releases before 1.10
    "test1": "test",
    "test2": "test",
    "test3": "test",
}
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
# Best first; the misspelled one is that of early releases.
LABEL_FILES = (
    "labels_consensus.csv",
    "labels_concensus.csv",
    "labels_consensus.json",
    "labels_concensus.json",
)
STEM = re.compile(r"MSP-PODCAST_(?P<podcast>\w+?)_\d+(?:_\d+)?", re.IGNORECASE)


def read(
    folder: Path,
    *,
    test_sets: str | Sequence[str] | None = None,
    duplicates: Duplicates = "error",
) -> Reading:
    """Read a copy of MSP-Podcast; see :meth:`subtone.corpora.base.Corpus.read`.

    ``session`` is the number of the podcast, ``arousal``, ``valence`` and ``dominance`` are the raters' means
    on scales from 1 to 7, and a speaker that the publishers do not know is ``<NA>``.

    Parameters
    ----------
    folder
        The release, or anything above it.
    test_sets
        Which of the official test sets to keep, e.g. ``"Test1"`` or ``("Test1", "Test2")``; None keeps all.
        The column ``split`` calls each of them ``test``.
    duplicates
        See :func:`subtone.corpora.names.read_names`.

    Returns
    -------
    Reading
        Labelled turns without audio are in ``missing``; audio without a label (the third test set) and the
        test sets not asked for in ``excluded``.

    Raises
    ------
    CorpusError
        If there is no label file or no audio, or a line holds a code that nobody knows.
    """
    wanted = _test_sets(test_sets)
    root = check_folder(NAME, folder)
    names = {name: place for place, name in enumerate(LABEL_FILES)}
    files = find_files(root, lambda name: name.lower() in names)
    if not files:
        raise CorpusError(
            f"corpus {NAME!r}: {root}: holds no Labels/{LABEL_FILES[0]} (or .json); "
            "give the folder of the release"
        )
    labels = min(files, key=lambda path: (names[path.name.lower()], len(path.parts), str(path)))
    reading = Reading()
    clips = Clips(NAME, root, duplicates)
    texts = {
        path.stem.lower(): path
        for path in find_files(root, lambda name: name.lower().endswith(".txt"))
        if path.parent.name.lower() == "transcripts"
    }
    seen: dict[str, str] = {}
    for where, line in _lines(labels, root):
        name = Path(line["FileName"]).stem
        if name.lower() in seen:
            raise CorpusError(
                f"corpus {NAME!r}: {where}: {name} is labelled a second time, after {seen[name.lower()]}; "
                "restore the label file"
            )
        seen[name.lower()] = where
        row = _row(line, where)
        file = clips.take(name, reading)
        if file is None:
            reading.missing.append((line["FileName"], where))
        elif wanted is not None and row.split == "test" and line["Split_Set"].lower() not in wanted:
            reading.excluded.append((str(file), f"is in {line['Split_Set']}, which was not asked for"))
        else:
            words = read_text(NAME, texts[name.lower()]).split() if name.lower() in texts else []
            reading.rows.append(replace(row, file=file, text=" ".join(words) or None))
    reading.excluded += [(str(path), f"has no line in {labels.name}") for path in clips.unused()]
    if not (wanted and reading.excluded):
        require_rows(NAME, root, reading, labels.name, clips, EXAMPLE)
    return reading


def _test_sets(chosen: str | Sequence[str] | None) -> set[str] | None:
    """Lower-case names of the chosen test sets; None for all."""
    if chosen is None:
        return None
    listed = chosen.split(",") if isinstance(chosen, str) else list(chosen)
    known = [name for name in SPLITS if name.startswith("test")]
    for name in listed:
        if name.strip().lower() not in known:
            raise CorpusError(
                f"corpus {NAME!r}: unknown test set {name!r}; {nearest(name.strip().lower(), known)}"
            )
    return {name.strip().lower() for name in listed}


def _lines(path: Path, root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """``(where, column → value)`` of each line of the label file, CSV or JSON."""
    place = path.relative_to(root)
    text = read_text(NAME, path)
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise CorpusError(f"corpus {NAME!r}: {place}: is no JSON ({error}); restore the file") from error
        if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
            raise CorpusError(f"corpus {NAME!r}: {place}: should map file names to labels; restore the file")
        lines = [(f"{place}, {name}", {"FileName": name, **entry}) for name, entry in content.items()]
    else:
        cells = csv_lines(text)
        header = cells[0][1] if cells else []
        lines = [(f"{place}, line {number_}", dict(zip(header, values))) for number_, values in cells[1:]]
    for where, line in lines:
        for column in COLUMNS:
            if column not in line:
                raise CorpusError(
                    f"corpus {NAME!r}: {where}: lacks the column {column!r}; restore the label file"
                )
        yield where, {column: str(line[column]).strip() for column in COLUMNS}


def _row(line: dict[str, str], where: str) -> Row:
    """Make the row of a line, its file not yet known."""
    if line["EmoClass"] not in CODES:
        raise CorpusError(
            f"corpus {NAME!r}: {where}: EmoClass {line['EmoClass']!r} is not one of {', '.join(CODES)}"
        )
    if line["Split_Set"].lower() not in SPLITS:
        raise CorpusError(
            f"corpus {NAME!r}: {where}: unknown Split_Set {line['Split_Set']!r}; "
            f"{nearest(line['Split_Set'].lower(), SPLITS)}"
        )
    try:
        gender = gender_of(line["Gender"])
    except ValueError as error:
        raise CorpusError(f"corpus {NAME!r}: {where}: {error}") from None
    found = STEM.fullmatch(Path(line["FileName"]).stem)
    return Row(
        file=Path(line["FileName"]),
        emotion=CODES[line["EmoClass"]],
        raw=line["EmoClass"],
        speaker=None if line["SpkrID"].lower() in ("unknown", "", "nan", "none") else line["SpkrID"],
        gender=gender,
        session=found["podcast"] if found else None,
        arousal=number(NAME, where, line["EmoAct"]),
        valence=number(NAME, where, line["EmoVal"]),
        dominance=number(NAME, where, line["EmoDom"]),
        split=SPLITS[line["Split_Set"].lower()],
    )


CORPUS = Corpus(
    name=NAME,
    title="MSP-Podcast",
    languages=("en",),
    licence="UT Dallas licence agreement, research only",
    url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
    cite="Lotfian & Busso, Building naturalistic emotionally balanced speech corpus, IEEE TAFFC, 2019",
    emotions=tuple(emotion for emotion in CODES.values() if emotion),
    published=Published(source="grows with each release; compare with the readme of yours"),
    reader=read,
    example=EXAMPLE,
    pattern=STEM.pattern,
)
