"""CREMA-D: 91 actors say twelve sentences in six emotions."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, UnknownName, check_folder, code, read_names
from subtone.corpora.sidecars import find_file, read_rows

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high"}
UNSPECIFIED = ("XX", "X")  # one file is called 1040_ITH_SAD_X
TEXTS = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
# The 43 women of VideoDemographics.csv, for copies without that file.
# fmt: off
WOMEN = frozenset([
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028,
    1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063,
    1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091,
])
# fmt: on

# actor, sentence, emotion, intensity
PATTERN = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", re.IGNORECASE)
EXAMPLE = "1001_DFA_ANG_XX.wav"


def parse(clip: Clip, *, people: dict[str, dict[str, str]]) -> Row:
    """Read one file name and what the demographics say of the actor."""
    rule = "the name is not ACTOR_SENTENCE_EMOTION_LEVEL (1001_DFA_ANG_XX)"
    actor, sentence, label, level = clip.match(PATTERN, rule).groups()
    sentence, label, level = sentence.upper(), label.upper(), level.upper()
    if not 1001 <= int(actor) <= 1091:
        raise UnknownName(f"actor {actor!r} is not one of 1001–1091")
    if level not in INTENSITIES and level not in UNSPECIFIED:
        raise UnknownName(f"level {level!r} is not one of {', '.join(INTENSITIES)}, XX")
    person = people.get(actor, {})
    genders: dict[str, Gender] = {"female": "female", "male": "male"}
    age = person.get("Age", "")
    return Row(
        file=clip.path,
        emotion=code(EMOTIONS, label, "emotion code"),
        raw=label,
        speaker=actor,
        gender=genders.get(person.get("Sex", "").lower(), "female" if int(actor) in WOMEN else "male"),
        intensity=INTENSITIES.get(level),
        sentence=sentence,
        text=code(TEXTS, sentence, "sentence code"),
        age=float(age) if age.isdigit() else None,
    )


def read(folder: Path, *, skip_unknown: bool = False, duplicates: Duplicates = "error") -> Reading:
    """Read names, and ages from VideoDemographics.csv where it is there.

    The official repository holds each clip as WAV, MP3 and video; the WAV is read.
    """
    root = check_folder("cremad", folder)
    table = find_file(root, "VideoDemographics.csv")
    people: dict[str, dict[str, str]] = {}
    if table is not None:
        people = {line["ActorID"]: line for line in read_rows("cremad", table, ("ActorID", "Age", "Sex"))}
    reading = read_names(
        "cremad",
        root,
        partial(parse, people=people),
        example=EXAMPLE,
        skip_unknown=skip_unknown,
        duplicates=duplicates,
        prefer=("AudioWAV", "AudioMP3"),
    )
    if table is None:
        reading.notes.append("VideoDemographics.csv is not there: no age")
    return reading


CORPUS = Corpus(
    name="cremad",
    title="Crowd-sourced Emotional Multimodal Actors Dataset",
    languages=("en",),
    licence="ODbL 1.0",
    url="https://github.com/CheyneyComputerScience/CREMA-D",
    cite="Cao, Cooper, Keutmann, Gur, Nenkova & Verma, CREMA-D, IEEE Trans. Affective Computing 5(4), 2014",
    emotions=tuple(EMOTIONS.values()),
    published=Published(
        clips=7442,
        speakers=91,
        # intended emotions; the crowd's votes lie in other files
        per_emotion={emotion: 1087 if emotion == "neutral" else 1271 for emotion in EMOTIONS.values()},
        source="Cao et al. 2014 and the repository",
        also={"EmoBox": 7442},
    ),
    reader=read,
    example=EXAMPLE,
    pattern=r"1\d{3}_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}",
)
