"""EMOVO: six Italian actors say fourteen sentences in seven emotions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from subtone.corpora.base import Corpus, Gender, Published, Row
from subtone.corpora.names import Clip, by_name, code

EMOTIONS = {
    "dis": "disgust",  # disgusto
    "gio": "happiness",  # gioia
    "neu": "neutral",
    "pau": "fear",  # paura
    "rab": "anger",  # rabbia
    "sor": "surprise",  # sorpresa
    "tri": "sadness",  # tristezza
}
SPEAKERS: dict[str, Gender] = {
    "f1": "female",
    "f2": "female",
    "f3": "female",
    "m1": "male",
    "m2": "male",
    "m3": "male",
}
# b short, l long, n without sense, d questions
TEXTS = {
    "b1": "Gli operai si alzano presto.",
    "b2": "I vigili sono muniti di pistola.",
    "b3": "La cascata fa molto rumore.",
    "l1": "L'autunno prossimo Tony partirà per la Spagna nella prima metà di ottobre.",
    "l2": "Ora prendo la felpa di là ed esco per fare una passeggiata.",
    "l3": "Un attimo dopo s'è incamminato ... ed è inciampato.",
    "l4": "Vorrei il numero telefonico del Signor Piatti.",
    "n1": "La casa forte vuole col pane.",
    "n2": "La forza trova il passo e l'aglio rosso.",
    "n3": "Il gatto sta scorrendo nella pera.",
    "n4": "Insalata pastasciutta coscia d'agnello limoncello.",
    "n5": "Uno quarantatré dieci mille cinquantasette venti.",
    "d1": "Sabato sera cosa farà?",
    "d2": "Porti con te quella cosa?",
}

# emotion, speaker, sentence
PATTERN = re.compile(r"([a-z]{3})-([fm]\d)-([a-z]\d)", re.IGNORECASE)
EXAMPLE = "dis-f1-b1.wav"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    rule = "the name is not emotion-speaker-sentence (dis-f1-b1)"
    label, speaker, sentence = (part.lower() for part in clip.match(PATTERN, rule).groups())
    code(dict.fromkeys(SPEAKERS, ""), speaker, "speaker")
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, label, "emotion code"),
        raw=label,
        speaker=speaker,
        gender=SPEAKERS[speaker],
        sentence=sentence,
        text=code(TEXTS, sentence, "sentence code"),
    )


def design() -> Iterator[str]:
    """Yield the stems of all 588 clips."""
    return (
        f"{label}-{speaker}-{sentence}" for label, speaker, sentence in product(EMOTIONS, SPEAKERS, TEXTS)
    )


CORPUS = Corpus(
    name="emovo",
    title="EMOVO: an Italian emotional speech database",
    languages=("it",),
    licence="free for research",
    url="http://voice.fub.it/activities/corpora/emovo/index.html",
    cite="Costantini, Iaderola, Paoloni & Todisco, EMOVO: an Italian Emotional Speech Database, LREC 2014",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=588,
        speakers=6,
        per_emotion=dict.fromkeys(EMOTIONS.values(), 84),
        source="Costantini et al. 2014",
        also={"EmoBox": 588},
    ),
    reader=by_name("emovo", parse, EXAMPLE),
    example=EXAMPLE,
    pattern=PATTERN.pattern,
    design=design,
)
