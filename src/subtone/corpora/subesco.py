"""SUBESCO: twenty speakers of Bangla say ten sentences in seven emotions, five takes each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

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
SPEAKERS = (
    *("F_01_OISHI", "F_02_MONIKA", "F_03_SMITA", "F_04_SWARNALI", "F_05_MOUNI"),
    *("F_06_SIMI", "F_07_TITHI", "F_08_JOYEETA", "F_09_CHAITY", "F_10_FAHMEE"),
    *("M_01_BASHIR", "M_02_NIPUN", "M_03_ILIAS", "M_04_BIBHAS", "M_05_DURANTO"),
    *("M_06_SHUKANTO", "M_07_SIBLY", "M_08_PRASUN", "M_09_SHUMANTA", "M_10_EVAN"),
)

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


def design() -> Iterator[str]:
    """Yield the stems of all 7,000 clips."""
    for speaker, sentence, label, take in product(SPEAKERS, range(1, 11), EMOTIONS, range(1, 6)):
        yield f"{speaker}_S_{sentence}_{label}_{take}"


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
    design=design,
)
