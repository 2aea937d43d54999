"""KEMDy19: two files a session that both list both speakers, votes that tie, spellings that vary."""

from __future__ import annotations

import csv
import io
import os
import wave
from collections.abc import Iterable
from pathlib import Path

import pytest

from subtone import corpora
from subtone.errors import CorpusError


def rows(lines: Iterable[tuple[str, str]]) -> str:
    """An annotation file: two header rows, then segment and vote at columns 9 and 10 of 43."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    first = [
        "Numb",
        "Wav",
        "",
        "ECG",
        "",
        "E4-EDA",
        "",
        "E4-TEMP",
        "",
        "Segment ID",
        "Total Evaluation",
        "",
        "",
    ]
    second = [
        "",
        "start",
        "end",
        "start",
        "end",
        "start",
        "end",
        "start",
        "end",
        "",
        "Emotion",
        "Valence",
        "Arousal",
    ]
    writer.writerow(first + [f"Eval{n // 3 + 1:02d}" for n in range(30)])
    writer.writerow(second + ["Emotion", "Valence", "Arousal"] * 10)
    for number, (segment, vote) in enumerate(lines, 1):
        signals = [str(number), "1.0", "2.5", "", "", "10.0", "11.5", "10.0", "11.5"]
        writer.writerow([*signals, segment, vote, "3.4", "2.7"] + [vote.split(";")[0], "3", "3"] * 10)
    return text.getvalue()


def plant(
    root: Path,
    sessions: dict[int, tuple[list[tuple[str, str]], list[tuple[str, str]]]],
    encoding: str = "utf-8",
    suffix: str = ".wav",
) -> Path:
    """A release: session → what its F file and its M file list. Every listed turn has audio and words."""
    source = root.parent / f"{root.name}-source.wav"
    source.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(source), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 160)
    (root / "annotation").mkdir(parents=True)
    for session, files in sessions.items():
        for letter, lines in zip("FM", files):
            path = root / "annotation" / f"Session{session:02d}_{letter}_res.csv"
            path.write_bytes(rows(lines).encode(encoding))
        for segment in {segment for lines in files for segment, _ in lines}:
            folder = root / "wav" / f"Session{session:02d}" / segment.rpartition("_")[0]
            folder.mkdir(parents=True, exist_ok=True)
            os.link(source, folder / f"{segment}{suffix}")
            (folder / f"{segment}.txt").write_bytes(
                "아 맞다.\n".encode("cp949" if encoding == "cp949" else "utf-8")
            )
    return root


def both(lines: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return lines, lines


def test_twenty_sessions_are_forty_speakers_and_no_turn_counts_twice(tmp_path: Path) -> None:
    sessions = {
        n: both(
            [
                (f"Sess{n:02d}_{scene}_{letter}001", "neutral")
                for scene in ("impro01", "script02")
                for letter in "FM"
            ]
        )
        for n in range(1, 21)
    }
    table = corpora.read("kemdy19", plant(tmp_path / "KEMDy19_v1_3", sessions))
    assert len(table) == 20 * 4
    assert table["speaker"].nunique() == 40
    assert table["session"].nunique() == 20
    assert table.groupby("speaker")["gender"].nunique().eq(1).all()
    assert (table["gender"] == "female").sum() == 40
    assert set(table["language"]) == {"ko"}
    assert set(table["sentence"].dropna()) == {"script02"}


def test_a_turn_is_taken_from_its_own_speakers_file(tmp_path: Path) -> None:
    female, male = ("Sess01_impro01_F001", "happy"), ("Sess01_impro01_M001", "angry")
    heard_otherwise = [("Sess01_impro01_F001", "sad"), male]
    table = corpora.read("kemdy19", plant(tmp_path / "c", {1: ([female, male], heard_otherwise)}))
    assert table["emotion"].tolist() == ["happiness", "anger"]
    assert table["speaker"].tolist() == ["Sess01_F", "Sess01_M"]


def test_a_turn_that_only_the_other_speakers_file_has_is_not_lost(tmp_path: Path) -> None:
    lost, found = ("Sess09_script06_F001", "surprise"), ("Sess09_script06_M001", "neutral")
    table = corpora.read("kemdy19", plant(tmp_path / "c", {9: ([found], [lost, found])}))
    assert dict(zip(table["speaker"], table["emotion"])) == {"Sess09_F": "surprise", "Sess09_M": "neutral"}
    assert any("Sess09_script06_F001 is reported by the other" in note for note in table.attrs["notes"])


@pytest.mark.parametrize(
    ("ties", "emotions"),
    [("drop", ["anger"]), ("first", ["neutral", "anger"]), ("keep", [None, "anger"])],
)
def test_ties_are_a_named_choice(tmp_path: Path, ties: str, emotions: list[str | None]) -> None:
    lines = [("Sess01_impro01_F001", "neutral;happy"), ("Sess01_impro01_F002", "angry;anger")]
    table = corpora.read("kemdy19", plant(tmp_path / "c", {1: both(lines)}), ties=ties)
    assert [
        None if e is None else e
        for e in table["emotion"].astype(object).where(table["emotion"].notna(), None)
    ] == (emotions)
    assert len(table.attrs["excluded"]) == (1 if ties == "drop" else 0)
    if ties != "drop":
        assert table["raw"].iloc[0] == "neutral;happy"


def test_spellings_are_one_class(tmp_path: Path) -> None:
    spellings = [
        "disqust",
        "disgust",
        "anger",
        "angry",
        "happiness",
        "happy",
        "sadness",
        "Sad",
        "fear",
        "surprise",
    ]
    lines = [(f"Sess02_impro01_M{n:03d}", word) for n, word in enumerate(spellings, 1)]
    table = corpora.read("kemdy19", plant(tmp_path / "c", {2: both(lines)}))
    assert table["emotion"].tolist() == [
        *("disgust", "disgust", "anger", "anger", "happiness", "happiness", "sadness", "sadness"),
        *("fear", "surprise"),
    ]
    assert table["raw"].iloc[0] == "disqust"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_every_encoding_in_circulation_is_read(tmp_path: Path, encoding: str) -> None:
    table = corpora.read(
        "kemdy19", plant(tmp_path / "c", {1: both([("Sess01_impro01_F001", "fear")])}, encoding)
    )
    assert table["text"].tolist() == ["아 맞다."]
    assert table["valence"].tolist() == [3.4]
    assert table["arousal"].tolist() == [2.7]


def test_any_audio_extension_will_do(tmp_path: Path) -> None:
    root = plant(tmp_path / "c", {1: both([("Sess01_impro01_F001", "fear")])}, suffix=".opus")
    assert len(corpora.read("kemdy19", root)) == 1


def test_a_turn_without_audio_is_listed(tmp_path: Path) -> None:
    root = plant(tmp_path / "c", {1: both([("Sess01_impro01_F001", "fear"), ("Sess01_impro01_F002", "sad")])})
    next(root.rglob("*F002.wav")).unlink()
    table = corpora.read("kemdy19", root)
    assert [name for name, _ in table.attrs["missing"]] == ["Sess01_impro01_F002.wav"]


def test_a_broken_release_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"Session01_F_res\.csv"):
        corpora.read("kemdy19", tmp_path / "empty")
    (tmp_path / "newer/annotation").mkdir(parents=True)
    (tmp_path / "newer/annotation/Sess01_eval.csv").write_text("x")
    with pytest.raises(CorpusError, match="KEMDy20"):
        corpora.read("kemdy19", tmp_path / "newer")
    root = plant(tmp_path / "c", {1: both([("Sess01_impro01_F001", "hapy")])})
    with pytest.raises(CorpusError, match=r"Session01_F_res\.csv, line 3: unknown emotion 'hapy'.*'happy'"):
        corpora.read("kemdy19", root)
    with pytest.raises(CorpusError, match="unknown ties='frist'; did you mean 'first'"):
        corpora.read("kemdy19", root, ties="frist")
    odd = plant(tmp_path / "odd", {1: both([("Sess01_impro01_F001", "fear"), ("Sess1-F2", "fear")])})
    with pytest.raises(CorpusError, match=r"line 4: column 10 should hold a segment"):
        corpora.read("kemdy19", odd)
