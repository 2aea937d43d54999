"""URDU: clips cut from Urdu talk shows, four emotions."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, by_name, code

EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
GENDERS: dict[str, Gender] = {"F": "female", "M": "male"}

# speaker (S, gender, number), number of the speaker's file, emotion letter and running number
PATTERN = re.compile(r"S([FM])(\d+)_F(\d+)_([A-Z])(\d+)", re.IGNORECASE)
EXAMPLE = "SM1_F1_A001.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not SPEAKER_FILE_EMOTION joined by '_' (SM1_F1_A001)"
    gender, speaker, _file, letter, _number = clip.match(PATTERN, rule).groups()
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, letter.upper(), "emotion letter"),
        raw=letter.upper(),
        speaker=f"S{gender.upper()}{int(speaker)}",
        gender=GENDERS[gender.upper()],
    )


CORPUS = Corpus(
    name="urdu",
    title="URDU-Dataset",
    languages=("ur",),
    licence="none stated; cite the paper",
    url="https://github.com/siddiquelatif/URDU-Dataset",
    cite="Latif, Qayyum, Usman & Qadir, Cross Lingual Speech Emotion Recognition: Urdu vs. Western, 2018",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=400,
        speakers=38,
        per_emotion=dict.fromkeys(EMOTIONS.values(), 100),
        source="Latif et al. 2018 (27 men, 11 women; the file names know 29 speakers, not SM8–SM16)",
        also={"EmoBox": 400},
    ),
    reader=by_name("urdu", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
