"""MESD: Mexican Spanish words in six emotions, by women, men and children.

The names do not say which of the eleven persons speaks, only the kind of voice. ``speaker`` is therefore the
kind (``C`` child, ``F`` woman, ``M`` man): no person is then on two sides of a split.
"""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, by_name, code

EMOTIONS = {
    "ANGER": "anger",
    "DISGUST": "disgust",
    "FEAR": "fear",
    "HAPPINESS": "happiness",
    "NEUTRAL": "neutral",
    "SADNESS": "sadness",
}
VOICES = {"C": "child", "F": "woman", "M": "man"}
GENDERS: dict[str, Gender] = {"F": "female", "M": "male"}  # of a child, the names do not say

# emotion, voice, word list (A: the same words in every emotion, B: words of that emotion), word
PATTERN = re.compile(r"([A-Z]+)_([A-Z])_([AB])_(\w+)", re.IGNORECASE)
EXAMPLE = "Anger_F_A_abajo.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not Emotion_Voice_List_word (Anger_F_A_abajo)"
    label, voice, _list, word = clip.match(PATTERN, rule).groups()
    code(VOICES, voice.upper(), "voice")
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, label.upper(), "emotion"),
        raw=label.capitalize(),
        speaker=voice.upper(),
        gender=GENDERS.get(voice.upper()),
        sentence=word.lower(),
        text=word.lower().replace("_", " "),  # as in the names: without accents
    )


CORPUS = Corpus(
    name="mesd",
    title="Mexican Emotional Speech Database",
    languages=("es",),
    licence="CC BY 4.0",
    url="https://data.mendeley.com/datasets/cy34mh68j9",
    cite="Duville, Alonso-Valerdi & Ibarra-Zarate, Mexican Emotional Speech Database, Data 6(12), 2021",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=864,
        speakers=11,
        per_emotion=dict.fromkeys(EMOTIONS.values(), 144),
        source="Duville et al. 2021, data.mendeley.com (3 women, 2 men, 6 children; the names say no more)",
        also={"EmoBox": 862},
    ),
    reader=by_name("mesd", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=r"(Anger|Disgust|Fear|Happiness|Neutral|Sadness)_[CFM]_[AB]_\w+",
)
