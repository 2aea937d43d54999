"""ASED: 65 speakers of Amharic say sentences in five emotions.

Sentences 01–05 were written for each emotion apart, so that the words give the emotion away; only 06 and 07
are common to all. The column ``sentence`` therefore holds the class too where the number is below 06.
"""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, UnknownName, by_name, code

# class letter and the number of its folder
EMOTIONS = {"n1": "neutral", "f2": "fear", "h3": "happiness", "s4": "sadness", "a5": "anger"}
GENDERS: dict[str, Gender] = {"01": "female", "02": "male"}
# Their names say 02, but all other clips of these five women say 01, and so does the ear.
MISNAMED = frozenset(
    {"s4-01-02-02-09", "f2-01-01-02-15", "f2-07-02-02-21", "s4-04-01-02-23", "f2-02-01-02-25"}
)

# class letter and number, sentence, repetition, gender, speaker
PATTERN = re.compile(r"([nfhsa]\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)", re.IGNORECASE)
EXAMPLE = "n1-01-01-01-20.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not class-sentence-repetition-gender-speaker (n1-01-01-01-20)"
    label, sentence, _repetition, gender, speaker = clip.match(PATTERN, rule).groups()
    label = label.lower()  # one file has a capital letter
    emotion = code(EMOTIONS, label, "class")
    if not 1 <= int(sentence) <= 7:
        raise UnknownName(f"sentence {sentence!r} is not one of 01–07")
    code({"01": "", "02": ""}, gender, "gender code")
    return Row(
        file=clip.path,
        emotion=emotion,
        raw=label[0],
        speaker=speaker,
        gender="female" if clip.stem.lower() in MISNAMED else GENDERS[gender],
        sentence=sentence if sentence in ("06", "07") else f"{label[0]}-{sentence}",
    )


CORPUS = Corpus(
    name="ased",
    title="Amharic Speech Emotion Dataset, version 1",
    languages=("am",),
    licence="none stated; cite the paper",
    url="https://github.com/Ethio2021/ASED_V1",
    cite="Retta et al., A New Amharic Speech Emotion Dataset and Classification Benchmark, ACM TALLIP 2023",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=2474,
        speakers=65,
        per_emotion={"neutral": 522, "fear": 510, "happiness": 486, "sadness": 470, "anger": 486},
        source="Retta et al. 2022 (arXiv 2201.02710) for clips and speakers; classes as distributed",
        also={"EmoBox": 2474},
    ),
    reader=by_name("ased", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
