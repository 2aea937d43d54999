"""IEMOCAP: labels from the evaluation files, audio by stem, the 5,531 clips of the four-class task."""

from __future__ import annotations

import csv
import gzip
import os
import wave
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from subtone import corpora
from subtone.errors import CorpusError

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def tiny(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 160)
    return path


def plant(root: Path, turns: dict[str, str], suffix: str = ".wav", audio: bool = True) -> Path:
    """A release: turn → emotion code, every clip the same 10 ms."""
    source = tiny(root.parent / f"{root.name}-source.wav")
    dialogues: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for turn, code in turns.items():
        dialogues[turn.rpartition("_")[0]].append((turn, code))
    for dialogue, lines in dialogues.items():
        session = root / f"Session{int(dialogue[3:5])}"
        evaluation = session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        evaluation.parent.mkdir(parents=True, exist_ok=True)
        evaluation.write_text(
            HEADER
            + "".join(
                f"[{n}.5000 - {n + 1}.2500]\t{turn}\t{code}\t[2.0000, 3.5000, 4.0000]\n"
                "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
                for n, (turn, code) in enumerate(lines)
            )
        )
        words = session / "dialog" / "transcriptions" / f"{dialogue}.txt"
        words.parent.mkdir(parents=True, exist_ok=True)
        words.write_text("".join(f"{turn} [006.2901-008.2357]: Words of {turn}.\n" for turn, _ in lines))
        folder = session / "sentences" / "wav" / dialogue
        folder.mkdir(parents=True, exist_ok=True)
        for turn, _ in lines:
            if audio:
                os.link(source, folder / f"{turn}{suffix}")
    return root


SMALL = {
    "Ses01F_impro01_F000": "neu",
    "Ses01F_impro01_M003": "exc",
    "Ses01M_script01_1_F001": "ang",
    "Ses02F_script01_1b_M000": "sad",
    "Ses02F_impro05_F010": "xxx",
    "Ses05M_script03_2_M041": "fru",
    "Ses05M_impro02_F002": "hap",
}


@pytest.fixture(scope="module")
def official(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real 5,531 names with their codes, among turns of the other classes, as FLAC."""
    with gzip.open(shared / "data/emobox/iemocap.csv.gz", "rt", encoding="utf-8") as file:
        turns = {Path(line["wav"]).stem: line["label"] for line in csv.DictReader(file)}
    others = ("xxx", "fru", "sur", "fea", "dis", "oth")
    turns |= {f"Ses0{n % 5 + 1}F_impro0{n % 7 + 1}_M9{n:02d}": others[n % len(others)] for n in range(60)}
    return plant(tmp_path_factory.mktemp("corpora") / "IEMOCAP_full_release", turns, ".flac")


def test_four_classes_are_the_5531_clips(official: Path) -> None:
    table = corpora.read("iemocap", official, classes=4)
    assert Counter(table["emotion"]) == {"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084}
    assert Counter(table["raw"]) == {"ang": 1103, "exc": 1041, "hap": 595, "neu": 1708, "sad": 1084}
    assert table["speaker"].nunique() == 10
    assert table["session"].nunique() == 5
    assert set(table["speaker"]) == {f"Ses0{n}{letter}" for n in range(1, 6) for letter in "FM"}
    assert table.groupby("session")["speaker"].nunique().tolist() == [2] * 5
    assert not table.attrs["missing"]


def test_all_turns_are_read_by_default_and_excitement_stays_itself(official: Path) -> None:
    table = corpora.read("iemocap", official)
    counts = Counter(table["emotion"].dropna())
    assert len(table) == 5531 + 60
    assert counts["excitement"] == 1041
    assert counts["happiness"] == 595
    assert counts["frustration"] == 10
    assert table["emotion"].isna().sum() == 10
    assert set(table.loc[table["emotion"].isna(), "raw"]) == {"xxx"}
    assert len(corpora.read("iemocap", official, classes=10)) == 5531 + 50


def test_the_lists_of_the_benchmark_agree_with_the_evaluation_files(official: Path, shared: Path) -> None:
    ours = corpora.read("iemocap", official, classes=4)
    theirs = corpora.read("emobox", shared / "data/emobox/iemocap.csv.gz", audio=official)
    assert ours.index.equals(theirs.index)
    assert ours["emotion"].equals(theirs["emotion"])
    assert ours["speaker"].equals(theirs["speaker"])


def test_the_speaker_is_who_says_the_turn_not_who_wears_the_markers(tmp_path: Path) -> None:
    table = corpora.read("iemocap", plant(tmp_path / "c", SMALL))
    by_turn = {Path(file).stem: row for (file, _, _), row in table.iterrows()}
    assert by_turn["Ses01F_impro01_M003"]["speaker"] == "Ses01M"
    assert by_turn["Ses01F_impro01_M003"]["gender"] == "male"
    assert by_turn["Ses01M_script01_1_F001"]["speaker"] == "Ses01F"
    assert by_turn["Ses01M_script01_1_F001"]["gender"] == "female"
    assert by_turn["Ses01F_impro01_F000"]["session"] == "Ses01"


def test_ratings_words_and_scripts_are_kept(tmp_path: Path) -> None:
    table = corpora.read("iemocap", plant(tmp_path / "c", SMALL))
    row = table.iloc[0]
    assert (row["valence"], row["arousal"], row["dominance"]) == (2.0, 3.5, 4.0)
    assert row["text"] == "Words of Ses01F_impro01_F000."
    assert row["language"] == "en"
    by_turn = {Path(file).stem: row for (file, _, _), row in table.iterrows()}
    assert by_turn["Ses02F_script01_1b_M000"]["sentence"] == "script01_1"
    assert by_turn["Ses01F_impro01_F000"].isna()["sentence"]


@pytest.mark.parametrize("suffix", [".opus", ".FLAC", ".mp3"])
def test_any_audio_extension_will_do(tmp_path: Path, suffix: str) -> None:
    assert len(corpora.read("iemocap", plant(tmp_path / "c", SMALL, suffix))) == len(SMALL)


def test_single_raters_and_mac_twins_are_no_evaluations(tmp_path: Path) -> None:
    root = plant(tmp_path / "c", SMALL)
    folder = root / "Session1/dialog/EmoEvaluation"
    for name in ("Categorical/Ses01F_impro01_e2_cat.txt", "Attribute/x.txt", "Self-evaluation/x.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("[1.0 - 2.0] nonsense\n")
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\0\x05\x16\x07[\xff")
    (root / "Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav").write_bytes(b"\0")
    assert len(corpora.read("iemocap", root)) == len(SMALL)


def test_a_turn_without_audio_is_listed_and_audio_without_a_turn_too(tmp_path: Path) -> None:
    root = plant(tmp_path / "c", SMALL)
    gone = root / "Session2/sentences/wav/Ses02F_impro05/Ses02F_impro05_F010.wav"
    gone.rename(gone.with_name("Ses02F_impro05_F099.wav"))
    tiny(root / "Session1/dialog/wav/Ses01F_impro01.wav")  # whole dialogues lie there in the release
    table = corpora.read("iemocap", root)
    assert len(table) == len(SMALL) - 1
    assert table.attrs["missing"][0][0] == "Ses02F_impro05_F010.wav"
    assert "Ses02F_impro05.txt, line" in table.attrs["missing"][0][1]
    assert [Path(file).stem for file, _ in table.attrs["excluded"]] == ["Ses02F_impro05_F099"]
    # xxx is not among the four classes: that its audio is gone matters to nobody then
    assert not corpora.read("iemocap", root, classes=4).attrs["missing"]


def test_a_copy_of_a_clip_is_read_once_and_a_different_one_refused(tmp_path: Path) -> None:
    root = plant(tmp_path / "c", SMALL)
    copy = tiny(root / "flat/Ses01F_impro01_F000.wav")
    table = corpora.read("iemocap", root)
    assert len(table) == len(SMALL)
    assert len(table.attrs["duplicates"]) == 1
    copy.write_bytes(copy.read_bytes() + b"\0\0")
    with pytest.raises(CorpusError, match="different files of the same clip"):
        corpora.read("iemocap", root)
    assert len(corpora.read("iemocap", root, duplicates="first")) == len(SMALL)


def test_a_broken_release_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        corpora.read("iemocap", tmp_path / "nowhere")
    tiny(tmp_path / "only/Ses01F_impro01_F000.wav")
    with pytest.raises(CorpusError, match="EmoEvaluation"):
        corpora.read("iemocap", tmp_path / "only")
    with pytest.raises(CorpusError, match=r"no audio file.*Ses01F_impro01_F000\.wav"):
        corpora.read("iemocap", plant(tmp_path / "labels", SMALL, audio=False))
    with pytest.raises(CorpusError, match=r"classes=5 is not 4"):
        corpora.read("iemocap", plant(tmp_path / "whole", SMALL), classes=5)
    root = plant(tmp_path / "code", {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_F001": "hpa"})
    with pytest.raises(CorpusError, match=r"Ses01F_impro01\.txt, line 7: unknown emotion code 'hpa'.*'hap'"):
        corpora.read("iemocap", root)
    lines = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    lines.write_text(HEADER + "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\n")
    with pytest.raises(CorpusError, match=r"line 3: .* is not '\[start - end\] TURN"):
        corpora.read("iemocap", root)
