"""MSP-Podcast and MSP-IMPROV: consensus files in the forms they were released in."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest

from subtone import corpora
from subtone.errors import CorpusError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
LINES = [
    "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1",
    "MSP-PODCAST_0001_0019.wav,A,5.5,2.0,5.0,30,Male,Test2",
    "MSP-PODCAST_0002_0033.wav,X,4.0,4.5,4.0,Unknown,Unknown,Train",
    "MSP-PODCAST_0002_0034.wav,C,4.0,2.5,4.2,127,Female,Development",
    "MSP-PODCAST_0003_0001.wav,O,4.0,3.0,4.0,127,Female,Train",
]


def tiny(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 160)
    return path


def podcast(root: Path, lines: list[str] = LINES, suffix: str = ".wav") -> Path:
    (root / "Labels").mkdir(parents=True)
    (root / "Labels/labels_consensus.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    for line in lines:
        tiny(root / "Audios" / Path(line.split(",")[0]).with_suffix(suffix))
    (root / "Transcripts").mkdir()
    (root / "Transcripts/MSP-PODCAST_0001_0008.txt").write_text("so that was\nthe plan\n")
    return root


def test_podcast_gives_labels_ratings_speakers_and_parts(tmp_path: Path) -> None:
    table = corpora.read("msp-podcast", podcast(tmp_path / "c", suffix=".flac"))
    assert table["emotion"].tolist()[:2] == ["neutral", "anger"]
    assert table["emotion"].isna().tolist() == [False, False, True, False, False]
    assert table["emotion"].tolist()[3:] == ["contempt", "other"]
    assert table["raw"].tolist() == ["N", "A", "X", "C", "O"]
    assert table["arousal"].tolist() == [2.2, 5.5, 4.0, 4.0, 4.0]
    assert table["valence"].iloc[0] == 4.0
    assert table["dominance"].iloc[0] == 2.6
    assert table["split"].tolist() == ["test", "test", "train", "dev", "train"]
    assert table["session"].tolist() == ["0001", "0001", "0002", "0002", "0003"]
    assert table["text"].iloc[0] == "so that was the plan"
    assert table["speaker"].isna().tolist() == [False, False, True, False, False]
    assert table["gender"].tolist()[3] == "female"
    assert table["gender"].isna().sum() == 1


def test_podcast_reads_the_json_release_alike(tmp_path: Path) -> None:
    root = podcast(tmp_path / "c")
    before = corpora.read("msp-podcast", root)
    keys = HEADER.split(",")[1:]
    entries: dict[str, dict[str, object]] = {}
    for line in LINES:
        name, *values = line.split(",")
        entries[name] = dict(zip(keys, values)) | {"EmoAct": float(values[1])}
    (root / "Labels/labels_consensus.json").write_text(json.dumps(entries))
    (root / "Labels/labels_consensus.csv").unlink()
    assert corpora.read("msp-podcast", root).equals(before)


def test_podcast_keeps_the_test_sets_asked_for(tmp_path: Path) -> None:
    root = podcast(tmp_path / "c")
    assert len(corpora.read("msp-podcast", root, test_sets="Test1")) == 4
    assert len(corpora.read("msp-podcast", root, test_sets=("Test1", "Test2"))) == 5
    with pytest.raises(CorpusError, match="unknown test set 'Test9'"):
        corpora.read("msp-podcast", root, test_sets="Test9")


def test_podcast_lists_what_has_no_audio_or_no_label(tmp_path: Path) -> None:
    root = podcast(tmp_path / "c")
    (root / "Audios/MSP-PODCAST_0003_0001.wav").rename(root / "Audios/MSP-PODCAST_test3_0001.wav")
    table = corpora.read("msp-podcast", root)
    assert [name for name, _ in table.attrs["missing"]] == ["MSP-PODCAST_0003_0001.wav"]
    assert [Path(name).stem for name, _ in table.attrs["excluded"]] == ["MSP-PODCAST_test3_0001"]


def test_podcast_errors_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"labels_consensus\.csv"):
        corpora.read("msp-podcast", tmp_path)
    odd = podcast(tmp_path / "a", [LINES[0], LINES[1].replace(",A,", ",Q,")])
    with pytest.raises(CorpusError, match=r"labels_consensus\.csv, line 3: EmoClass 'Q' is not one of A, S"):
        corpora.read("msp-podcast", odd)
    twice = podcast(tmp_path / "b", [LINES[0], LINES[0]])
    with pytest.raises(CorpusError, match=r"line 3: MSP-PODCAST_0001_0008 is labelled a second time"):
        corpora.read("msp-podcast", twice)
    worded = podcast(tmp_path / "d", [LINES[0].replace("2.2", "high")])
    with pytest.raises(CorpusError, match=r"line 2: 'high' is no number"):
        corpora.read("msp-podcast", worded)
    short = podcast(tmp_path / "e", ["MSP-PODCAST_0001_0008.wav,N,2.2"])
    with pytest.raises(CorpusError, match=r"line 2: lacks the column 'EmoVal'"):
        corpora.read("msp-podcast", short)


TURNS = {
    "S01A-F01-P-FM01": "A; A:3.600000; V:1.800000; D:3.400000 ; N:4.000000;",
    "S01H-M01-S-MF02": "H; A:3.000000; V:4.500000; D:NaN ; N:3.000000;",
    "S20N-F06-R-FF05": "X; A:2.500000; V:3.000000; D:3.000000 ; N:3.000000;",
    "S20S-M06-T-MM11": "O; A:2.500000; V:3.000000; D:3.000000 ; N:3.000000;",
}


def improv(root: Path, turns: dict[str, str] = TURNS, suffix: str = ".wav") -> Path:
    root.mkdir(parents=True)
    (root / "Evalution.txt").write_text(
        "\n".join(
            f"UTD-IMPROV-{turn}.avi; {rest}\n"
            "EvaluatorX-p1; Neutral; Neutral,Happy; A:3.000000; V:3.000000; D:3.000000; N:3.000000;\n"
            for turn, rest in turns.items()
        )
    )
    for turn in turns:
        sentence, speaker, part, _ = turn.split("-")
        tiny(root / f"session{int(speaker[1:])}/{sentence}/{part}/MSP-IMPROV-{turn}{suffix}")
    return root


def test_improv_gives_what_the_raters_heard_and_who_speaks(tmp_path: Path) -> None:
    table = corpora.read("msp-improv", improv(tmp_path / "c", suffix=".ogg"))
    by_speaker = {row["speaker"]: row for _, row in table.iterrows()}
    assert sorted(by_speaker) == ["F01", "F06", "M01", "M06"]
    assert by_speaker["F01"]["emotion"] == "anger"
    assert by_speaker["F01"]["gender"] == "female"
    assert by_speaker["M06"]["gender"] == "male"
    assert by_speaker["M06"]["session"] == "6"
    assert by_speaker["M06"]["emotion"] == "other"
    assert by_speaker["M06"]["raw"] == "O"
    assert by_speaker["F06"].isna()["emotion"]
    assert by_speaker["F01"]["arousal"] == 3.6
    assert by_speaker["F01"]["valence"] == 1.8
    assert by_speaker["M01"].isna()["dominance"]


def test_improv_shares_sentences_only_where_they_are_spoken_as_given(tmp_path: Path) -> None:
    table = corpora.read("msp-improv", improv(tmp_path / "c"))
    spoken = dict(zip(table["speaker"], table["sentence"].fillna("free")))
    assert spoken == {"F01": "free", "M01": "S01", "F06": "S20", "M06": "free"}


def test_twelve_speakers_in_six_sessions(tmp_path: Path) -> None:
    turns = {f"S01A-{g}0{n}-S-{g}M01": "A; A:3.0; V:3.0; D:3.0 ; N:3.0;" for n in range(1, 7) for g in "FM"}
    table = corpora.read("msp-improv", improv(tmp_path / "c", turns))
    assert table["speaker"].nunique() == 12
    assert table["session"].nunique() == 6


def test_improv_errors_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"Evalution\.txt"):
        corpora.read("msp-improv", tmp_path)
    odd = improv(tmp_path / "a", {"S01A-F01-P-FM01": "Q; A:3.0; V:3.0; D:3.0 ; N:3.0;"})
    with pytest.raises(
        CorpusError, match=r"Evalution\.txt, line 1: emotion 'Q' is not one of A, H, S, N, O, X"
    ):
        corpora.read("msp-improv", odd)
    alone = improv(tmp_path / "b")
    for clip in alone.rglob("*.wav"):
        clip.unlink()
    with pytest.raises(CorpusError, match="no audio file"):
        corpora.read("msp-improv", alone)
