"""IEMOCAP: ten actors in five dyadic sessions, scripted and improvised.

Labels, times and ratings are in ``Session*/dialog/EmoEvaluation/*.txt``, words in ``dialog/transcriptions``,
a file a turn in ``sentences/wav``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from subtone.corpora.annotated import Clips, find_files, number, read_text, require_rows
from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Duplicates, check_folder
from subtone.errors import CorpusError, nearest

NAME = "iemocap"
EXAMPLE = "Ses01F_impro01_F000.wav"

CODES: dict[str, str | None] = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
    "xxx": None,  # the raters did not agree
}
# The field's four-class task: excitement counts as happiness, here and nowhere else. 5,531 turns.
FOUR: dict[str, str] = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "happiness",
    "neu": "neutral",
    "sad": "sadness",
}

# Ses01F_impro01_M003: session 1, recorded with the markers on the female actor, spoken by the male one.
TURN = re.compile(
    r"Ses(?P<session>\d{2})[FM]_(?P<scene>impro\d{2}|script\d{2}_\d)[a-z]?_(?P<speaker>[FM])[\dX]+"
)
_LINE = re.compile(
    r"\[\s*(?P<start>[\d.]+)\s*-\s*(?P<end>[\d.]+)\s*\]\s+(?P<turn>\S+)\s+(?P<code>\S+)\s+"
    r"\[\s*(?P<valence>[\d.]+)\s*,\s*(?P<arousal>[\d.]+)\s*,\s*(?P<dominance>[\d.]+)\s*\]"
)
_WORDS = re.compile(r"(?P<turn>Ses\w+)\s+\[[\d.\s-]+\]\s*:\s*(?P<text>.*)")


def read(folder: Path, *, classes: int | str | None = None, duplicates: Duplicates = "error") -> Reading:
    """Read a copy of IEMOCAP; see :meth:`subtone.corpora.base.Corpus.read`.

    ``sentence`` is the script of a scripted turn (the pairs of all sessions play the same ones) and ``<NA>``
    for improvised turns. ``valence``, ``arousal`` and ``dominance`` are the raters' means on scales from 1 to
    5.

    Parameters
    ----------
    folder
        The release, or anything above it.
    classes
        None: every turn, excitement and frustration as themselves, ``<NA>`` where the raters disagree; 4:
        anger, happiness with excitement, neutral, sadness; 10: the turns that have a label, unmerged.
    duplicates
        See :func:`subtone.corpora.names.read_names`.

    Returns
    -------
    Reading
        Turns of the evaluation files whose audio is not there are in ``missing``; turns of other classes and
        audio without a line in those files in ``excluded``.

    Raises
    ------
    CorpusError
        If there is no evaluation file or no audio, or a line breaks the format.
    """
    if classes is not None and str(classes) not in ("4", "10"):
        raise CorpusError(
            f"corpus {NAME!r}: classes={classes!r} is not 4 (excitement in happiness), 10 (as labelled) "
            "or None (every turn)"
        )
    emotions: dict[str, str] | dict[str, str | None] = FOUR if str(classes) == "4" else CODES
    root = check_folder(NAME, folder)
    reading = Reading()
    documents = find_files(root, lambda name: name.lower().endswith(".txt"))
    turns = _turns(root, documents)
    texts = _transcripts(documents)
    if not texts:
        reading.notes.append("no transcription file (dialog/transcriptions/*.txt): the column text is empty")
    clips = Clips(NAME, root, duplicates, key=lambda clip: clip.stem if TURN.fullmatch(clip.stem) else None)
    for name, (row, where) in turns.items():
        file = clips.take(name, reading)
        emotion = emotions.get(str(row.raw))
        if classes is not None and emotion is None:
            if file is not None:
                reading.excluded.append((str(file), f"{row.raw} is not one of the {classes} classes"))
        elif file is None:
            reading.missing.append((f"{name}.wav", where))
        else:
            reading.rows.append(replace(row, file=file, emotion=emotion, text=texts.get(name)))
    reading.excluded += [(str(path), "has no line in an evaluation file") for path in clips.unused()]
    require_rows(NAME, root, reading, "evaluation files", clips, EXAMPLE)
    return reading


def _turns(root: Path, documents: list[Path]) -> dict[str, tuple[Row, str]]:
    """Turn → row without its file, and where it stands."""
    # Direct children only: the folders inside EmoEvaluation hold the opinions of single raters.
    files = [path for path in documents if path.parent.name.lower() == "emoevaluation"]
    if not files:
        raise CorpusError(
            f"corpus {NAME!r}: {root}: holds no Session*/dialog/EmoEvaluation/*.txt, where the labels are; "
            "give the folder of the release (a copy of the audio alone cannot be read)"
        )
    turns: dict[str, tuple[Row, str]] = {}
    for path in files:
        for line_number, line in enumerate(read_text(NAME, path).splitlines(), 1):
            # Only the summary of a turn starts with its times: the header starts with %, single raters with
            # C- or A-.
            if not line.strip().startswith("["):
                continue
            where = f"{path.relative_to(root)}, line {line_number}"
            name, row = _turn(line.strip(), where)
            before = turns.setdefault(name, (row, where))
            if before[0] != row:
                raise CorpusError(
                    f"corpus {NAME!r}: {where}: {name} is labelled otherwise in {before[1]}; remove one"
                )
    return turns


def _turn(line: str, where: str) -> tuple[str, Row]:
    """Read the summary line of a turn."""
    found = _LINE.fullmatch(line)
    turn = TURN.fullmatch(found["turn"]) if found else None
    if found is None or turn is None:
        raise CorpusError(
            f"corpus {NAME!r}: {where}: {line!r} is not "
            "'[start - end] TURN emotion [valence, arousal, dominance]'; restore the file"
        )
    code = found["code"].lower()
    if code not in CODES:
        raise CorpusError(f"corpus {NAME!r}: {where}: unknown emotion code {code!r}; {nearest(code, CODES)}")
    gender: Gender = "female" if turn["speaker"] == "F" else "male"
    return found["turn"], Row(
        file=Path(found["turn"]),
        raw=code,
        speaker=f"Ses{turn['session']}{turn['speaker']}",
        gender=gender,
        session=f"Ses{turn['session']}",
        sentence=turn["scene"] if turn["scene"].startswith("script") else None,
        valence=number(NAME, where, found["valence"]),
        arousal=number(NAME, where, found["arousal"]),
        dominance=number(NAME, where, found["dominance"]),
    )


def _transcripts(documents: list[Path]) -> dict[str, str]:
    """Turn → words."""
    texts: dict[str, str] = {}
    for path in documents:
        if path.parent.name.lower() != "transcriptions":
            continue
        for line in read_text(NAME, path).splitlines():
            found = _WORDS.fullmatch(line.strip())
            if found and found["text"].strip():
                texts[found["turn"]] = found["text"].strip()
    return texts


CORPUS = Corpus(
    name=NAME,
    title="IEMOCAP: Interactive Emotional Dyadic Motion Capture Database",
    languages=("en",),
    licence="USC licence agreement, research only",
    url="https://sail.usc.edu/iemocap/",
    cite="Busso et al., IEMOCAP: interactive emotional dyadic motion capture database, LRE 42, 2008",
    emotions=(
        "anger",
        "happiness",
        "excitement",
        "sadness",
        "neutral",
        "frustration",
        "fear",
        "surprise",
        "disgust",
        "other",
    ),
    published=Published(
        clips=10_039,
        speakers=10,
        per_emotion={
            "anger": 1103,
            "happiness": 595,
            "excitement": 1041,
            "sadness": 1084,
            "neutral": 1708,
            "frustration": 1849,
            "fear": 40,
            "surprise": 107,
            "disgust": 2,
            "other": 3,
        },
        source="the evaluation files of the full release; 2,507 further turns have no agreed label",
        also={"four classes, excitement in happiness": 5531},
    ),
    reader=read,
    example=EXAMPLE,
    pattern=TURN.pattern,
)
