"""RAVDESS: 24 North American actors say two sentences in eight emotions, two intensities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

from subtone.corpora.base import Corpus, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, NotSpeech, code, read_names

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
MODALITIES = {"01": "sound with picture", "02": "picture only", "03": "sound only"}
CHANNELS = {"01": "speech", "02": "song"}
ACTORS = {f"{number:02d}": "male" if number % 2 else "female" for number in range(1, 25)}

# modality, vocal channel, emotion, intensity, statement, repetition, actor
PATTERN = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
EXAMPLE = "03-01-06-01-02-01-12.wav"


def parse(clip: Clip, *, songs: bool) -> Row:
    """Read one file name; only sound files of speech (of songs too, if asked) make a row."""
    rule = "the name is not seven numbers of two digits joined by '-'"
    modality, channel, emotion, intensity, statement, repetition, actor = clip.match(PATTERN, rule).groups()
    kind = code(MODALITIES, modality, "modality code")
    sung = code(CHANNELS, channel, "vocal channel code") == "song"
    row = Row(
        file=clip.path,
        emotion=code(EMOTIONS, emotion, "emotion code"),
        raw=emotion,
        speaker=actor,
        gender="male" if code(ACTORS, actor, "actor") == "male" else "female",
        intensity=code(INTENSITIES, intensity, "intensity code"),
        sentence=statement,
        text=code(STATEMENTS, statement, "statement code"),
    )
    code({"01": "first", "02": "second"}, repetition, "repetition")
    if kind != "sound only":
        raise NotSpeech(f"{kind} (modality {modality}), the same take as its sound-only file")
    if sung and not songs:
        raise NotSpeech("a song (vocal channel 02); pass songs=True to read it")
    return row


def read(
    folder: Path, *, songs: bool = False, skip_unknown: bool = False, duplicates: Duplicates = "error"
) -> Reading:
    """Read the speech files (vocal channel 01); ``songs=True`` reads the songs too."""
    return read_names(
        "ravdess",
        folder,
        partial(parse, songs=songs),
        example=EXAMPLE,
        skip_unknown=skip_unknown,
        duplicates=duplicates,
    )


def design() -> Iterator[str]:
    """Yield the stems of all 1,440 speech clips."""
    for emotion, level, statement, take, actor in product(
        EMOTIONS, INTENSITIES, STATEMENTS, ("01", "02"), ACTORS
    ):
        if (emotion, level) != ("01", "02"):  # neutral has one intensity
            yield f"03-01-{emotion}-{level}-{statement}-{take}-{actor}"


CORPUS = Corpus(
    name="ravdess",
    title="Ryerson Audio-Visual Database of Emotional Speech and Song, speech part",
    languages=("en",),
    licence="CC BY-NC-SA 4.0",
    url="https://zenodo.org/records/1188976",
    cite="Livingstone & Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, 2018",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=1440,
        speakers=24,
        # 24 actors x 2 statements x 2 repetitions x 2 intensities; neutral has one intensity
        per_emotion={emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS.values()},
        source="Livingstone & Russo 2018; zenodo.org/records/1188976",
        also={"EmoBox": 1440},
    ),
    reader=read,
    example=EXAMPLE,
    pattern=PATTERN.pattern,
    design=design,
)
