"""MELD: utterances of the television series Friends, in three parts.

Labels and words are in ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv``; clips are
called ``dia0_utt0.mp4`` and count anew in each part, so the folder decides which one a clip is.
"""

from __future__ import annotations

import re
from pathlib import Path

from subtone.corpora.annotated import Clips, csv_lines, find_files, read_text, require_rows
from subtone.corpora.base import Corpus, Published, Reading, Row
from subtone.corpora.names import Clip, Duplicates, check_folder
from subtone.errors import CorpusError, nearest

NAME = "meld"
EXAMPLE = "train_splits/dia0_utt0.mp4"

CODES: dict[str, str] = {
    "neutral": "neutral",
    "joy": "happiness",
    "surprise": "surprise",
    "anger": "anger",
    "sadness": "sadness",
    "disgust": "disgust",
    "fear": "fear",
}
PARTS = ("train", "dev", "test")
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
# The test folder holds second cuts of some clips under this prefix. The list of the benchmarks is that of the
# plain names, so a second cut is read only where the first is not there, or where the caller prefers it.
SECOND_CUT = "final_videos_test"
STEM = re.compile(rf"(?P<cut>{SECOND_CUT})?dia(?P<dialogue>\d+)_utt(?P<utterance>\d+)", re.IGNORECASE)
_SPLIT_WORDS = {
    "train": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


def read(folder: Path, *, second_cuts: bool = False, duplicates: Duplicates = "error") -> Reading:
    """Read a copy of MELD; see :meth:`subtone.corpora.base.Corpus.read`.

    ``session`` is the part and the dialogue (``train_dia0``), ``speaker`` the character's name: the same in
    all parts for the main characters, and for minor ones (``Waiter``) not certainly one person. Genders are
    not given.

    Parameters
    ----------
    folder
        The release, or anything above it. A clip's part is read off the folders that hold it.
    second_cuts
        Take ``final_videos_testdia0_utt0`` rather than ``dia0_utt0`` where both are there.
    duplicates
        See :func:`subtone.corpora.names.read_names`.

    Returns
    -------
    Reading
        Utterances whose clip is not there are in ``missing`` (the release itself lacks ``train`` dia125_utt3
        and ``dev`` dia110_utt7); clips without a line, second cuts and clips in no part's folder in
        ``excluded``.

    Raises
    ------
    CorpusError
        If there is no label file or no clip, or a line breaks the format.
    """
    root = check_folder(NAME, folder)
    reading = Reading()
    labels = {part: _labels(root, part) for part in PARTS}
    if not any(labels.values()):
        raise CorpusError(
            f"corpus {NAME!r}: {root}: holds no train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv; "
            "give the folder of the release"
        )
    only = [part for part in PARTS if labels[part]]
    clips = Clips(NAME, root, duplicates, key=lambda clip: _key(clip, only))
    for part in PARTS:
        if not labels[part]:
            reading.notes.append(f"no {part}_sent_emo.csv: the part {part!r} is not read")
        for (dialogue, utterance), (line, where) in labels[part].items():
            name = f"{part}/dia{dialogue}_utt{utterance}"
            plain, second = clips.take(name, reading), clips.take(f"{name}/2", reading)
            chosen, other = (second or plain, plain) if second_cuts else (plain or second, second)
            if other is not None and other != chosen:
                reading.excluded.append((str(other), f"another cut of {chosen}"))
            if chosen is None:
                reading.missing.append((f"{name}.mp4", where))
            else:
                reading.rows.append(_row(chosen, part, dialogue, line, where))
    reading.excluded += [(str(path), "has no line in a label file of its part") for path in clips.unused()]
    require_rows(NAME, root, reading, "label files", clips, EXAMPLE)
    return reading


def _key(clip: Clip, parts: list[str]) -> str | None:
    """``train/dia0_utt0``, with ``/2`` for a second cut; None for a file that is no clip."""
    found = STEM.fullmatch(clip.stem)
    if found is None:
        return None
    part = parts[0] if len(parts) == 1 else "?"
    if found["cut"]:
        part = "test"
    else:
        for folder in clip.folders:  # innermost first: train/train_splits, output_repeated_splits_test
            named = {
                _SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", folder.lower()) if word in _SPLIT_WORDS
            }
            if len(named) == 1:
                part = named.pop()
                break
    return f"{part}/dia{int(found['dialogue'])}_utt{int(found['utterance'])}{'/2' if found['cut'] else ''}"


def _labels(root: Path, part: str) -> dict[tuple[int, int], tuple[dict[str, str], str]]:
    """``(dialogue, utterance)`` → line and where it stands; empty where the part has no label file."""
    files = find_files(root, lambda name: name.lower() == f"{part}_sent_emo.csv")
    lines: dict[tuple[int, int], tuple[dict[str, str], str]] = {}
    if not files:
        return lines
    place = files[0].relative_to(root)
    cells = csv_lines(read_text(NAME, files[0]))
    header = cells[0][1] if cells else []
    for column in COLUMNS:
        if column not in header:
            raise CorpusError(f"corpus {NAME!r}: {place}: lacks the column {column!r}; restore the file")
    for number, values in cells[1:]:
        where = f"{place}, line {number}"
        line = dict(zip(header, values))
        try:
            key = int(line["Dialogue_ID"]), int(line["Utterance_ID"])
        except (KeyError, ValueError):
            raise CorpusError(
                f"corpus {NAME!r}: {where}: Dialogue_ID and Utterance_ID should be numbers; restore the file"
            ) from None
        if key in lines:
            raise CorpusError(f"corpus {NAME!r}: {where}: the utterance stands in {lines[key][1]} already")
        lines[key] = line, where
    return lines


def _row(file: Path, part: str, dialogue: int, line: dict[str, str], where: str) -> Row:
    """Make the row of an utterance."""
    code = line["Emotion"].lower()
    if code not in CODES:
        raise CorpusError(f"corpus {NAME!r}: {where}: unknown emotion {code!r}; {nearest(code, CODES)}")
    return Row(
        file=file,
        emotion=CODES[code],
        raw=code,
        speaker=_clean(line["Speaker"]) or None,
        session=f"{part}_dia{dialogue}",
        text=_clean(line["Utterance"]) or None,
        split=part,
    )


def _clean(text: str) -> str:
    r"""Undo the files' mixed encoding: quotes and dashes of Windows-1252 stand as control characters.

    >>> _clean("It\x92s")
    'It’s'
    """
    repaired = "".join(
        bytes([ord(letter)]).decode("cp1252", errors="ignore") if "\x80" <= letter <= "\x9f" else letter
        for letter in text
    )
    return " ".join(repaired.split())


CORPUS = Corpus(
    name=NAME,
    title="MELD: Multimodal EmotionLines Dataset",
    languages=("en",),
    licence="GPL-3.0 for the annotations; the audio is that of a television series",
    url="https://affective-meld.github.io/",
    cite="Poria et al., MELD: a multimodal multi-party dataset for emotion recognition, ACL 2019",
    emotions=tuple(CODES.values()),
    published=Published(
        clips=13_708,
        source="the paper's 9,989 + 1,109 + 2,610 utterances; two of them have no readable clip",
        also={"EmoBox": 13_706},
    ),
    reader=read,
    example=EXAMPLE,
    pattern=STEM.pattern,
)
