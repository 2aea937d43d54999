"""What all readers promise: one table, whatever the layout; clear errors for everything else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import audformat
import audformat.utils
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.corpora import CORPORA, get, read
from subtone.corpora.base import COLUMNS, EMOTIONS, NUMBER_COLUMNS, Corpus, Published, Reading, Row, table
from subtone.corpora.names import Clip
from subtone.corpora.ravdess import PATTERN, parse
from subtone.corpora.registry import guess, names
from subtone.errors import CorpusError

NAMED = (
    *("aesdd", "ased", "baved", "cafe", "cremad", "emodb", "emotale", "emotiontts-ko", "emovo"),
    *("mesd", "nemo", "ravdess", "savee", "shemo", "subesco", "tess", "turevdb", "urdu"),
)
STEMS = ("03-01-01-01-01-01-01", "03-01-05-02-02-01-02", "03-01-08-01-02-02-24")


def grow(root: Path, files: Iterable[str], content: bytes = b"") -> Path:
    """Make files below a folder; the content is the file's own path unless given."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or name.encode())
    return root


def files_of(frame: pd.DataFrame, root: Path) -> list[str]:
    return [Path(file).relative_to(root).as_posix() for file in frame.index.get_level_values("file")]


@pytest.mark.parametrize("name", NAMED)
def test_every_corpus_gives_the_same_columns_and_types(name: str, tmp_path: Path) -> None:
    frame = read(name, grow(tmp_path, [get(name).example]))
    assert tuple(frame.columns) == COLUMNS
    for column in COLUMNS:
        assert str(frame[column].dtype) == ("Float64" if column in NUMBER_COLUMNS else "string")
    assert frame["corpus"].tolist() == [name]
    assert frame["language"].item() in get(name).languages
    assert frame["speaker"].notna().all()
    assert name == "baved" or frame["emotion"].item() in EMOTIONS


@pytest.mark.parametrize("name", NAMED)
def test_description_of_a_corpus_agrees_with_itself(name: str) -> None:
    corpus = get(name)
    assert corpus.name == name
    assert corpus.title
    assert corpus.licence
    assert corpus.cite
    assert set(corpus.emotions) <= set(EMOTIONS)
    assert corpus.published.source
    if corpus.published.per_emotion:
        assert set(corpus.published.per_emotion) == set(corpus.emotions)
        assert sum(corpus.published.per_emotion.values()) == corpus.published.clips
    assert guess([Path(corpus.example).stem]) == name


def test_index_is_audformats_and_survives_its_tools(tmp_path: Path) -> None:
    frame = read("ravdess", grow(tmp_path, [f"{stem}.wav" for stem in STEMS]))
    assert audformat.is_segmented_index(frame)
    audformat.assert_index(frame.index)
    assert all(os.path.isabs(file) for file in frame.index.get_level_values("file"))
    assert frame.index.get_level_values("end").isna().all()
    assert (frame.index.get_level_values("start") == pd.Timedelta(0)).all()
    assert len(audformat.utils.union([frame.index, frame.index[:1]])) == 3
    assert len(audformat.utils.difference([frame.index, frame.index[:1]])) == 2


def test_order_is_by_file_and_not_by_the_file_system(tmp_path: Path) -> None:
    paths = [f"{folder}/{stem}.wav" for folder, stem in zip("zam", STEMS)]
    frame = read("ravdess", grow(tmp_path, paths))
    assert files_of(frame, tmp_path) == sorted(paths)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".mp3", ".WAV", ".m4a", ".ogg"])
def test_extension_does_not_matter(suffix: str, tmp_path: Path) -> None:
    frame = read("emodb", grow(tmp_path, [f"wav/03a01Fa{suffix}"]))
    assert frame["emotion"].tolist() == ["happiness"]


def test_layout_does_not_matter(tmp_path: Path) -> None:
    layouts = {
        "official": [f"Actor_{stem[-2:]}/{stem}.wav" for stem in STEMS],
        "flat": [f"{stem}.wav" for stem in STEMS],
        "renamed": [f"my data/Ünicode/{i}/{stem}.flac" for i, stem in enumerate(STEMS)],
    }
    tables = [read("ravdess", grow(tmp_path / name, paths)) for name, paths in layouts.items()]
    records = [frame.sort_values("raw").reset_index(drop=True) for frame in tables]
    pd.testing.assert_frame_equal(records[0], records[1])
    pd.testing.assert_frame_equal(records[0], records[2])


def test_hidden_files_and_what_macos_leaves_are_passed_over(tmp_path: Path) -> None:
    junk = [
        "._03-01-01-01-01-01-01.wav",
        ".trash/x.wav",
        "__MACOSX/03-01-05-02-02-01-02.wav",
        ".DS_Store",
        "notes.txt",
    ]
    frame = read("ravdess", grow(tmp_path, [*junk, f"{STEMS[0]}.wav"]))
    assert files_of(frame, tmp_path) == [f"{STEMS[0]}.wav"]


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    grow(tmp_path / "store", [f"{STEMS[0]}.wav"])
    home = grow(tmp_path / "home", [f"{STEMS[1]}.wav"])
    (home / "link").symlink_to(tmp_path / "store", target_is_directory=True)
    (home / "loop").symlink_to(home, target_is_directory=True)
    assert len(read("ravdess", home)) == 2


def test_unknown_name_is_an_error_with_file_rule_and_way_out(tmp_path: Path) -> None:
    grow(tmp_path, [f"{STEMS[0]}.wav", "a/03-01-09-01-02-01-12.wav"])
    with pytest.raises(CorpusError) as caught:
        read("ravdess", tmp_path)
    message = str(caught.value)
    for part in (
        "'ravdess'",
        "a/03-01-09-01-02-01-12.wav",
        "emotion code '09'",
        "01, 02",
        "skip_unknown=True",
    ):
        assert part in message
    assert "\n" not in message


def test_skipped_files_are_named_not_forgotten(tmp_path: Path) -> None:
    grow(tmp_path, [f"{STEMS[0]}.wav", "music.mp3", "03-01-09-01-02-01-12.wav"])
    frame = read("ravdess", tmp_path, skip_unknown=True)
    assert len(frame) == 1
    assert [Path(file).name for file, _ in frame.attrs["skipped"]] == [
        "03-01-09-01-02-01-12.wav",
        "music.mp3",
    ]
    assert all(reason for _, reason in frame.attrs["skipped"])


@pytest.mark.parametrize("skip_unknown", [False, True])
def test_folder_of_another_corpus_says_whose_it_is(skip_unknown: bool, tmp_path: Path) -> None:
    grow(tmp_path, ["03a01Fa.wav", "16b10Wb.wav"])
    with pytest.raises(CorpusError, match=r"03-01-06-01-02-01-12\.wav.*looks like corpus 'emodb'"):
        read("ravdess", tmp_path, skip_unknown=skip_unknown)


def test_nothing_to_read_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no such folder"):
        read("ravdess", tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"holds no audio file; expected names like 03-01-06"):
        read("ravdess", tmp_path)
    (tmp_path / "03-01-01-01-01-01-01.wav").touch()
    with pytest.raises(CorpusError, match=r"is a file; give the folder"):
        read("ravdess", tmp_path / "03-01-01-01-01-01-01.wav")


def test_unlistable_folder_is_named(tmp_path: Path) -> None:
    grow(tmp_path, [f"{STEMS[0]}.wav", "closed/x.wav"])
    (tmp_path / "closed").chmod(0)
    try:
        if os.access(tmp_path / "closed", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(CorpusError, match="closed"):
            read("ravdess", tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_identical_copies_of_a_clip_are_read_once(tmp_path: Path) -> None:
    # As the archive on Kaggle holds the whole of RAVDESS a second time in a folder of its own.
    paths = [f"Actor_01/{STEMS[0]}.wav", f"audio_speech_actors_01-24/Actor_01/{STEMS[0]}.wav"]
    frame = read("ravdess", grow(tmp_path, paths, b"same"))
    assert files_of(frame, tmp_path) == paths[:1]
    assert [
        [Path(part).relative_to(tmp_path).as_posix() for part in pair] for pair in frame.attrs["duplicates"]
    ] == [[paths[1], paths[0]]]


@pytest.mark.parametrize("other", [f"b/{STEMS[0]}.wav", f"{STEMS[0]}.flac", f"b/{STEMS[0]}.WAV"])
def test_different_files_of_one_clip_are_refused_unless_told(other: str, tmp_path: Path) -> None:
    grow(tmp_path, [f"a/{STEMS[0]}.wav", other])
    with pytest.raises(CorpusError, match=r"different files of the same clip.*duplicates='first'") as caught:
        read("ravdess", tmp_path)
    assert f"a/{STEMS[0]}.wav" in str(caught.value)
    assert other in str(caught.value)
    frame = read("ravdess", tmp_path, duplicates="first")
    assert len(frame) == 1
    assert len(frame.attrs["duplicates"]) == 1
    with pytest.raises(CorpusError, match="neither 'error' nor 'first'"):
        read("ravdess", tmp_path, duplicates="last")


def test_unreadable_copy_is_named(tmp_path: Path) -> None:
    grow(tmp_path, [f"a/{STEMS[0]}.wav"])
    (tmp_path / f"{STEMS[0]}.wav").symlink_to(tmp_path / "gone")
    with pytest.raises(CorpusError, match="cannot be read"):
        read("ravdess", tmp_path)


def test_unknown_corpus_or_option_names_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="did you mean 'ravdess'"):
        read("ravdes", tmp_path)
    with pytest.raises(CorpusError, match="unknown option 'skip_unkown'; did you mean 'skip_unknown'"):
        read("ravdess", tmp_path, skip_unkown=True)


def test_names_are_found_in_other_spellings() -> None:
    assert get("RAVDESS") is get("ravdess")
    assert get("emotiontts") is get("emotiontts_ko") is get("emotiontts-ko")
    assert get("CREMA-D") is get("crema_d") is get("cremad")
    assert get("TurEV-DB") is get("turevdb")
    assert set(NAMED) <= set(CORPORA) == set(names())
    assert "no such corpus" not in CORPORA
    assert CORPORA["ravdess"].name == "ravdess"


def test_listing_corpora_imports_no_pandas() -> None:
    program = (
        "import sys; from subtone.corpora import CORPORA; assert len(CORPORA) > 17; "
        "assert not {'pandas', 'audformat', 'torch', 'soundfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_table_survives_parquet(tmp_path: Path) -> None:
    frame = read(
        "ravdess", grow(tmp_path, [f"{stem}.wav" for stem in STEMS] + ["junk.wav"]), skip_unknown=True
    )
    frame.to_parquet(tmp_path / "table.parquet")
    back = pd.read_parquet(tmp_path / "table.parquet")
    assert back["emotion"].tolist() == frame["emotion"].tolist()
    assert back["age"].isna().all()
    assert back.attrs == frame.attrs


def corpus_of(*rows: Row, languages: tuple[str, ...] = ("en",)) -> pd.DataFrame:
    corpus = Corpus("x", "X", languages, "", "", "", (), Published(), Reading)
    return table(corpus, Reading(list(rows)))


def test_vocabulary_is_closed() -> None:
    with pytest.raises(
        CorpusError, match=r"'angr' is no emotion of the closed vocabulary; did you mean 'anger'"
    ):
        corpus_of(Row(Path("a.wav"), emotion="angr"))
    assert corpus_of(Row(Path("a.wav")))["emotion"].isna().all()


def test_stretch_of_a_file_has_one_row() -> None:
    halves = [Row(Path("a.wav"), start_s=1.5), Row(Path("a.wav"), start_s=0.0, end_s=1.5)]
    frame = corpus_of(*halves)
    assert frame.index.get_level_values("start").total_seconds().tolist() == [0.0, 1.5]
    assert frame.index.get_level_values("end")[0] == pd.Timedelta(1.5, unit="s")
    with pytest.raises(CorpusError, match="named twice"):
        corpus_of(Row(Path("a.wav"), emotion="anger"), Row(Path("a.wav"), emotion="fear"))
    with pytest.raises(CorpusError, match="no utterance"):
        corpus_of()


def test_language_is_the_corpuss_only_where_it_has_one() -> None:
    assert corpus_of(Row(Path("a.wav"))).language.tolist() == ["en"]
    assert corpus_of(Row(Path("a.wav")), languages=("da", "en")).language.isna().all()
    assert corpus_of(Row(Path("a.wav"), language="da"), languages=("da", "en")).language.tolist() == ["da"]


two = st.integers(1, 2).map("{:02d}".format)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), two, two, two, st.integers(1, 24))
def test_no_field_of_a_name_is_lost(emotion: int, level: str, statement: str, take: str, actor: int) -> None:
    stem = f"03-01-{emotion:02d}-{level}-{statement}-{take}-{actor:02d}"
    row = parse(Clip(Path(f"/x/{stem}.wav"), stem, ("x",)), songs=False)
    assert PATTERN.fullmatch(stem)
    assert (row.raw, row.sentence, row.speaker) == (f"{emotion:02d}", statement, f"{actor:02d}")
    assert row.intensity == {"01": "normal", "02": "strong"}[level]
    assert row.gender == ("male" if actor % 2 else "female")
