"""Manifests and audformat databases: columns found, labels mapped, every bad row named, nothing unpickled."""

from __future__ import annotations

import gzip
import pickle
import wave
from pathlib import Path

import audformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtone import corpora
from subtone.corpora.labels import ALIASES, emotion_of
from subtone.corpora.several import left_out, read_several
from subtone.errors import CorpusError


def tiny(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 160)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        tiny(tmp_path / f"wav/{name}.wav")
    return tmp_path


def write(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plain_list_is_read(folder: Path) -> None:
    path = write(folder, "file,emotion,speaker\nwav/a.wav,angry,s1\nwav/b.wav,neu,s2\nwav/c.wav,,s1\n")
    table = corpora.read("manifest", path)
    assert table["emotion"].tolist()[:2] == ["anger", "neutral"]
    assert table["emotion"].isna().tolist() == [False, False, True]
    assert table["raw"].tolist()[:2] == ["angry", "neu"]
    assert table["speaker"].tolist() == ["s1", "s2", "s1"]
    assert table.index.names == ["file", "start", "end"]
    assert table.index.get_level_values("file").tolist() == [str(folder / f"wav/{n}.wav") for n in "abc"]


def test_every_column_of_ours_is_found_under_its_other_names(folder: Path) -> None:
    path = write(
        folder,
        "Path;Label;SPK;sex;lang;session-id;Intensity;Transcript;AGE;activation;valence;dominance;Partition;dataset\n"
        "wav/a.wav;Happy;7;f;de;s1;strong;Guten Tag;31;1.5;2;3;validation;mine\n",
    )
    row = corpora.read("manifest", path).iloc[0]
    assert row[["emotion", "raw", "speaker", "gender", "language", "session"]].tolist() == [
        *("happiness", "Happy", "7", "female", "de", "s1")
    ]
    assert row[["intensity", "text", "age", "arousal", "split", "corpus"]].tolist() == [
        *("strong", "Guten Tag", 31.0, 1.5, "dev", "mine")
    ]


def test_segments_are_seconds_or_times(folder: Path) -> None:
    path = write(folder, "file\tstart\tend\nwav/a.wav\t0.5\t1.25\nwav/a.wav\t0 days 00:00:02\t\n", "list.tsv")
    table = corpora.read("manifest", path)
    assert table.index.get_level_values("start").total_seconds().tolist() == [0.5, 2.0]
    assert table.index.get_level_values("end")[0].total_seconds() == 1.25
    assert pd.isna(table.index.get_level_values("end")[1])


def test_csv_gz_and_parquet_read_alike(folder: Path) -> None:
    text = "file,emotion,start,end\nwav/a.wav,sad,0,1\nwav/b.wav,joy,1,2.5\n"
    expected = corpora.read("manifest", write(folder, text))
    with gzip.open(folder / "list2.csv.gz", "wt", encoding="utf-8-sig") as file:
        file.write(text)
    frame = pd.read_csv(folder / "list.csv")
    frame["end"] = pd.to_timedelta(frame["end"], unit="s")
    frame.to_parquet(folder / "list.parquet")
    assert corpora.read("manifest", folder / "list2.csv.gz").equals(expected)
    assert corpora.read("manifest", folder / "list.parquet").equals(expected)


def test_our_own_table_comes_back_from_parquet_and_csv(folder: Path) -> None:
    header = "file,start,end,emotion,speaker,age,text,corpus\n"
    text = f"{header}wav/a.wav,0.25,0.5,excitement,s,30,hm,x\nwav/b.wav,,,exc,t,,,y\n"
    table = corpora.read("manifest", write(folder, text))
    assert table["emotion"].tolist() == ["excitement", "excitement"]
    table.to_parquet(folder / "table.parquet")
    pd.testing.assert_frame_equal(corpora.read("manifest", folder / "table.parquet"), table)
    table.to_csv(folder / "table.csv")
    pd.testing.assert_frame_equal(corpora.read("manifest", folder / "table.csv"), table)


def test_files_are_relative_to_the_manifest_or_to_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = write(folder / "wav", "file\na.wav\n")
    elsewhere = write(folder, "file\na.wav\n")
    monkeypatch.chdir(folder.parent)
    expected = str(folder / "wav/a.wav")
    assert corpora.read("manifest", inner).index[0][0] == expected
    assert corpora.read("manifest", elsewhere, root=folder / "wav").index[0][0] == expected
    assert corpora.read("manifest", inner.relative_to(folder.parent)).index[0][0] == expected


def test_a_file_under_another_extension_or_with_backslashes_is_found(folder: Path) -> None:
    tiny(folder / "wav/d.flac")
    table = corpora.read("manifest", write(folder, "file\nwav/d.wav\nwav\\a.wav\n"))
    assert [Path(file).name for file in table.index.get_level_values("file")] == ["a.wav", "d.flac"]


def test_a_row_that_points_nowhere_is_named(folder: Path) -> None:
    path = write(folder, "file,emotion\nwav/a.wav,sad\nwav/x.wav,sad\nwav/y.wav,sad\n")
    with pytest.raises(CorpusError, match=r"row 2: 'wav/x\.wav' is not there.*and 1 more rows"):
        corpora.read("manifest", path)
    table = corpora.read("manifest", path, skip_missing=True)
    assert len(table) == 1
    assert table.attrs["missing"] == [["wav/x.wav", "list.csv, row 2"], ["wav/y.wav", "list.csv, row 3"]]


def test_a_label_that_nobody_knows_is_named_with_its_neighbour(folder: Path) -> None:
    path = write(folder, "file,emotion\nwav/a.wav,sad\nwav/b.wav,hapy\n")
    with pytest.raises(
        CorpusError, match=r"row 2: unknown emotion 'hapy'; did you mean 'happy'\?; .*skip_unknown"
    ):
        corpora.read("manifest", path)
    table = corpora.read("manifest", path, skip_unknown=True)
    assert len(table) == 1
    assert len(table.attrs["skipped"]) == 1


def test_columns_can_be_named_and_left_out(folder: Path) -> None:
    path = write(folder, "file,my_label,label,speaker\nwav/a.wav,fear,17,x\n")
    table = corpora.read("manifest", path, columns={"emotion": "my_label", "speaker": None})
    assert table["emotion"].tolist() == ["fear"]
    assert table["speaker"].isna().all()
    with pytest.raises(CorpusError, match="no column 'my_lable'; did you mean 'my_label'"):
        corpora.read("manifest", path, columns={"emotion": "my_lable"})
    with pytest.raises(CorpusError, match="no such column; did you mean 'emotion'"):
        corpora.read("manifest", path, columns={"emotoin": "my_label"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no row"),
        ("file,emotion\n", "has no row"),
        ("clip,emotion\nwav/a.wav,sad\n", "has no column of files"),
        ("file,emotion\nwav/a.wav,sad\n,sad\n", "row 2: names no file"),
        ("file,emotion\nwav/a.wav,sad,extra\n", "row 1: has 3 cells, the header 2"),
        ("file,file\nwav/a.wav,wav/a.wav\n", "two columns 'file'"),
        ("file,start,end\nwav/a.wav,2,1\n", "row 1: start 2 s and end 1.0 s are no stretch"),
        ("file,start\nwav/a.wav,-1\n", "row 1: start -1 s"),
        ("file,start\nwav/a.wav,soon\n", "row 1: start 'soon' is neither seconds"),
        ("file,age\nwav/a.wav,old\n", "row 1: age 'old' is no number"),
        ("file,gender\nwav/a.wav,x1\n", "row 1: unknown gender 'x1'"),
        ("file,split\nwav/a.wav,tset\n", "row 1: unknown part 'tset'; did you mean 'test'"),
        ("file\nwav\n", "row 1: 'wav' is a folder"),
        ("file\nwav/a.wav\nwav/a.wav\n", "named twice"),
    ],
)
def test_each_bad_row_gets_one_clear_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        corpora.read("manifest", write(folder, text))


def test_a_file_that_is_no_manifest_gets_one_clear_error(folder: Path) -> None:
    with pytest.raises(CorpusError, match="no such file"):
        corpora.read("manifest", folder / "nowhere.csv")
    with pytest.raises(CorpusError, match="is a folder"):
        corpora.read("manifest", folder)
    with pytest.raises(CorpusError, match=r"is none of \.csv"):
        corpora.read("manifest", write(folder, "x", "list.xlsx"))
    with pytest.raises(CorpusError, match="is no Parquet file"):
        corpora.read("manifest", write(folder, "x", "list.parquet"))
    (folder / "latin.csv").write_bytes("file,text\nwav/a.wav,schön\n".encode("latin-1"))
    with pytest.raises(CorpusError, match="UTF-8"):
        corpora.read("manifest", folder / "latin.csv")
    (folder / "cut.csv.gz").write_bytes(gzip.compress(b"file\nwav/a.wav\n")[:-9])
    with pytest.raises(CorpusError, match="cannot be read"):
        corpora.read("manifest", folder / "cut.csv.gz")


@given(
    st.sampled_from(sorted(ALIASES)),
    st.sampled_from([str.upper, str.title, str.lower]),
    st.sampled_from(["", " "]),
)
def test_case_and_blanks_never_change_a_label(label: str, case: type[str], blank: str) -> None:
    assert emotion_of(f"{blank}{case(label)}{blank}") == ALIASES[label]
    assert ALIASES[label] in corpora.EMOTIONS


# audformat databases


def database(root: Path, storage: str = "csv") -> audformat.Database:
    db = audformat.Database("toydb", languages=["deu"])
    db.schemes["emotion"] = audformat.Scheme(labels=["anger", "happiness", "neutral"])
    db.schemes["speaker"] = audformat.Scheme(
        labels={"03": {"gender": "male", "age": 31}, "08": {"gender": "female", "age": 34, "language": "eng"}}
    )
    db.schemes["transcription"] = audformat.Scheme(labels={"a01": "Der Lappen liegt auf dem Eisschrank."})
    db.schemes["arousal"] = audformat.Scheme("float")
    db.splits["test"] = audformat.Split(audformat.define.SplitType.TEST)
    files = [f"wav/{name}.wav" for name in "abc"]
    for name in files:
        tiny(root / name)
    db["files"] = audformat.Table(audformat.filewise_index(files))
    db["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    db["files"]["speaker"].set(["03", "08", "03"])
    db["files"]["transcription"] = audformat.Column(scheme_id="transcription")
    db["files"]["transcription"].set(["a01", None, None])
    db["emotion.test"] = audformat.Table(audformat.filewise_index(files[:2]), split_id="test")
    db["emotion.test"]["emotion"] = audformat.Column(scheme_id="emotion")
    db["emotion.test"]["emotion"].set(["anger", "neutral"])
    db["segments"] = audformat.Table(
        audformat.segmented_index([files[2], files[2]], ["0s", "1.5s"], ["1.5s", "2s"])
    )
    db["segments"]["emotion"] = audformat.Column(scheme_id="emotion")
    db["segments"]["emotion"].set(["happiness", None])
    db["segments"]["arousal"] = audformat.Column(scheme_id="arousal")
    db["segments"]["arousal"].set([0.5, 1.5])
    db.save(str(root), storage_format=storage)
    return db


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_a_database_gives_its_emotions_with_all_it_knows_of_the_speakers(
    tmp_path: Path, storage: str
) -> None:
    database(tmp_path, storage)
    table = corpora.read("audformat", tmp_path)
    assert table["emotion"].fillna("none").tolist() == ["anger", "neutral", "happiness", "none"]
    assert table["speaker"].tolist() == ["03", "08", "03", "03"]
    assert table["gender"].tolist() == ["male", "female", "male", "male"]
    assert table["age"].tolist() == [31.0, 34.0, 31.0, 31.0]
    assert table["language"].tolist() == ["de", "en", "de", "de"]
    assert table["sentence"].fillna("").tolist() == ["a01", "", "", ""]
    assert table["text"].iloc[0] == "Der Lappen liegt auf dem Eisschrank."
    assert table["arousal"].tolist()[2:] == [0.5, 1.5]
    assert table["split"].fillna("").tolist() == ["test", "test", "", ""]
    assert table.index.get_level_values("start").total_seconds().tolist() == [0.0, 0.0, 0.0, 1.5]
    assert table.index.get_level_values("end").total_seconds().tolist()[2:] == [1.5, 2.0]
    assert set(table["corpus"]) == {"toydb"}


def test_tables_and_columns_can_be_chosen(tmp_path: Path) -> None:
    database(tmp_path)
    assert len(corpora.read("audformat", tmp_path, tables="emotion.test")) == 2
    with pytest.raises(CorpusError, match=r"no table 'emotion\.tset'; did you mean 'emotion\.test'"):
        corpora.read("audformat", tmp_path, tables="emotion.tset")
    with pytest.raises(CorpusError, match="no table has a column 'mood'; there are arousal, emotion"):
        corpora.read("audformat", tmp_path, column="mood")


def test_tables_that_disagree_are_refused(tmp_path: Path) -> None:
    db = database(tmp_path)
    db["other"] = audformat.Table(audformat.filewise_index(["wav/a.wav"]))
    db["other"]["emotion"] = audformat.Column(scheme_id="emotion")
    db["other"]["emotion"].set(["anger"])
    db.save(str(tmp_path), storage_format="csv")
    assert len(corpora.read("audformat", tmp_path)) == 4
    db["other"]["emotion"].set(["happiness"])
    db.save(str(tmp_path), storage_format="csv")
    with pytest.raises(CorpusError, match=r"'happiness' here and 'anger' in table 'emotion.test', row 1"):
        corpora.read("audformat", tmp_path)


class Bomb:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.mark), "w"))


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    root, mark = tmp_path / "db", tmp_path / "mark"
    database(root)
    for table in ("files", "emotion.test", "segments"):
        (root / f"db.{table}.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    assert len(corpora.read("audformat", root)) == 4  # audformat itself would take the pickles
    for csv in root.glob("*.csv"):
        csv.unlink()
    with pytest.raises(CorpusError, match="only as a pickle"):
        corpora.read("audformat", root)
    assert not mark.exists()


def test_a_header_makes_no_objects(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "db.yaml").write_text(f"name: !!python/object/apply:builtins.open [{mark}, w]\n")
    with pytest.raises(CorpusError, match="is no audformat header"):
        corpora.read("audformat", tmp_path)
    assert not mark.exists()


def test_what_a_database_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no db\.yaml"):
        corpora.read("audformat", tmp_path)
    database(tmp_path)
    (tmp_path / "wav/b.wav").unlink()
    with pytest.raises(CorpusError, match=r"table 'emotion.test', row 2: 'wav/b.wav' is not there"):
        corpora.read("audformat", tmp_path)
    assert len(corpora.read("audformat", tmp_path, skip_missing=True)) == 3
    (tmp_path / "db.segments.csv").unlink()
    with pytest.raises(CorpusError, match=r"db\.segments\.csv or \.parquet: the table's file is not there"):
        corpora.read("audformat", tmp_path)


def test_an_option_goes_to_those_of_several_corpora_that_take_it(folder: Path) -> None:
    path = write(folder, "file,emotion\nwav/a.wav,sad\nwav/x.wav,sad\n")
    tiny(folder / "emodb/03a01Fa.wav")
    both = {"manifest": path, "emodb": folder / "emodb"}
    table = read_several(both, skip_missing=True)
    assert table["corpus"].tolist() == ["manifest", "emodb"]
    assert left_out(table) == {
        "skipped": [],
        "missing": [{"file": "x.wav", "message": "list.csv, row 2"}],
    }
    with pytest.raises(CorpusError, match=r"pass --skip-missing \(skip_missing=True\)"):
        read_several(both)
    with pytest.raises(CorpusError, match="unknown option 'skip_missing'"):
        read_several({"emodb": folder / "emodb"}, skip_missing=True)
