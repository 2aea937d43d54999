"""TESS: two women say "Say the word …" with 200 words in seven emotions."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Published, Row
from subtone.corpora.names import Clip, by_name, code

EMOTIONS = {
    "ANGRY": "anger",
    "DISGUST": "disgust",
    "FEAR": "fear",
    "HAPPY": "happiness",
    "NEUTRAL": "neutral",
    "PS": "surprise",  # pleasant surprise
    "SAD": "sadness",
}
AGES = {"OAF": 64.0, "YAF": 26.0}  # older and younger adult female

# speaker, word, emotion; the official tree has one slip, OA_bite_neutral
PATTERN = re.compile(r"([OY])AF?_([a-z]+)_([a-z]+)", re.IGNORECASE)
EXAMPLE = "OAF_back_angry.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    letter, word, label = clip.match(PATTERN, "the name is not OAF_word_emotion or YAF_word_emotion").groups()
    speaker = f"{letter.upper()}AF"
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, label.upper(), "emotion"),
        raw=label.lower(),
        speaker=speaker,
        gender="female",
        sentence=word.lower(),
        text=f"Say the word {word.lower()}",
        age=AGES[speaker],
    )


CORPUS = Corpus(
    name="tess",
    title="Toronto Emotional Speech Set",
    languages=("en",),
    licence="CC BY-NC-ND 4.0",
    url="https://doi.org/10.5683/SP2/E8H2MF",
    cite="Pichora-Fuller & Dupuis, Toronto emotional speech set (TESS), Scholars Portal Dataverse, 2020",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=2800,
        speakers=2,
        per_emotion=dict.fromkeys(EMOTIONS.values(), 400),
        source="Pichora-Fuller & Dupuis 2020",
        also={"EmoBox": 2800},
    ),
    reader=by_name("tess", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=r"[OY]AF?_[a-z]+_(angry|disgust|fear|happy|neutral|ps|sad)",
)
