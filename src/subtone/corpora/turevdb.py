"""TurEV-DB: six amateur actors say Turkish words in four emotions."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Published, Row
from subtone.corpora.names import Clip, by_name, code

EMOTIONS = {
    "KZ": "anger",  # kızgın
    "SK": "calm",  # sakin
    "MT": "happiness",  # mutlu
    "HL": "sadness",  # hüzünlü
}

# speaker, emotion, word, sometimes the number of a further take
PATTERN = re.compile(r"(\d{4})_([a-z]{2})_([^\W\d_]+)(\d*)", re.IGNORECASE)
EXAMPLE = "1157_hl_acik.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    speaker, label, word, _take = clip.match(
        PATTERN, "the name is not SPEAKER_emotion_word (1157_hl_acik)"
    ).groups()
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, label.upper(), "emotion code"),
        raw=label.lower(),
        speaker=speaker,
        sentence=word.lower(),
    )


CORPUS = Corpus(
    name="turevdb",
    title="Turkish Emotion-Voice Database",
    languages=("tr",),
    licence="none stated; cite the paper",
    url="https://github.com/Xeonen/TurEV-DB",
    cite="Canpolat, Ormanoğlu & Zeyrek, Turkish Emotion Voice Database (TurEV-DB), SLTU-CCURL 2020",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=1735,
        speakers=6,
        per_emotion={"anger": 487, "calm": 408, "happiness": 357, "sadness": 483},
        source="as distributed; Canpolat et al. 2020 say over 1,700",
        also={"EmoBox": 1735},
    ),
    reader=by_name("turevdb", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=r"\d{4}_(kz|sk|mt|hl)_\w+",
)
