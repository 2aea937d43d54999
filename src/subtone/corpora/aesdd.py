"""AESDD: Greek actors say twenty utterances in five emotions."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Published, Row
from subtone.corpora.names import Clip, UnknownName, by_name, code

EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "S": "sadness"}

# emotion letter and utterance, speaker, sometimes the letter of a further take; blanks may have become _
PATTERN = re.compile(r"([a-z])(\d\d)[ _]*\((\d{1,2})\)[ _]*([a-z]?)", re.IGNORECASE)
EXAMPLE = "a01 (1).wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not emotion letter and utterance, then the speaker in brackets (a01 (1))"
    letter, utterance, speaker, _take = clip.match(PATTERN, rule).groups()
    emotion = code(EMOTIONS, letter.upper(), "emotion letter")
    if not 1 <= int(utterance) <= 20:
        raise UnknownName(f"utterance {utterance!r} is not one of 01–20")
    return Row(
        file=clip.path,
        emotion=emotion,
        raw=letter.lower(),
        speaker=str(int(speaker)),  # (01) is (1): it stands where speaker 1's takes of those utterances lack
        # Utterance 20 is improvised, so its words differ; 1-19 are the same in every emotion.
        sentence=utterance if int(utterance) < 20 else f"{letter.lower()}20-{int(speaker)}",
    )


CORPUS = Corpus(
    name="aesdd",
    title="Acted Emotional Speech Dynamic Database",
    languages=("el",),
    licence="CC BY 4.0",
    url="http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/",
    cite="Vryzas, Kotsakis, Liatsou, Dimoulas & Kalliris, Speech Emotion Recognition for Performance "
    "Interaction, J. Audio Eng. Soc. 66(6), 2018",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=604,
        speakers=6,
        per_emotion={"anger": 121, "disgust": 122, "fear": 120, "happiness": 119, "sadness": 122},
        source="as distributed, with the sixth actor; the version of 2018 had five actors, about 500 clips",
        also={"EmoBox": 604},
    ),
    reader=by_name("aesdd", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
