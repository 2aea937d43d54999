"""SAVEE: four British men say TIMIT sentences in seven emotions."""

from __future__ import annotations

import re

from subtone.corpora.base import Corpus, Published, Row
from subtone.corpora.names import Clip, UnknownName, by_name, code

EMOTIONS = {
    "A": "anger",
    "D": "disgust",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
SPEAKERS = {"DC": "", "JE": "", "JK": "", "KL": ""}

# speaker (or none: then the folder says), emotion letters, sentence
PATTERN = re.compile(r"(?:([A-Z]{2})_)?([a-z]{1,2})(\d\d)", re.IGNORECASE)
EXAMPLE = "DC_a01.wav"


def speaker_of(clip: Clip) -> str:
    """Find the speaker in the name, or in the folders of the official tree (``DC/a01.wav``)."""
    found = PATTERN.fullmatch(clip.stem)
    if found is not None and found[1]:
        return found[1].upper()
    return next((name.upper() for name in clip.folders if name.upper() in SPEAKERS), "")


def key(clip: Clip) -> str:
    """Give ``DC_a01.wav`` and ``DC/a01.wav`` the same key."""
    return f"{speaker_of(clip)}_{clip.stem.rpartition('_')[2]}"


def parse(clip: Clip) -> Row:
    """Read one file name."""
    _speaker, letters, sentence = clip.match(
        PATTERN, "the name is not SPEAKER_emotion and sentence (DC_a01)"
    ).groups()
    emotion = code(EMOTIONS, letters.upper(), "emotion code")
    speaker = speaker_of(clip)
    if not speaker:
        raise UnknownName(f"no speaker: neither the name nor a folder says {', '.join(SPEAKERS)}")
    code(SPEAKERS, speaker, "speaker")
    return Row(
        file=clip.path,
        emotion=emotion,
        raw=letters.lower(),
        speaker=speaker,
        gender="male",
        # The lists differ by emotion; three sentences are common to all, but the names do not say which.
        sentence=f"{letters.lower()}{sentence}",
    )


CORPUS = Corpus(
    name="savee",
    title="Surrey Audio-Visual Expressed Emotion database",
    languages=("en",),
    licence="free for research after registration",
    url="http://kahlan.eps.surrey.ac.uk/savee/",
    cite="Jackson & Haq, Surrey Audio-Visual Expressed Emotion (SAVEE) Database, University of Surrey, 2014",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=480,
        speakers=4,
        per_emotion={emotion: 120 if emotion == "neutral" else 60 for emotion in EMOTIONS.values()},
        source="Jackson & Haq 2014",
        also={"EmoBox": 480},
    ),
    reader=by_name("savee", parse, EXAMPLE, key=key),
    example=EXAMPLE,
    pattern=r"(DC|JE|JK|KL)_(a|d|f|h|n|sa|su)\d\d|(a|d|f|h|n|sa|su)\d\d",
)
