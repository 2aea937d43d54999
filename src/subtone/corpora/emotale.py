"""EmoTale: eighteen speakers say five sentences in Danish, most in English too, in five emotions."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path

from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, check_folder, code, read_names
from subtone.corpora.sidecars import find_file, note_missing, read_rows
from subtone.errors import CorpusError

EMOTIONS = {"A": "anger", "H": "happiness", "S": "sadness", "B": "boredom", "N": "neutral"}
LANGUAGES = {"DK": "da", "EN": "en"}
RATERS = ("a1", "a2", "a3")
DIMENSIONS = {"arousal": "A", "valence": "V", "dominance": "D"}

# language, speaker, emotion, sentence
PATTERN = re.compile(r"([A-Z]{2})_(\d{3})_([A-Z])_(\d+)", re.IGNORECASE)
EXAMPLE = "DK_001_A_1.wav"


def mean_rating(line: dict[str, str], letter: str, where: str) -> float | None:
    """Average one dimension over the raters who gave it (1–5); None if nobody did."""
    values = []
    for rater in RATERS:
        text = line.get(f"{rater}_{letter}", "")
        if not text or text.lower() == "nan":
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 1 <= value <= 5:
            raise CorpusError(
                f"corpus 'emotale': {where}: {line['file']}: {rater}_{letter} is {text!r}, "
                "not a number from 1 to 5; restore the corpus's own file"
            )
        values.append(value)
    return math.fsum(values) / len(values) if values else None


def parse(
    clip: Clip, *, ratings: dict[str, dict[str, float | None]], speakers: dict[str, dict[str, str]]
) -> Row:
    """Read one file name and what the annotation files say of the clip and its speaker."""
    rule = "the name is not LANGUAGE_SPEAKER_E_sentence (DK_001_A_1)"
    language, speaker, letter, sentence = clip.match(PATTERN, rule).groups()
    person = speakers.get(speaker, {})
    genders: dict[str, Gender] = {"F": "female", "M": "male"}
    age = person.get("age", "")
    found = ratings.get(clip.stem.lower(), {})
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, letter.upper(), "emotion letter"),
        raw=letter.upper(),
        speaker=speaker,
        gender=genders.get(person.get("gender", "").upper()),
        language=code(LANGUAGES, language.upper(), "language"),
        sentence=f"{language.upper()}_{sentence}",
        age=float(age) if age.isdigit() else None,
        arousal=found.get("arousal"),
        valence=found.get("valence"),
        dominance=found.get("dominance"),
    )


def read(folder: Path, *, skip_unknown: bool = False, duplicates: Duplicates = "error") -> Reading:
    """Read names, ratings (the mean over raters) and speakers, the latter two where their files are there."""
    root = check_folder("emotale", folder)
    annotations, people = find_file(root, "annotations.csv"), find_file(root, "speaker_info.csv")
    ratings: dict[str, dict[str, float | None]] = {}
    named: list[str] = []
    if annotations is not None:
        needed = ("file", *(f"{rater}_{letter}" for rater in RATERS for letter in DIMENSIONS.values()))
        for line in read_rows("emotale", annotations, needed):
            named.append(Path(line["file"]).stem)
            ratings[named[-1].lower()] = {
                name: mean_rating(line, letter, annotations.name) for name, letter in DIMENSIONS.items()
            }
    speakers: dict[str, dict[str, str]] = {}
    if people is not None:
        lines = read_rows("emotale", people, ("speaker", "gender", "age"))
        speakers = {line["speaker"].zfill(3): line for line in lines}
    reading = read_names(
        "emotale",
        root,
        partial(parse, ratings=ratings, speakers=speakers),
        example=EXAMPLE,
        skip_unknown=skip_unknown,
        duplicates=duplicates,
    )
    if annotations is None:
        reading.notes.append("annotations.csv is not there: no arousal, valence or dominance")
    else:
        note_missing(reading, named, annotations.name)
    if people is None:
        reading.notes.append("speaker_info.csv is not there: no gender or age")
    return reading


CORPUS = Corpus(
    name="emotale",
    title="EmoTale: an enacted speech-emotion dataset in Danish",
    languages=("da", "en"),
    licence="cite the paper",
    url="https://github.com/snehadas/EmoTale",
    cite="Hjuler, Skat-Rørdam, Clemmensen & Das, EmoTale: An Enacted Speech-emotion Dataset in Danish, 2025",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=800,
        speakers=18,
        per_emotion=dict.fromkeys(EMOTIONS.values(), 160),
        source="arXiv 2508.14548 (450 Danish, 350 English); classes are balanced by design",
    ),
    reader=read,
    example=EXAMPLE,
    pattern=r"(DK|EN)_\d{3}_[AHSBN]_\d+",
)
