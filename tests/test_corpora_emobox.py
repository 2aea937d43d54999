"""EmoBox: every published list finds its files, whatever their extension, and gives the benchmark's folds."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import wave
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtone import corpora
from subtone.corpora.emobox import read_folds
from subtone.corpora.emobox_speakers import speaker_of
from subtone.corpora.resolve import resolve, short_names
from subtone.errors import CorpusError

CORPORA = (
    *(
        "aesdd",
        "ased",
        "asvpesd",
        "cafe",
        "casia",
        "cremad",
        "emns",
        "emodb",
        "emovdb",
        "emovo",
        "emozionalmente",
    ),
    *(
        "enterface",
        "esd",
        "iemocap",
        "jlcorpus",
        "meld",
        "mer2023",
        "mesd",
        "oreau",
        "pavoque",
        "polish",
        "ravdess",
    ),
    *("resd", "savee", "shemo", "subesco", "tess", "turevdb", "urdu"),
)


def tiny(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 160)
    return path


def entries(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, lines: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def line(key: str, wav: str, emotion: str = "Happy", **folds: str) -> dict[str, str]:
    return {"key": key, "wav": f"downloads/{wav}", "label": emotion[:1], "emotion": emotion, **folds}


@pytest.mark.parametrize("name", CORPORA)
def test_each_published_list_is_read_whole_from_a_tree_of_its_names(
    shared: Path, tmp_path: Path, name: str
) -> None:
    source = shared / f"data/emobox/{name}.csv.gz"
    listed = entries(source)
    clip = tiny(tmp_path / "clip.wav")
    # PAVOQUE's clips lie in six long files; those who use it cut them into files named by the keys.
    names = [Path(e["key"] if name == "pavoque" else e["wav"].removeprefix("downloads/")) for e in listed]
    for path in names:
        target = tmp_path / "mine" / path.parent / f"{path.stem}.opus"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, target)
    table = corpora.read("emobox", source, audio=tmp_path / "mine")
    assert len(table) == len(listed)
    assert set(table["corpus"]) == {name}
    assert set(table["emotion"].dropna()) <= set(corpora.EMOTIONS) - {"excitement", "frustration"}
    by_file = {str(Path(file).with_suffix("")): raw for (file, _, _), raw in table["raw"].items()}
    expected = {str(tmp_path / "mine" / p.parent / p.stem): e["label"] for p, e in zip(names, listed)}
    assert by_file == expected
    unlabelled = Counter(e["emotion"] for e in listed)["UnKnown"]
    assert table["emotion"].isna().sum() == unlabelled
    folds = read_folds(source)
    assert folds.index.is_unique
    assert len(folds) == len(listed)
    for column in folds:
        given_sides = [entry[column] or None for entry in listed]
        if "train" in given_sides:
            assert [
                None if side is None else side
                for side in folds[column].astype(object).where(folds[column].notna(), None)
            ] == given_sides
    shutil.rmtree(tmp_path / "mine")


@pytest.mark.parametrize(
    ("name", "speakers"),
    [
        *(
            ("ased", 65),
            ("cafe", 12),
            ("casia", 4),
            ("cremad", 91),
            ("emodb", 10),
            ("emovdb", 4),
            ("emovo", 6),
        ),
        # The benchmark prints 44 for eNTERFACE, but its list has nothing of one of them.
        *(("enterface", 43), ("esd", 20), ("iemocap", 10), ("jlcorpus", 4), ("oreau", 32), ("polish", 5)),
        *(("ravdess", 24), ("savee", 4), ("shemo", 87), ("subesco", 20), ("tess", 2), ("urdu", 29)),
    ],
)
def test_paths_give_the_speakers_that_the_benchmark_prints(shared: Path, name: str, speakers: int) -> None:
    wavs = [entry["wav"] for entry in entries(shared / f"data/emobox/{name}.csv.gz")]
    found = {speaker_of(name, wav) for wav in wavs}
    assert None not in found
    assert len(found) == speakers


def test_our_readers_and_the_lists_agree_on_the_shared_corpora(shared: Path) -> None:
    ours = corpora.read("ravdess", shared / "data/ravdess")
    theirs = corpora.read("emobox", shared / "data/emobox/ravdess.csv.gz", audio=shared / "data/ravdess")
    assert ours.index.equals(theirs.index)
    assert ours["emotion"].equals(theirs["emotion"])
    assert ours["speaker"].equals(theirs["speaker"])
    folds = read_folds(shared / "data/emobox/ravdess.csv.gz", table=ours)
    assert len(folds) == 1440
    assert folds.apply(lambda column: column.value_counts()["test"]).tolist() == [240] * 6


def test_a_fold_that_lists_test_clips_only_trains_on_the_rest(shared: Path) -> None:
    folds = read_folds(shared / "data/emobox/esd.csv.gz")
    assert list(folds) == [f"fold_{n}" for n in range(1, 6)]
    for column in folds:
        assert folds[column].value_counts().to_dict() == {"train": 28_000, "test": 7_000}
    assert (folds == "test").sum(axis=1).eq(1).all()


def test_clips_of_other_test_sets_are_in_no_side(shared: Path) -> None:
    counts = read_folds(shared / "data/emobox/mer2023.csv.gz")["fold_1"].value_counts(dropna=False)
    assert counts.to_dict()["train"] == 3373
    assert counts[counts.index.isna()].tolist() == [1246]


def test_folds_are_named_by_stems_and_by_more_only_where_needed(shared: Path) -> None:
    assert "03a01Fa" in read_folds(shared / "data/emobox/emodb.csv.gz").index
    meld = read_folds(shared / "data/emobox/meld.csv.gz")
    assert meld.loc["dev_splits_complete/dia0_utt0", "fold_1"] == "valid"
    assert meld.loc["output_repeated_splits_test/dia0_utt0", "fold_1"] == "test"
    assert "liuchanhg/angry/201" in read_folds(shared / "data/emobox/casia.csv.gz").index


def test_emobox_own_tree_reads_like_the_table(tmp_path: Path) -> None:
    data, downloads = tmp_path / "EmoBox/data/toy", tmp_path / "EmoBox/downloads/toy"
    clips = {f"toy-{n}": f"downloads/toy/{'xy'[n % 2]}/c{n}.wav" for n in range(6)}
    for wav in clips.values():
        tiny(tmp_path / "EmoBox" / wav)

    def clip(key: str) -> str:
        return json.dumps(
            {"key": key, "wav": clips[key], "emo": "h" if key < "toy-3" else "n", "length": 1.0}
        )

    for fold in (1, 2):
        (data / f"fold_{fold}").mkdir(parents=True)
        parts = {"train": [0, 1, 3], "valid": [4], "test": [2, 5]} if fold == 1 else {"test": [0, 3]}
        for part, numbers in parts.items():
            text = "\n".join(clip(f"toy-{n}") for n in numbers) + "\n"
            (data / f"fold_{fold}/toy_{part}_fold_{fold}.jsonl").write_text(text)
    (data / "label_map.json").write_text('{"h": "Happy", "n": "Neutral"}')
    table = corpora.read("emobox", tmp_path / "EmoBox", fold=1)
    by_stem = {Path(file).stem: row for (file, _, _), row in table.iterrows()}
    assert {stem: row["emotion"] for stem, row in by_stem.items()} == {
        f"c{n}": "happiness" if n < 3 else "neutral" for n in range(6)
    }
    assert by_stem["c0"]["raw"] == "h"
    assert {stem: row["split"] for stem, row in by_stem.items()} == {
        **{f"c{n}": "train" for n in (0, 1, 3)},
        "c4": "dev",
        **{f"c{n}": "test" for n in (2, 5)},
    }
    folds = read_folds(tmp_path / "EmoBox", "toy")
    assert folds["fold_1"].to_dict() == {
        "c0": "train",
        "c1": "train",
        "c3": "train",
        "c4": "valid",
        "c2": "test",
        "c5": "test",
    }
    assert folds["fold_2"].value_counts().to_dict() == {"train": 4, "test": 2}
    for place in (data, data.parent, tmp_path / "EmoBox"):
        assert read_folds(place, "toy").equals(folds)
    assert len(corpora.read("emobox", downloads, lists=data)) == 6


def test_clips_of_a_long_recording_are_segments(tmp_path: Path) -> None:
    tiny(tmp_path / "mine/pavoque-happy.flac")
    listed = [line(f"pavoque-a{n}-happy", "pavoque/pavoque-happy.flac", fold_1="train") for n in (1, 2)]
    table_list = write(tmp_path / "lists/pavoque.csv.gz", listed)
    with pytest.raises(CorpusError, match=r"pavoque-happy\.flac holds many clips"):
        corpora.read("emobox", table_list, audio=tmp_path / "mine")
    (tmp_path / "mine/pavoque-happy.yaml").write_text(
        "- {prompt: a1, style: happy, start: 0.5, end: 1.5}\n"
        "- {prompt: a2, style: happy, start: 1.5, end: 4.0}\n"
    )
    table = corpora.read("emobox", table_list, audio=tmp_path / "mine")
    assert table.index.get_level_values("start").total_seconds().tolist() == [0.5, 1.5]
    assert table.index.get_level_values("end").total_seconds().tolist() == [1.5, 4.0]
    own = tmp_path / "data/pavoque/pavoque.jsonl"
    own.parent.mkdir(parents=True)
    own.write_text(
        "".join(
            json.dumps(
                {"key": e["key"], "wav": e["wav"], "emo": "happy", "start_time": s, "end_time": s + 1.0}
            )
            + "\n"
            for e, s in zip(listed, (0.5, 7.25))
        )
    )
    table = corpora.read("emobox", own, audio=tmp_path / "mine")
    assert table.index.get_level_values("start").total_seconds().tolist() == [0.5, 7.25]


def test_missing_clips_are_an_error_unless_skipped(tmp_path: Path) -> None:
    source = write(tmp_path / "toy.csv.gz", [line("toy-a", "toy/a.wav"), line("toy-b", "toy/b.wav")])
    tiny(tmp_path / "a.wav")
    with pytest.raises(CorpusError, match=r"1 of 2 clips have no file below .*toy-b"):
        corpora.read("emobox", source)
    table = corpora.read("emobox", source, skip_missing=True)
    assert len(table) == 1
    assert table.attrs["missing"] == [["downloads/toy/b.wav", "toy-b"]]


def test_one_stem_in_two_folders_is_never_swapped(tmp_path: Path) -> None:
    source = write(
        tmp_path / "toy.csv.gz", [line("1", "toy/anger/1.wav", "Angry"), line("2", "toy/joy/1.wav", "Happy")]
    )
    tiny(tmp_path / "JOY/1.flac")
    table = corpora.read("emobox", source, skip_missing=True)
    assert table["emotion"].tolist() == ["happiness"]  # and nothing for the angry one
    tiny(tmp_path / "flat/1.flac")
    assert len(corpora.read("emobox", source, skip_missing=True)) == 1
    shutil.rmtree(tmp_path / "JOY")
    with pytest.raises(CorpusError, match="2 of 2 clips have no file"):
        corpora.read("emobox", source, skip_missing=True)


def test_bad_lists_are_named(tmp_path: Path) -> None:
    tiny(tmp_path / "a.wav")
    with pytest.raises(CorpusError, match="holds no list"):
        corpora.read("emobox", tmp_path)
    with pytest.raises(CorpusError, match="no such file"):
        corpora.read("emobox", tmp_path / "x.csv.gz")
    odd = write(tmp_path / "toy.csv.gz", [line("toy-a", "toy/a.wav", "Hapy")])
    with pytest.raises(CorpusError, match="toy-a: unknown emotion 'Hapy'; did you mean 'happy'"):
        corpora.read("emobox", odd)
    twice = write(tmp_path / "toy.csv.gz", [line("toy-a", "toy/a.wav")] * 2)
    with pytest.raises(CorpusError, match="lists toy-a 2 times"):
        corpora.read("emobox", twice)
    side = write(tmp_path / "toy.csv.gz", [line("toy-a", "toy/a.wav", fold_1="tets")])
    with pytest.raises(CorpusError, match="unknown side 'tets'; did you mean 'test'"):
        read_folds(side)
    write(tmp_path / "toy.csv.gz", [line("toy-a", "toy/a.wav", fold_1="test")])
    with pytest.raises(CorpusError, match="toy has folds 1 to 1, not 2"):
        corpora.read("emobox", tmp_path, fold=2)
    write(tmp_path / "two.csv.gz", [line("two-a", "two/a.wav")])
    with pytest.raises(CorpusError, match="holds lists of toy, two; pass corpus="):
        read_folds(tmp_path)
    with pytest.raises(CorpusError, match="no list of 'tow'; did you mean 'two'"):
        read_folds(tmp_path, "tow")
    (tmp_path / "bad.jsonl").write_text('{"key": 1}\n')
    with pytest.raises(CorpusError, match=r"bad\.jsonl, line 1: is no clip"):
        read_folds(tmp_path / "bad.jsonl")


_FOLDERS = st.lists(st.sampled_from(["x", "y", "z"]), max_size=3)
_PATHS = st.lists(st.tuples(_FOLDERS, st.sampled_from("ab")), min_size=1, max_size=8).map(
    lambda paths: list(dict.fromkeys("/".join(["root", *folders, stem]) + ".wav" for folders, stem in paths))
)


@given(_PATHS)
def test_a_tree_of_the_lists_own_names_is_resolved_exactly(wavs: list[str]) -> None:
    mine = {wav: f"/home/me/{wav[:-4]}.flac" for wav in wavs}
    assert resolve(wavs, mine.values(), "x") == mine


@given(_PATHS)
def test_short_names_are_unique_ends_of_the_paths(wavs: list[str]) -> None:
    names = short_names(wavs)
    assert len(set(names)) == len(wavs)
    assert all(wav[:-4].endswith(name) for wav, name in zip(wavs, names))


def test_protocols_take_the_folds(shared: Path) -> None:
    protocols = pytest.importorskip("subtone.protocols")
    table = corpora.read("ravdess", shared / "data/ravdess")
    source = shared / "data/emobox/ravdess.csv.gz"
    for lists in (read_folds(source), read_folds(source, table=table)):
        split = protocols.build(table, "emobox", lists=lists)
        assert [len(fold.test) for fold in split.folds] == [240] * 6
