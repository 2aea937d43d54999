"""Corpora whose names carry the labels, held against the names in EmoBox's lists and against real copies."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from subtone.corpora import get, read
from subtone.errors import CorpusError

# EmoBox's own spellings. EMOVO's list was never mapped: it repeats the Italian codes.
EMOBOX = {
    "Angry": "anger",
    "Boredom": "boredom",
    "Calm": "calm",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happy": "happiness",
    "Neutral": "neutral",
    "neutral": "neutral",  # EmoDB's list
    "Sad": "sadness",
    "Surprise": "surprise",
    **{"dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear"},
    **{"rab": "anger", "sor": "surprise", "tri": "sadness"},
}
# Clips and speakers. Where a list or the names hold fewer than published, `Published` says why.
LISTED = {
    "aesdd": (604, 6),
    "ased": (2474, 65),
    "cafe": (936, 12),
    "cremad": (7442, 91),
    "emodb": (535, 10),
    "emovo": (588, 6),
    "mesd": (862, 3),
    "ravdess": (1440, 24),
    "savee": (480, 4),
    "shemo": (2838, 87),
    "subesco": (7000, 20),
    "tess": (2800, 2),
    "turevdb": (1735, 6),
    "urdu": (400, 29),
}
# Lists whose folds EmoBox made by speaker: an oracle for the column that the lists lack.
BY_SPEAKER = ("cafe", "emovo", "ravdess", "savee", "subesco")


def emobox(shared: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(shared / "data" / "emobox" / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plant(root: Path, names: list[str]) -> Path:
    """Make a tree of the given names; all are one file, linked."""
    root.mkdir(exist_ok=True)
    seed = root / ".seed"
    seed.touch()
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(seed, path)
    return root


def by_file(frame: pd.DataFrame, root: Path, column: str) -> dict[str, Any]:
    files = (Path(file).relative_to(root).as_posix() for file in frame.index.get_level_values("file"))
    return dict(zip(files, frame[column], strict=True))


@pytest.mark.parametrize("name", LISTED)
def test_every_name_of_emoboxs_list_is_read_as_the_list_says(name: str, shared: Path, tmp_path: Path) -> None:
    rows = emobox(shared, name)
    clips, speakers = LISTED[name]
    frame = read(name, plant(tmp_path / "tree", [row["wav"] for row in rows]))
    emotions = by_file(frame, tmp_path / "tree", "emotion")
    assert emotions == {row["wav"]: EMOBOX[row["emotion"]] for row in rows}
    assert len(frame) == len(rows) == clips == get(name).published.also["EmoBox"]
    assert frame["speaker"].nunique() == speakers
    assert set(frame["emotion"]) == set(get(name).emotions)
    assert not any(frame.attrs[what] for what in ("skipped", "excluded", "duplicates", "missing"))
    if clips == get(name).published.clips:
        assert dict(Counter(emotions.values())) == dict(get(name).published.per_emotion)


@pytest.mark.parametrize("name", BY_SPEAKER)
def test_speakers_agree_with_emoboxs_folds(name: str, shared: Path, tmp_path: Path) -> None:
    rows = emobox(shared, name)
    speakers = by_file(
        read(name, plant(tmp_path / "tree", [row["wav"] for row in rows])), tmp_path / "tree", "speaker"
    )
    folds = [column for column in rows[0] if column.startswith("fold_")]
    tested: Counter[str] = Counter()
    for fold in folds:
        sides = {
            side: {speakers[row["wav"]] for row in rows if row[fold] == side} for side in ("train", "test")
        }
        assert sides["test"]
        assert not sides["train"] & sides["test"]
        tested.update(sides["test"])
    assert set(tested) == set(speakers.values())


# From the README of the shared data.
SHARED: dict[str, tuple[str, int, int, dict[str, int]]] = {
    "ravdess": (
        *("ravdess", 1440, 24),
        {
            "neutral": 96,
            **dict.fromkeys(("calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"), 192),
        },
    ),
    "emodb": ("emodb-4class", 339, 10, {"anger": 127, "neutral": 79, "happiness": 71, "sadness": 62}),
    "nemo": (
        *("nemo", 4481, 9),
        {"neutral": 809, "sadness": 769, "anger": 749, "happiness": 749, "fear": 736, "surprise": 669},
    ),
    "ased": ("ased", 2474, 65, {"neutral": 522, "fear": 510, "happiness": 486, "anger": 486, "sadness": 470}),
    "baved": ("baved", 1935, 60, {}),
    "emotale": (
        "emotale",
        800,
        18,
        dict.fromkeys(("anger", "happiness", "sadness", "boredom", "neutral"), 160),
    ),
    "emotiontts": ("emotiontts-ko", 300, 15, dict.fromkeys(("neutral", "happiness", "anger", "sadness"), 75)),
}


@pytest.mark.parametrize("name", SHARED)
def test_real_copies_have_the_counts_that_are_known_of_them(name: str, shared: Path) -> None:
    folder, clips, speakers, per_emotion = SHARED[name]
    frame = read(name, shared / "data" / folder)
    assert len(frame) == clips
    assert frame["speaker"].nunique() == speakers
    assert frame["emotion"].value_counts().to_dict() == per_emotion
    assert not any(frame.attrs[what] for what in ("skipped", "excluded", "duplicates", "missing", "notes"))
    assert frame["gender"].notna().all()
    assert (frame.groupby("speaker")["gender"].nunique() == 1).all()


def test_baved_has_levels_instead_of_emotions(shared: Path) -> None:
    frame = read("baved", shared / "data" / "baved")
    assert frame["emotion"].isna().all()
    assert frame["intensity"].value_counts().to_dict() == {"low": 585, "neutral": 672, "high": 678}
    assert frame["text"].nunique() == 7
    # The folder is the word's number too, but for one file, of which the name counts.
    files = [Path(file) for file in frame.index.get_level_values("file")]
    astray = [
        file.stem for file, word in zip(files, frame["sentence"], strict=True) if file.parent.name != word
    ]
    assert astray == ["49-m-23-6-1-201"]


def says(**columns: Any) -> dict[str, Any]:
    return columns


CASES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "ravdess",
        "03-01-06-02-02-01-12",
        says(emotion="fear", raw="06", speaker="12", gender="female", intensity="strong", session=None)
        | says(sentence="02", text="Dogs are sitting by the door"),
    ),
    (
        "emodb",
        "16b10Ea",
        says(emotion="disgust", raw="E", speaker="16", gender="female", age=31.0, sentence="b10")
        | says(text="Die wird auf dem Platz sein, wo wir sie immer hinlegen."),
    ),
    (
        "nemo",
        "WR0_surprised_64",
        says(emotion="surprise", raw="surprised", speaker="WR0", sentence="64", text=None),
    ),
    ("ased", "n1-07-02-02-57", says(emotion="neutral", raw="n", speaker="57", gender="male", sentence="07")),
    (
        "ased",
        "S4-04-02-01-29",
        says(emotion="sadness", raw="s", speaker="29", gender="female", sentence="s-04"),
    ),
    (
        "baved",
        "50-f-5-3-2-850",
        says(emotion=None, raw="2", speaker="50", gender="female", age=5.0, intensity="high", sentence="3")
        | says(text="الفيلم"),
    ),
    (
        "emotale",
        "EN_017_B_2",
        says(emotion="boredom", raw="B", speaker="017", language="en", sentence="EN_2"),
    ),
    ("emotale", "DK_004_S_5", says(emotion="sadness", language="da", arousal=None, gender=None)),
    ("emotiontts", "nea00100", says(emotion="neutral", raw="1-100", speaker="nea", gender="female")),
    ("emotiontts", "nea00101", says(emotion="happiness", raw="101-200")),
    ("emotiontts", "emh00201", says(emotion="anger", raw="201-300", speaker="emh", gender="male")),
    ("emotiontts", "neo00400", says(emotion="sadness", raw="301-400", speaker="neo", gender="male")),
    ("urdu", "SM24_F20_S032", says(emotion="sadness", raw="S", speaker="SM24", gender="male", text=None)),
    ("urdu", "SF10_F1_H01", says(emotion="happiness", speaker="SF10", gender="female")),
    (
        "turevdb",
        "7895_hl_ogul1",
        says(emotion="sadness", raw="hl", speaker="7895", sentence="ogul", gender=None),
    ),
    ("turevdb", "1984_kz_oğul", says(emotion="anger", sentence="oğul")),
    ("shemo", "M28W01", says(emotion="surprise", raw="W", speaker="M28", gender="male")),
    ("savee", "JK_sa08", says(emotion="sadness", raw="sa", speaker="JK", gender="male", sentence="sa08")),
    ("savee", "KL_su12", says(emotion="surprise", raw="su", speaker="KL")),
    (
        "tess",
        "YAF_learn_ps",
        says(
            emotion="surprise", raw="ps", speaker="YAF", gender="female", age=26.0, text="Say the word learn"
        ),
    ),
    ("tess", "OA_bite_neutral", says(emotion="neutral", speaker="OAF", age=64.0)),  # the archive's own slip
    (
        "cremad",
        "1066_IEO_DIS_LO",
        says(emotion="disgust", raw="DIS", speaker="1066", gender="male", intensity="low", sentence="IEO")
        | says(text="It's eleven o'clock"),
    ),
    ("cremad", "1091_WSI_HAP_HI", says(emotion="happiness", gender="female", intensity="high")),
    ("cremad", "1040_ITH_SAD_X", says(emotion="sadness", intensity=None)),  # the repository's own slip
    (
        "mesd",
        "Fear_F_B_basta_ya",
        says(emotion="fear", raw="Fear", speaker="F", gender="female", text="basta ya"),
    ),
    (
        "mesd",
        "Neutral_C_A_abajo",
        says(emotion="neutral", speaker="C", gender=None, age=None, sentence="abajo"),
    ),
    (
        "subesco",
        "M_02_NIPUN_S_10_NEUTRAL_2",
        says(emotion="neutral", speaker="M_02", gender="male", sentence="10"),
    ),
    ("subesco", "F_02_MONIKA_S_2_SURPRISE_3]", says(emotion="surprise", speaker="F_02", raw="SURPRISE")),
    ("aesdd", "s04 (5)b", says(emotion="sadness", raw="s", speaker="5", sentence="04")),
    ("aesdd", "f10 (01)", says(emotion="fear", speaker="1", sentence="10")),
    (
        "aesdd",
        "h20_(3)",
        says(emotion="happiness", speaker="3", sentence="h20-3"),
    ),  # improvised: words of its own
    (
        "emovo",
        "rab-f3-d2",
        says(emotion="anger", raw="rab", speaker="f3", gender="female", sentence="d2")
        | says(text="Porti con te quella cosa?"),
    ),
    (
        "cafe",
        "10-C-2-5",
        says(emotion="anger", raw="C", speaker="10", gender="female", intensity="strong", sentence="5")
        | says(text="Cinq pumas fiers et passionnés"),
    ),
    ("cafe", "11-P-1-6", says(emotion="fear", gender="male", intensity="mild")),
    ("cafe", "04-N-1-3", says(emotion="neutral", intensity=None)),
]


@pytest.mark.parametrize(
    ("name", "stem", "expected"), CASES, ids=[f"{name}:{stem}" for name, stem, _ in CASES]
)
def test_name_says_what_its_corpus_says(
    name: str, stem: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    row = read(name, plant(tmp_path, [f"{stem}.flac"])).iloc[0]
    assert {column: None if pd.isna(row[column]) else row[column] for column in expected} == expected


WRONG = [
    ("ravdess", "03-01-01-01-01-01-25", "actor"),
    ("ravdess", "03-01-01-03-01-01-01", "intensity"),
    ("ravdess", "04-01-01-01-01-01-01", "modality"),
    ("emodb", "03a01Xa", "emotion letter 'X'"),
    ("emodb", "04a01Fa", "speaker '04'"),
    ("emodb", "03a03Fa", "sentence 'a03'"),
    ("nemo", "SK0_bored_1", "emotion 'bored'"),
    ("ased", "n2-01-01-01-01", "class 'n2'"),
    ("ased", "n1-08-01-01-01", "sentence '08'"),
    ("ased", "n1-01-01-03-01", "gender code '03'"),
    ("baved", "1-m-20-3-3-7", "level '3'"),
    ("baved", "1-m-20-7-1-7", "word '7'"),
    ("emotale", "SE_001_A_1", "language 'SE'"),
    ("emotiontts", "nea00401", "number '00401'"),
    ("emotiontts", "nez00001", "speaker 'nez'"),
    ("urdu", "SM1_F1_D001", "emotion letter 'D'"),
    ("turevdb", "1157_xx_acik", "emotion code 'XX'"),
    ("shemo", "F01B01", "emotion letter 'B'"),
    ("savee", "DC_x01", "emotion code 'X'"),
    ("savee", "a01", "no speaker"),
    ("savee", "XX_a01", "speaker 'XX'"),
    ("tess", "OAF_back_calm", "emotion 'CALM'"),
    ("cremad", "1092_IEO_ANG_HI", "actor '1092'"),
    ("cremad", "1001_XYZ_ANG_HI", "sentence code 'XYZ'"),
    ("cremad", "1001_IEO_ANG_ZZ", "level 'ZZ'"),
    ("mesd", "Anger_X_A_abajo", "voice 'X'"),
    ("subesco", "F_01_OISHI_S_11_ANGRY_1", "sentence '11'"),
    ("aesdd", "a21 (1)", "utterance '21'"),
    ("emovo", "dis-f4-b1", "speaker 'f4'"),
    ("cafe", "13-C-1-1", "actor '13'"),
    ("cafe", "01-C-3-1", "intensity code '3'"),
]


@pytest.mark.parametrize(("name", "stem", "rule"), WRONG, ids=[f"{name}:{stem}" for name, stem, _ in WRONG])
def test_name_that_breaks_a_rule_is_refused_by_that_rule(
    name: str, stem: str, rule: str, tmp_path: Path
) -> None:
    good = get(name).example
    with pytest.raises(CorpusError) as caught:
        read(name, plant(tmp_path, [f"{stem}.wav", good]))
    assert rule in str(caught.value)
    assert stem in str(caught.value)
    assert len(read(name, tmp_path, skip_unknown=True)) == 1


def test_ravdess_leaves_songs_and_pictures_out_and_says_so(tmp_path: Path) -> None:
    speech, song = "03-01-05-01-01-01-02.wav", "03-02-05-01-01-01-02.wav"
    video = ["01-01-05-01-01-01-02.mp4", "02-01-05-01-01-01-02.mp4"]
    frame = read("ravdess", plant(tmp_path, [speech, song, *video]))
    assert [Path(file).name for file in frame.index.get_level_values("file")] == [speech]
    assert [Path(file).name for file, _ in frame.attrs["excluded"]] == [video[0], video[1], song]
    both = read("ravdess", tmp_path, songs=True)
    assert len(both) == 2
    for name in (speech, *video):
        (tmp_path / name).unlink()
    with pytest.raises(CorpusError, match=r"a song .* pass songs=True"):
        read("ravdess", tmp_path)


def test_savees_official_tree_takes_the_speaker_from_the_folder(tmp_path: Path) -> None:
    names = ["DC/a01.wav", "JK/a01.wav", "ALL/KL_a01.wav"]
    frame = read("savee", plant(tmp_path, names))
    assert by_file(frame, tmp_path, "speaker") == {
        "DC/a01.wav": "DC",
        "JK/a01.wav": "JK",
        "ALL/KL_a01.wav": "KL",
    }
    assert read("savee", tmp_path / "DC")["speaker"].tolist() == ["DC"]


def test_cremads_repository_with_three_formats_is_read_once_as_wav(tmp_path: Path) -> None:
    for name in (
        "AudioMP3/1001_DFA_ANG_XX.mp3",
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "VideoFlash/1001_DFA_ANG_XX.flv",
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    (tmp_path / "VideoDemographics.csv").write_text(
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not\n"
    )
    frame = read("cremad", tmp_path)
    assert by_file(frame, tmp_path, "age") == {"AudioWAV/1001_DFA_ANG_XX.wav": 51.0}
    assert frame["gender"].tolist() == ["male"]
    assert len(frame.attrs["duplicates"]) == 2
    assert not frame.attrs["notes"]


def test_cremads_actors_are_43_women_and_48_men(tmp_path: Path) -> None:
    frame = read("cremad", plant(tmp_path, [f"{actor}_DFA_ANG_XX.wav" for actor in range(1001, 1092)]))
    assert frame["gender"].value_counts().to_dict() == {"male": 48, "female": 43}


def test_nemos_table_is_compared_with_the_audio_in_both_directions(tmp_path: Path) -> None:
    root = plant(tmp_path, ["samples/AB0_anger_1.opus", "samples/AB0_fear_1.opus"])
    (root / "data.tsv").write_text(
        "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
        'AB0_anger_1.wav\tanger\t"Cytat" na początku\tcytat\tAB0\tfemale\t27\n'
        "AB0_neutral_1.wav\tneutral\tTekst.\ttekst\tAB0\tfemale\t27\n",
        encoding="utf-8",
    )
    for folder in (root, root / "samples"):  # the table is found in the folder and beside it
        frame = read("nemo", folder)
        row = frame[frame["emotion"] == "anger"].iloc[0]
        assert (row["text"], row["gender"], row["age"]) == ('"Cytat" na początku', "female", 27.0)
        assert frame.attrs["missing"] == [["AB0_neutral_1", "data.tsv"]]
        assert frame.attrs["notes"] == ["1 of 2 clips are not in data.tsv (first: ab0_fear_1)"]
    (root / "data.tsv").unlink()
    assert read("nemo", root).attrs["notes"] == ["data.tsv is not there: no text, gender or age"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the column 'file_id'"),
        (b"file_id\temotion\n", "'raw_text'"),
        (b"\xff\xfe\x00", "should be UTF-8"),
    ],
)
def test_damaged_annotation_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    plant(tmp_path, ["AB0_anger_1.wav"])
    (tmp_path / "data.tsv").write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read("nemo", tmp_path)
    assert str(tmp_path / "data.tsv") in str(caught.value)


def test_emotales_ratings_are_the_mean_of_those_given(shared: Path) -> None:
    frame = read("emotale", shared / "data" / "emotale")
    table = pd.read_csv(shared / "data" / "emotale" / "annotations.csv").set_index("file")
    for file, row in zip(frame.index.get_level_values("file"), frame.to_dict("records"), strict=True):
        line = table.loc[f"{Path(file).stem}.wav"]
        for column, letter in (("arousal", "A"), ("valence", "V"), ("dominance", "D")):
            expected = line[[f"a{rater}_{letter}" for rater in (1, 2, 3)]].astype(float).mean()
            assert row[column] == pytest.approx(expected, abs=1e-12)
        assert line["gt_emotion"] == row["raw"]
    assert frame["language"].value_counts().to_dict() == {"da": 450, "en": 350}


HEADER = "file,a1_A,a1_V,a1_D,a1_cat,a2_A,a2_V,a2_D,a2_cat,a3_A,a3_V,a3_D,a3_cat,gt_emotion\n"


def test_emotales_missing_rating_is_left_out_and_a_false_one_refused(tmp_path: Path) -> None:
    plant(tmp_path, ["wav/DK_001_A_1.wav"])
    annotations = tmp_path / "annotations.csv"
    annotations.write_text(HEADER + "DK_001_A_1.wav,4,,,A,2,,3,A,nan,,4,A,A\n")
    row = read("emotale", tmp_path).iloc[0]
    assert (row["arousal"], row["dominance"]) == (3.0, 3.5)
    assert pd.isna(row["valence"])
    for value in ("7", "high", "inf"):
        annotations.write_text(HEADER + f"DK_001_A_1.wav,4,{value},1,A,2,1,3,A,1,1,4,A,A\n")
        with pytest.raises(CorpusError, match=f"DK_001_A_1.wav: a1_V is '{value}'"):
            read("emotale", tmp_path)


def test_shemos_transcripts_are_compared_with_the_audio_in_both_directions(tmp_path: Path) -> None:
    plant(tmp_path, ["female/F01A01.wav", "male/M01N01.wav"])
    (tmp_path / "transcript").mkdir()
    (tmp_path / "transcript" / "F01A01.ort").write_text("\ufeffسلام\n خوبی ", encoding="utf-8")
    (tmp_path / "transcript" / "F01A02.ort").write_text("نه", encoding="utf-8")
    frame = read("shemo", tmp_path)
    assert by_file(frame, tmp_path, "text")["female/F01A01.wav"] == "سلام خوبی"
    assert frame["text"].isna().sum() == 1
    assert frame.attrs["missing"] == [["F01A02", "the transcripts (.ort)"]]
    assert "1 of 2 clips" in frame.attrs["notes"][0]


def test_emotiontts_takes_texts_from_the_script_folder(tmp_path: Path) -> None:
    plant(tmp_path, ["nea/wav/nea00001.wav", "nea/wav/nea00002.wav"])
    for folder, text in (("script", "안녕하세요."), ("transcript", "안녕 하세요")):
        (tmp_path / "nea" / folder).mkdir()
        (tmp_path / "nea" / folder / "nea00001.txt").write_text(text, encoding="utf-8")
    assert read("emotiontts", tmp_path)["text"].fillna("").tolist() == ["안녕하세요.", ""]


def test_ased_sentences_that_give_the_emotion_away_share_no_id(shared: Path) -> None:
    frame = read("ased", shared / "data" / "ased")
    classes = frame.groupby("sentence")["emotion"].nunique()
    assert (classes[["06", "07"]] == 5).all()
    assert (classes.drop(["06", "07"]) == 1).all()
    assert len(classes) == 27
