"""MSP-IMPROV: twelve actors in six sessions improvise around twenty target sentences.

Labels are in ``Evalution.txt`` (sic), audio in ``session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav``: target
sentence 01 played with anger, speaker F01, recorded in part P, turn FM01.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from subtone.corpora.annotated import Clips, find_files, number, read_text, require_rows
from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Duplicates, check_folder
from subtone.errors import CorpusError

NAME = "msp-improv"
EXAMPLE = "MSP-IMPROV-S01A-F01-P-FM01.wav"

CODES: dict[str, str | None] = {
    "A": "anger",
    "H": "happiness",
    "S": "sadness",
    "N": "neutral",
    "O": "other",
    "X": None,  # the raters did not agree
}
# The label file says UTD-IMPROV-…avi where the audio is called MSP-IMPROV-…wav.
STEM = re.compile(
    r"(?:MSP|UTD)-IMPROV-(?P<turn>S(?P<sentence>\d{2})[A-Z]-(?P<speaker>(?P<gender>[FM])(?P<session>\d{2}))"
    r"-(?P<part>[PRST])-[FM]{2}\d+)",
    re.IGNORECASE,
)
_RATING = re.compile(r"(?P<name>[AVDN])\s*:\s*(?P<value>\S+)")


def read(folder: Path, *, duplicates: Duplicates = "error") -> Reading:
    """Read a copy of MSP-IMPROV; see :meth:`subtone.corpora.base.Corpus.read`.

    ``emotion`` is what the raters heard, not what was played. ``sentence`` is the target sentence in the read
    (R) and target-improvised (S) parts, ``<NA>`` in the free turns (P, T). ``arousal``, ``valence`` and
    ``dominance`` are the raters' means on scales from 1 to 5.

    Parameters
    ----------
    folder
        The release, or anything above it.
    duplicates
        See :func:`subtone.corpora.names.read_names`.

    Returns
    -------
    Reading
        Labelled turns without audio are in ``missing``, audio without a label in ``excluded``.

    Raises
    ------
    CorpusError
        If there is no label file or no audio, or a line breaks the format.
    """
    root = check_folder(NAME, folder)
    labels = find_files(root, lambda name: name.lower() in ("evalution.txt", "evaluation.txt"))
    if not labels:
        raise CorpusError(
            f"corpus {NAME!r}: {root}: holds no Evalution.txt, where the labels are; "
            "give the folder of the release"
        )
    reading = Reading()

    def turn_of(stem: str) -> str | None:
        found = STEM.fullmatch(stem)
        return found["turn"].upper() if found else None

    clips = Clips(NAME, root, duplicates, key=lambda clip: turn_of(clip.stem))
    texts = {
        turn_of(path.stem): path for path in find_files(root, lambda name: name.lower().endswith(".txt"))
    }
    for turn, (row, where) in _evaluations(labels[0], root).items():
        file = clips.take(turn, reading)
        if file is None:
            reading.missing.append((f"MSP-IMPROV-{turn}.wav", where))
            continue
        words = read_text(NAME, texts[turn]).split() if turn in texts else []
        reading.rows.append(replace(row, file=file, text=" ".join(words) or None))
    reading.excluded += [(str(path), f"has no line in {labels[0].name}") for path in clips.unused()]
    require_rows(NAME, root, reading, labels[0].name, clips, EXAMPLE)
    return reading


def _evaluations(path: Path, root: Path) -> dict[str, tuple[Row, str]]:
    """Turn → row without its file, and where it stands."""
    turns: dict[str, tuple[Row, str]] = {}
    for line_number, line in enumerate(read_text(NAME, path).splitlines(), 1):
        cells = [cell.strip() for cell in line.split(";")]
        # The summary of a turn starts with its video's name; the lines below it are single raters.
        if not cells[0].lower().endswith((".avi", ".wav", ".mp4")):
            continue
        where = f"{path.relative_to(root)}, line {line_number}"
        found = STEM.fullmatch(cells[0].rsplit(".", 1)[0])
        if found is None:
            raise CorpusError(
                f"corpus {NAME!r}: {where}: {cells[0]!r} is not named like UTD-IMPROV-S01A-F01-P-FM01.avi"
            )
        code = cells[1].upper() if len(cells) > 1 else ""
        if code not in CODES:
            raise CorpusError(f"corpus {NAME!r}: {where}: emotion {code!r} is not one of {', '.join(CODES)}")
        ratings = {
            rating["name"]: number(NAME, where, rating["value"])
            for rating in map(_RATING.fullmatch, cells[2:])
            if rating
        }
        gender: Gender = "female" if found["gender"].upper() == "F" else "male"
        row = Row(
            file=Path(cells[0]),
            emotion=CODES[code],
            raw=code,
            speaker=found["speaker"].upper(),
            gender=gender,
            session=str(int(found["session"])),
            sentence=f"S{found['sentence']}" if found["part"].upper() in "RS" else None,
            arousal=ratings.get("A"),
            valence=ratings.get("V"),
            dominance=ratings.get("D"),
        )
        before = turns.setdefault(found["turn"].upper(), (row, where))
        if before[0] != row:
            raise CorpusError(
                f"corpus {NAME!r}: {where}: {cells[0]} is labelled otherwise in {before[1]}; restore the file"
            )
    return turns


CORPUS = Corpus(
    name=NAME,
    title="MSP-IMPROV",
    languages=("en",),
    licence="UT Dallas licence agreement, research only",
    url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
    cite="Busso et al., MSP-IMPROV: an acted corpus of dyadic interactions to study emotion perception, 2017",
    emotions=tuple(emotion for emotion in CODES.values() if emotion),
    published=Published(
        clips=8438,
        speakers=12,
        source="Busso et al. 2017",
        also={"four classes (anger, happiness, neutral, sadness)": 7798},
    ),
    reader=read,
    example=EXAMPLE,
    pattern=STEM.pattern,
)
