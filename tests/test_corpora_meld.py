"""MELD: one clip name in three parts, labels in three files, second cuts and mixed encodings."""

from __future__ import annotations

import csv
import gzip
import os
import wave
from collections import Counter
from pathlib import Path

import pytest

from subtone import corpora
from subtone.errors import CorpusError

HEADER = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"]
FOLDERS = {"train": "train/train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
Line = tuple[int, int, str, str, str]


def tiny(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 160)
    return path


def label(root: Path, part: str, lines: list[Line]) -> None:
    path = root / ("train/train_sent_emo.csv" if part == "train" else f"{part}_sent_emo.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, (dialogue, utterance, speaker, emotion, text) in enumerate(lines, 1):
            writer.writerow([number, text, speaker, emotion, "neutral", dialogue, utterance])


def plant(root: Path, suffix: str = ".mp4") -> Path:
    for part, emotion in (("train", "neutral"), ("dev", "sadness"), ("test", "surprise")):
        label(root, part, [(0, 0, "Joey", emotion, "It\x92s, you know, fine"), (0, 1, "Ross ", "joy", "Hi!")])
        for utterance in (0, 1):
            tiny(root / FOLDERS[part] / f"dia0_utt{utterance}{suffix}")
    return root


def test_the_published_clips_are_all_read_with_their_labels(shared: Path, tmp_path: Path) -> None:
    source = tiny(tmp_path / "source.wav")
    root = tmp_path / "MELD.Raw"
    lines: dict[str, list[Line]] = {part: [] for part in FOLDERS}
    expected: Counter[tuple[str, str]] = Counter()
    with gzip.open(shared / "data/emobox/meld.csv.gz", "rt", encoding="utf-8") as file:
        for entry in csv.DictReader(file):
            path = Path(entry["wav"].removeprefix("downloads/meld/"))
            dialogue, utterance = (int(part[3:]) for part in path.stem.split("_"))
            part = {"train": "train", "valid": "dev", "test": "test"}[entry["fold_1"]]
            lines[part].append((dialogue, utterance, "Joey", entry["label"], "Words"))
            expected[part, entry["label"]] += 1
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(source, root / path)
    lines["train"].append((125, 3, "Ross", "anger", "Words"))  # labelled, but its clip is broken
    for part in lines:
        label(root, part, lines[part])
    table = corpora.read("meld", root)
    assert Counter(zip(table["split"], table["raw"])) == expected
    assert table["emotion"].value_counts().to_dict() == {
        "neutral": 6434,
        "happiness": 2308,
        "surprise": 1636,
        "anger": 1607,
        "sadness": 1002,
        "disgust": 361,
        "fear": 358,
    }
    assert [name for name, _ in table.attrs["missing"]] == ["train/dia125_utt3.mp4"]


def test_one_name_in_three_parts_is_three_clips(tmp_path: Path) -> None:
    table = corpora.read("meld", plant(tmp_path / "c", ".flac"))
    assert len(table) == 6
    first = {row["split"]: row for (file, _, _), row in table.iterrows() if Path(file).stem == "dia0_utt0"}
    assert {part: row["emotion"] for part, row in first.items()} == {
        "train": "neutral",
        "dev": "sadness",
        "test": "surprise",
    }
    assert first["dev"]["session"] == "dev_dia0"
    assert first["dev"].isna()["gender"]


def test_mixed_encodings_and_blanks_are_repaired(tmp_path: Path) -> None:
    table = corpora.read("meld", plant(tmp_path / "c"))
    assert set(table["text"]) == {"It’s, you know, fine", "Hi!"}
    assert set(table["speaker"]) == {"Joey", "Ross"}


def test_parts_may_be_called_otherwise(tmp_path: Path) -> None:
    root = plant(tmp_path / "c")
    for part, folder in FOLDERS.items():
        (root / folder).rename(root / f"wav_{part}")
    assert sorted(corpora.read("meld", root)["split"]) == ["dev", "dev", "test", "test", "train", "train"]


def test_a_clip_in_no_parts_folder_is_not_guessed(tmp_path: Path) -> None:
    root = plant(tmp_path / "c")
    (root / FOLDERS["dev"]).rename(root / "clips")
    table = corpora.read("meld", root)
    assert sorted(table["split"]) == ["test", "test", "train", "train"]
    assert len(table.attrs["missing"]) == 2
    assert len(table.attrs["excluded"]) == 2


def test_second_cuts_stand_in_or_are_chosen_never_both(tmp_path: Path) -> None:
    root = plant(tmp_path / "c")
    folder = root / FOLDERS["test"]
    tiny(folder / "final_videos_testdia0_utt0.mp4")
    (folder / "dia0_utt1.mp4").rename(folder / "final_videos_testdia0_utt1.mp4")

    def test_clips(**options: bool) -> list[str]:
        table = corpora.read("meld", root, **options)
        return [Path(file).stem for (file, _, _), row in table.iterrows() if row["split"] == "test"]

    assert test_clips() == ["dia0_utt0", "final_videos_testdia0_utt1"]
    assert test_clips(second_cuts=True) == ["final_videos_testdia0_utt0", "final_videos_testdia0_utt1"]


def test_one_part_alone_can_be_read(tmp_path: Path) -> None:
    label(tmp_path / "c", "dev", [(0, 0, "Joey", "fear", "Oh")])
    tiny(tmp_path / "c/clips/dia0_utt0.wav")
    table = corpora.read("meld", tmp_path / "c")
    assert table["split"].tolist() == ["dev"]
    assert len(table.attrs["notes"]) == 2


def test_errors_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"train_sent_emo\.csv"):
        corpora.read("meld", tmp_path)
    root = plant(tmp_path / "c")
    label(root, "dev", [(0, 0, "Joey", "joyy", "Oh")])
    with pytest.raises(CorpusError, match=r"dev_sent_emo\.csv, line 2: unknown emotion 'joyy'; .*'joy'"):
        corpora.read("meld", root)
    label(root, "dev", [(0, 0, "Joey", "joy", "Oh"), (0, 0, "Joey", "joy", "Oh")])
    with pytest.raises(CorpusError, match=r"line 3: the utterance stands in .*line 2 already"):
        corpora.read("meld", root)
