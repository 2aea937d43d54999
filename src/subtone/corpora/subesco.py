"""SUBESCO: twenty speakers of Bangla say ten sentences in seven emotions, five takes each."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, UnknownName, by_name, code

EMOTIONS = {
    "ANGRY": "anger",
    "DISGUST": "disgust",
    "FEAR": "fear",
    "HAPPY": "happiness",
    "NEUTRAL": "neutral",
    "SAD": "sadness",
    "SURPRISE": "surprise",
}
GENDERS: dict[str, Gender] = {"F": "female", "M": "male"}

# gender, number and name of the speaker, sentence, emotion, take; one file has a stray ] at its end
PATTERN = re.compile(r"([FM])_(\d\d)_([A-Z]+)_S_(\d{1,2})_([A-Z]+)_(\d)\]?", re.IGNORECASE)
EXAMPLE = "F_01_OISHI_S_10_ANGRY_1.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not GENDER_NUMBER_NAME_S_SENTENCE_EMOTION_TAKE (F_01_OISHI_S_10_ANGRY_1)"
    gender, number, _name, sentence, label, _take = clip.match(PATTERN, rule).groups()
    if not 1 <= int(sentence) <= 10:
        raise UnknownName(f"sentence {sentence!r} is not one of 1–10")
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, label.upper(), "emotion"),
        raw=label.upper(),
        speaker=f"{gender.upper()}_{number}",
        gender=GENDERS[gender.upper()],
        sentence=sentence,
    )


CORPUS = Corpus(
    name="subesco",
    title="SUST Bangla Emotional Speech Corpus",
    languages=("bn",),
    licence="CC BY 4.0",
    url="https://zenodo.org/records/4526477",
    cite="Sultana, Rahman, Selim & Iqbal, SUST Bangla Emotional Speech Corpus, PLoS ONE 16(4), 2021",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=7000,
        speakers=20,
        per_emotion=dict.fromkeys(EMOTIONS.values(), 1000),
        source="Sultana et al. 2021",
        also={"EmoBox": 7000},
    ),
    reader=by_name("subesco", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
