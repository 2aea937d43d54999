"""KEMDy19: forty Korean voice actors in twenty two-person sessions.

Labels are in ``annotation/Session01_F_res.csv`` … (a file a speaker), audio and words in
``wav/Session01/Sess01_impro01/Sess01_impro01_F001.wav`` and ``.txt``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from subtone.corpora.annotated import Clips, csv_lines, find_files, number, read_text, require_rows
from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.names import Duplicates, check_folder
from subtone.errors import CorpusError, nearest

NAME = "kemdy19"
EXAMPLE = "Sess01_impro01_F001.wav"
ENCODINGS = ("utf-8-sig", "cp949")

Ties = Literal["drop", "first", "keep"]
"""What becomes of a turn whose vote is tied, ``neutral;happy``."""

# The corpus spells several classes in more than one way, one of them wrongly.
CODES: dict[str, str] = {
    "angry": "anger",
    "anger": "anger",
    "sad": "sadness",
    "sadness": "sadness",
    "happy": "happiness",
    "happiness": "happiness",
    "disgust": "disgust",
    "disqust": "disgust",
    "fear": "fear",
    "surprise": "surprise",
    "neutral": "neutral",
}

SEGMENT = re.compile(r"Sess(?P<session>\d{2})_(?P<scene>(?:impro|script)\d{2})_(?P<speaker>[FM])\d{3,}")
_FILE = re.compile(r"session(?P<session>\d{2})_(?P<speaker>[fm])_res\.csv", re.IGNORECASE)

# Columns by position, because the two header rows differ between releases. Before them: number, start and end
# of the wave and of three signals; after them: the ten raters.
_SEGMENT, _EMOTION, _VALENCE, _AROUSAL = 9, 10, 11, 12


def read(folder: Path, *, ties: Ties = "drop", duplicates: Duplicates = "error") -> Reading:
    """Read a copy of KEMDy19; see :meth:`subtone.corpora.base.Corpus.read`.

    Both files of a session list the turns of both speakers. A turn is taken from its own speaker's file, and
    from the other one only where its own lacks it. ``sentence`` is the script of a scripted turn, ``<NA>``
    for improvised ones; ``valence`` and ``arousal`` are the raters' means on scales from 1 to 5.

    Parameters
    ----------
    folder
        The release, or anything above it.
    ties
        The emotion is a majority vote, and equal votes are joined by ``;``. ``"drop"`` leaves such turns out,
        ``"first"`` takes the emotion named first, ``"keep"`` keeps the turn with the emotion ``<NA>``.
    duplicates
        See :func:`subtone.corpora.names.read_names`.

    Returns
    -------
    Reading
        Dropped ties are in ``excluded``, annotated turns without audio in ``missing``.

    Raises
    ------
    CorpusError
        If there is no annotation or no audio, or a line breaks the format.
    """
    if ties not in ("drop", "first", "keep"):
        raise CorpusError(
            f"corpus {NAME!r}: unknown ties={ties!r}; {nearest(str(ties), ('drop', 'first', 'keep'))}"
        )
    root = check_folder(NAME, folder)
    reading = Reading()
    turns = _annotations(root, reading)
    texts = {path.stem: path for path in find_files(root, lambda name: name.lower().endswith(".txt"))}
    clips = Clips(
        NAME, root, duplicates, key=lambda clip: clip.stem if SEGMENT.fullmatch(clip.stem) else None
    )
    for name, (row, where) in turns.items():
        file = clips.take(name, reading)
        if file is None:
            reading.missing.append((f"{name}.wav", where))
            continue
        votes = _votes(row.raw or "", where)
        if len(votes) > 1 and ties == "drop":
            reading.excluded.append((str(file), f"tied vote {row.raw!r} (ties='drop')"))
            continue
        emotion = votes[0] if votes and (len(votes) == 1 or ties == "first") else None
        words = " ".join(read_text(NAME, texts[name], ENCODINGS).split()) if name in texts else ""
        reading.rows.append(replace(row, file=file, emotion=emotion, text=words or None))
    reading.excluded += [(str(path), "is in no annotation file") for path in clips.unused()]
    if not reading.excluded:
        require_rows(NAME, root, reading, "annotation files", clips, EXAMPLE)
    return reading


def _annotations(root: Path, reading: Reading) -> dict[str, tuple[Row, str]]:
    """Turn → row without its file, and where it stands."""
    files = find_files(root, lambda name: _FILE.fullmatch(name) is not None)
    if not files:
        newer = find_files(root, lambda name: re.fullmatch(r"Sess\d\d_eval\.csv", name) is not None)
        hint = "; Sess01_eval.csv … belong to its sibling KEMDy20, which has no reader" if newer else ""
        raise CorpusError(
            f"corpus {NAME!r}: {root}: holds no annotation/Session01_F_res.csv …, where the labels are"
            f"{hint}; give the folder of the release"
        )
    own: dict[str, tuple[Row, str]] = {}
    others: dict[str, tuple[Row, str]] = {}
    for path in files:
        file = _FILE.fullmatch(path.name)
        assert file is not None
        for line_number, cells in csv_lines(read_text(NAME, path, ENCODINGS)):
            where = f"{path.relative_to(root)}, line {line_number}"
            segment = SEGMENT.fullmatch(cells[_SEGMENT]) if len(cells) > _AROUSAL else None
            if segment is None:
                # Two header rows, and rows without a turn that spreadsheets leave at the end.
                empty = len(cells) > _AROUSAL and not any(cells[_SEGMENT : _AROUSAL + 1])
                if line_number <= 2 or empty or not any(cells):
                    continue
                raise CorpusError(
                    f"corpus {NAME!r}: {where}: column {_SEGMENT + 1} should hold a segment like "
                    "Sess01_impro01_F001; restore the file"
                )
            # The signals are those of the person the file is named for, who may only be listening in this
            # row.
            spoken = segment["speaker"].lower() == file["speaker"].lower()
            table = own if spoken and segment["session"] == file["session"] else others
            entry = (_row(segment, cells, where), where)
            before = table.setdefault(segment[0], entry)
            if table is own and before[0] != entry[0]:
                reading.notes.append(f"{where}: {segment[0]} differs from {before[1]}, which is taken")
    for name, entry in others.items():
        if name not in own:
            own[name] = entry
            reading.notes.append(
                f"{entry[1]}: {name} is reported by the other speaker's file only; taken from there"
            )
    return own


def _row(segment: re.Match[str], cells: list[str], where: str) -> Row:
    """Make the row of a turn, its file not yet known."""
    gender: Gender = "female" if segment["speaker"] == "F" else "male"
    return Row(
        file=Path(segment[0]),
        raw=cells[_EMOTION] or None,
        speaker=f"Sess{segment['session']}_{segment['speaker']}",
        gender=gender,
        session=f"Sess{segment['session']}",
        sentence=segment["scene"] if segment["scene"].startswith("script") else None,
        valence=number(NAME, where, cells[_VALENCE]),
        arousal=number(NAME, where, cells[_AROUSAL]),
    )


def _votes(raw: str, where: str) -> list[str]:
    """The winners of the vote, without repetition: ``happy;happiness`` is no tie; nothing is no vote."""
    votes: list[str] = []
    if not raw:
        return votes
    for word in raw.lower().split(";"):
        if word.strip() not in CODES:
            raise CorpusError(
                f"corpus {NAME!r}: {where}: unknown emotion {word.strip()!r}; {nearest(word.strip(), CODES)}"
            )
        votes.append(CODES[word.strip()])
    return list(dict.fromkeys(votes))


CORPUS = Corpus(
    name=NAME,
    title="KEMDy19: Korean Emotion Multimodal Database 2019",
    languages=("ko",),
    licence="ETRI licence agreement, research only",
    url="https://nanum.etri.re.kr",
    cite="Noh, Jeong, Huang, Lee, Multi-path and group-loss-based network for SER, Sensors 21:1579, 2021",
    emotions=("anger", "sadness", "happiness", "disgust", "fear", "surprise", "neutral"),
    published=Published(speakers=40, source="the corpus's page: 20 sessions of two"),
    reader=read,
    example=EXAMPLE,
    pattern=SEGMENT.pattern,
)
