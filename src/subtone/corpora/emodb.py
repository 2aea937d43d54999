"""EmoDB: ten German actors say ten sentences in seven emotions."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, by_name, code

EMOTIONS = {
    "W": "anger",  # Wut, Ärger
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}
# docs.audeering.com/datasets/datasets/emodb: speaker -> gender, age
SPEAKERS: dict[str, tuple[Gender, float]] = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

# speaker, sentence, emotion, version
PATTERN = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])", re.IGNORECASE)
EXAMPLE = "03a01Fa.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not speaker, sentence, emotion letter and version joined (two digits, a01, W, a)"
    speaker, sentence, letter, _version = clip.match(PATTERN, rule).groups()
    emotion = code(EMOTIONS, letter.upper(), "emotion letter")
    code(dict.fromkeys(SPEAKERS, ""), speaker, "speaker")
    gender, age = SPEAKERS[speaker]
    return Row(
        file=clip.path,
        emotion=emotion,
        raw=letter.upper(),
        speaker=speaker,
        gender=gender,
        sentence=sentence.lower(),
        text=code(TEXTS, sentence.lower(), "sentence"),
        age=age,
    )


CORPUS = Corpus(
    name="emodb",
    title="Berlin Database of Emotional Speech",
    languages=("de",),
    licence="CC0 1.0",
    url="http://emodb.bilderbar.info",
    cite="Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss, A Database of German Emotional Speech, 2005",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=535,
        speakers=10,
        per_emotion={
            "anger": 127,
            "boredom": 81,
            "disgust": 46,
            "fear": 69,
            "happiness": 71,
            "sadness": 62,
            "neutral": 79,
        },
        source="Burkhardt et al. 2005 (the 535 of about 800 takes that listeners recognised)",
        also={"EmoBox": 535},
    ),
    reader=by_name("emodb", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
