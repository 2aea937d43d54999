"""ShEMO: Persian radio plays cut into utterances, five emotions and neutral."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, check_folder, code, read_names
from subtone.corpora.sidecars import note_missing, read_texts

EMOTIONS = {
    "A": "anger",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "S": "sadness",
    "W": "surprise",
}
GENDERS: dict[str, Gender] = {"F": "female", "M": "male"}

# gender and speaker, emotion letter and number
PATTERN = re.compile(r"([FM])(\d\d)([A-Z])(\d\d)", re.IGNORECASE)
EXAMPLE = "F01A01.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not gender and speaker, emotion letter and number joined (F01A01)"
    gender, speaker, letter, _number = clip.match(PATTERN, rule).groups()
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, letter.upper(), "emotion letter"),
        raw=letter.upper(),
        speaker=f"{gender.upper()}{speaker}",
        gender=GENDERS[gender.upper()],
    )


def read(folder: Path, *, skip_unknown: bool = False, duplicates: Duplicates = "error") -> Reading:
    """Read names, and transcripts (``.ort``) where they are; both sides of a gap are reported."""
    root = check_folder("shemo", folder)
    reading = read_names(
        "shemo", root, parse, example=EXAMPLE, skip_unknown=skip_unknown, duplicates=duplicates
    )
    texts = read_texts("shemo", root, ".ort")
    if texts:
        reading.rows = [replace(row, text=texts.get(row.file.stem.lower()) or None) for row in reading.rows]
        note_missing(reading, (name.upper() for name in texts), "the transcripts (.ort)")
    return reading


CORPUS = Corpus(
    name="shemo",
    title="Sharif Emotional Speech Database",
    languages=("fa",),
    licence="free for academic use; cite the paper",
    url="https://github.com/mansourehk/ShEMO",
    cite="Mohamad Nezami, Jamshid Lou & Karami, ShEMO, Language Resources and Evaluation 53, 2019",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=3000,
        speakers=87,
        per_emotion={
            "anger": 1059,
            "fear": 38,
            "happiness": 201,
            "neutral": 1028,
            "sadness": 449,
            "surprise": 225,
        },
        source="Mohamad Nezami et al. 2019",
        also={"EmoBox": 2838},  # the clips that have a transcript
    ),
    reader=read,
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
