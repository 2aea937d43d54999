"""CaFE: twelve Québec French actors say six sentences in seven emotions, two intensities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from subtone.corpora.base import Corpus, Published, Row
from subtone.corpora.names import Clip, UnknownName, by_name, code

EMOTIONS = {
    "C": "anger",  # colère
    "D": "disgust",  # dégoût
    "J": "happiness",  # joie
    "N": "neutral",
    "P": "fear",  # peur
    "S": "surprise",
    "T": "sadness",  # tristesse
}
INTENSITIES = {"1": "mild", "2": "strong"}  # faible, fort
TEXTS = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}

# actor, emotion, intensity, sentence
PATTERN = re.compile(r"(\d\d)-([A-Z])-(\d)-(\d)", re.IGNORECASE)
EXAMPLE = "01-C-1-1.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not actor-emotion-intensity-sentence (01-C-1-1)"
    actor, letter, level, sentence = clip.match(PATTERN, rule).groups()
    if not 1 <= int(actor) <= 12:
        raise UnknownName(f"actor {actor!r} is not one of 01–12")
    emotion = code(EMOTIONS, letter.upper(), "emotion letter")
    intensity = code(INTENSITIES, level, "intensity code")
    return Row(
        file=clip.path,
        emotion=emotion,
        raw=letter.upper(),
        speaker=actor,
        gender="male" if int(actor) % 2 else "female",
        intensity=None if emotion == "neutral" else intensity,  # neutral was not acted at two intensities
        sentence=sentence,
        text=code(TEXTS, sentence, "sentence code"),
    )


def design() -> Iterator[str]:
    """Yield the stems of all 936 clips."""
    for actor, letter, level, sentence in product(range(1, 13), EMOTIONS, INTENSITIES, TEXTS):
        if (letter, level) != ("N", "2"):  # neutral has one intensity
            yield f"{actor:02d}-{letter}-{level}-{sentence}"


CORPUS = Corpus(
    name="cafe",
    title="Canadian French Emotional speech dataset",
    languages=("fr",),
    licence="CC BY-NC-SA 4.0",
    url="https://zenodo.org/records/1478765",
    cite="Gournay, Lahaie & Lefebvre, A Canadian French Emotional Speech Dataset, ACM MMSys 2018",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=936,
        speakers=12,
        per_emotion={emotion: 72 if emotion == "neutral" else 144 for emotion in EMOTIONS.values()},
        source="Gournay et al. 2018",
        also={"EmoBox": 936},
    ),
    # The archives hold each clip at 48 kHz (WAV) and at 192 kHz (AIFF).
    reader=by_name("cafe", parse, EXAMPLE, prefer=("CaFE_48k",)),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
    design=design,
)
