"""BAVED: speakers of Arabic say seven words at three levels of emotion.

The corpus has no emotion classes: the column ``emotion`` is ``<NA>`` and ``intensity`` holds the level.
Speakers 46 and 53 are one person: each recording of the one is there again under the other's number. The
table keeps the numbers of the names; leave one of the two out where no speaker may be on two sides.
"""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, by_name, code

LEVELS = {"0": "low", "1": "neutral", "2": "high"}
GENDERS: dict[str, Gender] = {"f": "female", "m": "male"}
# As its own description spells them.
WORDS = {
    "0": "اعجبني",
    "1": "لم يعجبني",
    "2": "هذا",
    "3": "الفيلم",
    "4": "رائع",
    "5": "مقول",
    "6": "سيئ",
}

# speaker, sex, age, word, level, number of the recording
PATTERN = re.compile(r"(\d+)-([fm])-(\d+)-(\d)-(\d)-(\d+)", re.IGNORECASE)
EXAMPLE = "10-f-20-3-1-822.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not speaker-sex-age-word-level-record"
    speaker, sex, age, word, level, _record = clip.match(PATTERN, rule).groups()
    return Row(
        file=clip.path,
        raw=level,
        speaker=speaker,
        gender=GENDERS[sex.lower()],
        intensity=code(LEVELS, level, "level"),
        sentence=word,
        text=code(WORDS, word, "word"),
        age=float(age),
    )


CORPUS = Corpus(
    name="baved",
    title="Basic Arabic Vocal Emotions Dataset",
    languages=("ar",),
    licence="none stated",
    url="https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset",
    cite="Aouf, Basic Arabic Vocal Emotions Dataset, 2019",
    emotions=(),
    published=Published(
        clips=1935,
        speakers=61,
        source="the dataset's description (45 men, 16 women; its file names hold 60 speaker numbers)",
    ),
    reader=by_name("baved", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
)
