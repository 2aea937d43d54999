"""emotiontts_open_db, emotional part: fifteen Korean actors, 400 sentences each, in four emotions.

The number gives the emotion: 1–100 neutral, 101–200 happiness, 201–300 anger, 301–400 sadness.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, UnknownName, check_folder, code, read_names
from subtone.corpora.sidecars import read_texts

HUNDREDS = ("neutral", "happiness", "anger", "sadness")
# The publisher's description: em* read plain scripts, ne* emotional ones.
GENDERS: dict[str, Gender] = {
    **dict.fromkeys(("ema", "emb", "nea", "neb", "nec", "ned", "nee"), "female"),
    **dict.fromkeys(("emf", "emg", "emh", "nek", "nel", "nem", "nen", "neo"), "male"),
}

# speaker, number
PATTERN = re.compile(r"((?:em|ne)[a-z])(\d{1,5})", re.IGNORECASE)
EXAMPLE = "nea00101.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    speaker, number = clip.match(PATTERN, "the name is not three letters and a number (nea00101)").groups()
    speaker = speaker.lower()
    code(dict.fromkeys(GENDERS, ""), speaker, "speaker")
    if not 1 <= int(number) <= 400:
        raise UnknownName(f"number {number!r} is not one of 1–400, which give the emotion by their hundreds")
    hundred = (int(number) - 1) // 100
    return Row(
        file=clip.path,
        emotion=HUNDREDS[hundred],
        raw=f"{100 * hundred + 1}-{100 * hundred + 100}",
        speaker=speaker,
        gender=GENDERS[speaker],
    )


def read(folder: Path, *, skip_unknown: bool = False, duplicates: Duplicates = "error") -> Reading:
    """Read names, and the texts where the folders ``script/`` (else ``transcript/``) are there."""
    root = check_folder("emotiontts-ko", folder)
    reading = read_names(
        "emotiontts-ko", root, parse, example=EXAMPLE, skip_unknown=skip_unknown, duplicates=duplicates
    )
    texts = read_texts("emotiontts-ko", root, ".txt", "script") or read_texts(
        "emotiontts-ko", root, ".txt", "transcript"
    )
    reading.rows = [replace(row, text=texts.get(row.file.stem.lower()) or None) for row in reading.rows]
    return reading


CORPUS = Corpus(
    name="emotiontts-ko",
    title="emotiontts_open_db, emotional speech of the conversational corpus",
    languages=("ko",),
    licence="CC BY-NC-SA 4.0, research only",
    url="https://github.com/emotiontts/emotiontts_open_db",
    cite="Selvas AI and KAIST, emotiontts_open_db, 2019",
    emotions=HUNDREDS,
    published=Published(
        clips=300,
        speakers=15,
        per_emotion=dict.fromkeys(HUNDREDS, 75),
        source="the open 5 % of the repository",
        also={"on application": 6000},
    ),
    reader=read,
    example=EXAMPLE,
    pattern=r"(em|ne)[a-z]\d{5}",
)
