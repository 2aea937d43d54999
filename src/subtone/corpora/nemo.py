"""nEMO: nine Polish actors say ninety sentences in six emotions."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, check_folder, code, read_names
from subtone.corpora.sidecars import find_file, note_missing, read_rows

EMOTIONS = {
    "anger": "anger",
    "fear": "fear",
    "happiness": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "surprised": "surprise",
}

# speaker, emotion, sentence
PATTERN = re.compile(r"([A-Z]{2}\d)_([a-z]+)_(\d+)", re.IGNORECASE)
EXAMPLE = "SK0_surprised_12.wav"


def parse(clip: Clip, *, lines: dict[str, dict[str, str]]) -> Row:
    """Read one file name and its line of data.tsv, if there is one."""
    speaker, emotion, sentence = clip.match(PATTERN, "the name is not SPEAKER_emotion_sentence").groups()
    line = lines.get(clip.stem.lower(), {})
    genders: dict[str, Gender] = {"female": "female", "male": "male"}
    age = line.get("age", "")
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, emotion.lower(), "emotion"),
        raw=emotion.lower(),
        speaker=speaker.upper(),
        gender=genders.get(line.get("gender", "").lower()),
        sentence=sentence,
        text=line.get("raw_text") or None,
        age=float(age) if age.isdigit() else None,
    )


def read(folder: Path, *, skip_unknown: bool = False, duplicates: Duplicates = "error") -> Reading:
    """Read names, and text, gender and age from data.tsv where it lies in or beside the folder."""
    root = check_folder("nemo", folder)
    table = find_file(root, "data.tsv")
    lines: dict[str, dict[str, str]] = {}
    if table is not None:
        rows = read_rows("nemo", table, ("file_id", "raw_text", "gender", "age"), delimiter="\t")
        lines = {Path(row["file_id"]).stem.lower(): row for row in rows if row["file_id"]}
    reading = read_names(
        "nemo",
        root,
        partial(parse, lines=lines),
        example=EXAMPLE,
        skip_unknown=skip_unknown,
        duplicates=duplicates,
    )
    if table is None:
        reading.notes.append("data.tsv is not there: no text, gender or age")
    else:
        note_missing(reading, (Path(row["file_id"]).stem for row in lines.values()), table.name)
    return reading


CORPUS = Corpus(
    name="nemo",
    title="nEMO: Dataset of Emotional Speech in Polish",
    languages=("pl",),
    licence="CC BY-NC-SA 4.0",
    url="https://github.com/amu-cai/nEMO",
    cite="Christop, nEMO: Dataset of Emotional Speech in Polish, LREC-COLING 2024",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=4481,
        speakers=9,
        per_emotion={
            "anger": 749,
            "fear": 736,
            "happiness": 749,
            "neutral": 809,
            "sadness": 769,
            "surprise": 669,
        },
        source="Christop 2024; the dataset card",
    ),
    reader=read,
    example=EXAMPLE,
    pattern=r"[A-Z]{2}\d_(anger|fear|happiness|neutral|sadness|surprised)_\d+",
)
