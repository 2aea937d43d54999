"""A recipe's run: it ends in the documented folder, or in one error before the work begins."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from subtone import corpora, recipes
from subtone.errors import (
    CorpusError,
    LeakError,
    ProtocolError,
    RecipeError,
    SpeechError,
    StoreError,
    SubtoneError,
    UpstreamError,
    UsageError,
)
from subtone.recipes.data import section_for
from tests import synthetic

#: Settings with which a run on tones takes a second.
QUICK = (
    "detector={name: energy, options: {min_speech_s: 0.03, min_silence_s: 0.03, speech_pad_s: 0.0}}",
    "training.components=8",
    "training.hidden=8",
    "training.steps=20",
    "seeds=[0, 1]",
    "evaluation.resamples=100",
    "evaluation.permutations=100",
)
ONE_SYSTEM = ("systems={gap: {pooling: gap}}", "compare=[]", "seeds=[0]")


def run(given: dict[str, Path], out: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Run ``sap`` in a second and return its metrics."""
    folder = recipes.run(
        "sap", given, out=out, upstream="fbank:20", overrides=[*QUICK, *overrides], **options
    )
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.manifest(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def finished(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "deep" / "result"
    run({"manifest": tones}, out)
    return out


def copy_of(tones: Path, folder: Path) -> Path:
    """A copy of the corpus to spoil."""
    shutil.copytree(tones.parent, folder)
    return folder / tones.name


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_the_result_folder_holds_what_is_documented(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"metrics.json", "folds.csv", "predictions.parquet", "folds.png"} <= names
    assert {"recipe.yaml", "environment.json", "README.md", "confusion-gap+sap.png"} <= names
    assert [p.name for p in finished.parent.iterdir()] == ["result"], "nothing half written stays beside it"
    record = json.loads((finished / "metrics.json").read_text())
    assert set(record) >= {"protocol", "systems", "comparisons"}
    keys = {
        *("n", "ua", "ua_ci", "wa", "wa_ci", "macro_f1"),
        *("per_class_recall", "confusion", "labels", "seconds", "folds"),
    }
    votes = {f"{name} (vote)" for name in ("gap", "sap", "gap+sap")}
    assert set(record["systems"]) == {"gap", "sap", "gap+sap"} | votes
    for system in record["systems"].values():
        assert keys <= set(system)
        assert system["n"] == 24
        assert system["labels"] == ["anger", "happiness", "sadness"]
        assert [fold["name"] for fold in system["folds"]] == ["s0", "s1", "s2", "s3"]
        assert [fold["n"] for fold in system["folds"]] == [6] * 4
        assert system["ua_ci"][0] <= system["ua"] <= system["ua_ci"][1]
        assert np.sum(system["confusion"]) == 24 * system["seeds"]
        assert system["interval"]["unit"] == "speaker"
        assert system["ua"] > 0.8, "tones of another loudness and pitch are easy to tell apart"
    assert record["systems"]["gap"]["seeds"] == 2
    assert record["systems"]["gap (vote)"]["seeds"] == 1
    assert record["protocol"]["folds"] == "leave-one-speaker-out"
    assert record["protocol"]["leaks"] == ["speaker", "audio"]
    assert len(record["comparisons"]) == 4
    assert record["failed"] == []
    assert recipes.load(finished / "recipe.yaml").training.steps == 20


def test_predictions_add_up_to_the_figures(finished: Path) -> None:
    record = json.loads((finished / "metrics.json").read_text())
    table = pd.read_parquet(finished / "predictions.parquet")
    assert set(table["system"]) == set(record["systems"])
    for name, system in record["systems"].items():
        answers = table[table["system"] == name]
        seeds = [answers[answers["seed"] == i] for i in (0, 1)]
        forms = [answers] if name.endswith(" (vote)") else seeds
        right, recalls = [], []
        for rows in forms:
            assert len(rows) == 24
            assert rows.index.is_unique
            assert (rows["fold"] == rows["speaker"]).all()
            np.testing.assert_allclose(rows[["anger", "happiness", "sadness"]].sum(axis=1), 1)
            hits = rows["label"] == rows["truth"]
            right.append(hits.mean())
            recalls.append(hits.groupby(rows["truth"]).mean().mean())
        assert np.mean(right) == pytest.approx(system["wa"])
        assert np.mean(recalls) == pytest.approx(system["ua"])


def test_predictions_do_not_tell_where_the_corpus_lies(finished: Path) -> None:
    files = pd.read_parquet(finished / "predictions.parquet").index.get_level_values("file")
    assert not any(Path(file).is_absolute() for file in files)


def test_a_result_says_for_whom_its_systems_work_and_how_true_their_probabilities_are(
    tones: Path, tmp_path: Path
) -> None:
    given = copy_of(tones, tmp_path / "copy")
    rows = rows_of(given)
    for row in rows:
        row["gender"] = "female" if row["speaker"] in ("s0", "s1") else "male"
        row["age"] = "" if row["speaker"] == "s3" else "41"
    write_rows(given, rows)
    record = run({"manifest": given}, tmp_path / "out", *ONE_SYSTEM, "seeds=[0, 1]")
    predicted = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    expected = ["system", "seed", "fold", "speaker", "truth", "label", "anger", "happiness", "sadness"]
    assert list(predicted.columns) == [
        *expected,
        "gender",
        "age",
        "corpus",
    ]  # a language nobody named is not there
    assert (predicted["gender"] == "female").tolist() == predicted["speaker"].isin(["s0", "s1"]).tolist()
    assert predicted["age"].isna().tolist() == (predicted["speaker"] == "s3").tolist()
    assert set(record["slices"]) == set(record["calibration"]) == set(record["systems"])
    for name, slices in record["slices"].items():
        (cut,) = slices["cuts"]
        assert [one["name"] for one in cut["slices"]] == ["female", "male"]
        for one in cut["slices"]:
            answers = predicted[(predicted["system"] == name) & (predicted["gender"] == one["name"])]
            assert one["wa"] == pytest.approx((answers["label"] == answers["truth"]).mean())
        assert slices["spread"]["speakers"] == 4
    for name, calibration in record["calibration"].items():
        answers = predicted[predicted["system"] == name]
        chances = [row[row["truth"]] for _, row in answers.iterrows()]
        assert calibration["nll"] == pytest.approx(-np.mean(np.log(chances)))
        assert calibration["temperature"] == "fitted"
        assert list(calibration["temperatures"]) == ["s0", "s1", "s2", "s3"]
        assert calibration["ece_after"] is not None
    bare = run({"manifest": tones}, tmp_path / "bare", *ONE_SYSTEM, "protocol.dev=none")
    assert bare["calibration"]["gap"]["temperature"] == "none"
    assert bare["slices"]["gap"]["cuts"] == []
    assert "No development clips" in (tmp_path / "bare" / "README.md").read_text()


def test_the_same_seeds_give_the_same_result_with_or_without_a_store(
    tones: Path, finished: Path, tmp_path: Path
) -> None:
    def figures(record: dict[str, Any]) -> Any:
        return {key: record[key] for key in ("protocol", "systems", "comparisons", "steps", "upstream")}

    told: list[tuple[str, int, int]] = []
    first = json.loads((finished / "metrics.json").read_text())
    stored = run(
        {"manifest": tones},
        tmp_path / "a",
        store=tmp_path / "store",
        on_progress=lambda *args: told.append(args),
    )
    again = run({"manifest": tones}, tmp_path / "b", store=tmp_path / "store")
    assert figures(first) == figures(stored) == figures(again)
    assert any(what.startswith("extracting: 24 of 24 clips") and done == 24 for what, done, _ in told)
    assert list(dict.fromkeys(doing.split(":")[0] for doing, _, _ in told)) == [
        "reading the corpus",
        "extracting",
        "training",
        "scoring",
    ]
    other = run({"manifest": tones}, tmp_path / "c", "seeds=[5, 6]", store=tmp_path / "store")
    assert figures(other) != figures(first)


def test_a_finished_result_is_replaced_only_when_asked(tones: Path, tmp_path: Path) -> None:
    out = tmp_path / "result"
    run({"manifest": tones}, out, *ONE_SYSTEM)
    before = (out / "metrics.json").read_bytes()
    with pytest.raises(UsageError, match=r"not empty; .*--overwrite"):
        run({"manifest": tones}, out, *ONE_SYSTEM)
    assert (out / "metrics.json").read_bytes() == before
    record = run({"manifest": tones}, out, *ONE_SYSTEM, "corpus.classes=[anger, sadness]", overwrite=True)
    assert record["systems"]["gap"]["labels"] == ["anger", "sadness"]
    assert record["protocol"]["clips"] == 16


def test_clips_that_cannot_be_read_are_left_out_and_named(tones: Path, tmp_path: Path) -> None:
    manifest = copy_of(tones, tmp_path / "c")
    (tmp_path / "c" / "s1" / "anger_0.wav").write_text("no audio")
    (tmp_path / "c" / "s2" / "sadness_1.wav").write_bytes(b"")
    record = run({"manifest": manifest}, tmp_path / "out", *ONE_SYSTEM)
    assert [entry["file"] for entry in record["failed"]] == ["anger_0.wav", "sadness_1.wav"]
    assert all(entry["message"] for entry in record["failed"])
    assert record["systems"]["gap"]["n"] == record["protocol"]["clips"] == 22
    predicted = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert len(predicted) == 22


def test_a_corpus_of_which_nothing_can_be_read_leaves_no_result(tones: Path, tmp_path: Path) -> None:
    manifest = copy_of(tones, tmp_path / "c")
    for path in (tmp_path / "c").rglob("*.wav"):
        path.write_text(f"no audio {path}")
    with pytest.raises(StoreError, match="none of 24 clips could be used"):
        run({"manifest": manifest}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def never(doing: str, done: int, _total: int) -> None:
    assert (doing, done) == ("reading the corpus", 0), "clips were extracted before the mistake was told"


def test_the_same_audio_on_both_sides_is_refused_before_any_work_and_allowed_when_asked(
    tones: Path, tmp_path: Path
) -> None:
    manifest = copy_of(tones, tmp_path / "c")
    shutil.copy(tmp_path / "c" / "s1" / "anger_0.wav", tmp_path / "c" / "s3" / "anger_1.wav")
    with pytest.raises(LeakError, match=r"anger"):
        run({"manifest": manifest}, tmp_path / "out", on_progress=never)
    assert not (tmp_path / "out").exists()
    record = run({"manifest": manifest}, tmp_path / "out", *ONE_SYSTEM, "protocol.leaks=[]")
    assert record["protocol"]["leaks"] == []


def test_the_same_speaker_on_both_sides_is_refused_and_allowed_when_asked(
    tones: Path, tmp_path: Path
) -> None:
    manifest = copy_of(tones, tmp_path / "c")
    rows = rows_of(manifest)
    for row in rows:
        row["split"] = "test" if row["file"].endswith("_0.wav") else "train"
    write_rows(manifest, rows)
    fixed = ("protocol.folds=fixed", "protocol.dev=none")
    with pytest.raises(LeakError, match="s0"):
        run({"manifest": manifest}, tmp_path / "out", *fixed, on_progress=never)
    record = run({"manifest": manifest}, tmp_path / "out", *ONE_SYSTEM, *fixed, "protocol.leaks=[audio]")
    assert record["systems"]["gap"]["n"] == 12
    assert record["protocol"]["leaks"] == ["audio"]


def test_lists_in_the_split_column_are_followed_and_only_tested_clips_are_scored(
    tones: Path, tmp_path: Path
) -> None:
    record = run({"manifest": tones}, tmp_path / "out", *ONE_SYSTEM, "protocol.folds=fixed")
    assert record["protocol"]["folds"] == "fixed"
    assert record["protocol"]["dev"] == "listed"
    assert record["protocol"]["clips"] == 24
    assert record["systems"]["gap"]["n"] == 6
    predicted = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert set(predicted["speaker"]) == {"s0"}


def test_sessions_and_groups_of_speakers_make_folds_too(tones: Path, tmp_path: Path) -> None:
    sessions = run(
        {"manifest": tones},
        tmp_path / "a",
        *ONE_SYSTEM,
        "protocol.folds=leave-one-session-out",
        "protocol.dev_share=0.5",
    )
    assert [fold["name"] for fold in sessions["systems"]["gap"]["folds"]] == ["ses0", "ses1"]
    groups = run(
        {"manifest": tones}, tmp_path / "b", *ONE_SYSTEM, "protocol.folds=group-k-fold", "protocol.k=3"
    )
    assert len(groups["systems"]["gap"]["folds"]) == 3
    assert groups["systems"]["gap"]["n"] == 24


def test_random_folds_of_clips_run_as_they_are_and_the_result_is_marked(tones: Path, tmp_path: Path) -> None:
    record = run(
        {"manifest": tones},
        tmp_path / "out",
        *ONE_SYSTEM,
        "protocol.folds=random-k-fold",
        "protocol.k=3",
        "protocol.dev=random",
    )
    assert record["protocol"]["speaker_dependent"] is True
    assert record["protocol"]["leaks"] == ["audio"]
    assert "SPEAKER-DEPENDENT" in record["protocol"]["description"]
    assert record["systems"]["gap"]["n"] == 24
    assert "**Speaker-dependent split**" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("override", "error", "told"),
    [
        ("protocol.folds=by-moon", ProtocolError, "unknown kind 'by-moon'"),
        ("protocol.dev=partners", ProtocolError, r"did you mean 'partner'"),
        ("protocol.folds=emobox", ProtocolError, "needs lists"),
        ("protocol.lists=nowhere.csv", SubtoneError, r"nowhere\.csv"),
        ("protocol.folds=group-k-fold", ProtocolError, r"k = 10, but the table has 4 speakers"),
        ("corpus.classes=[anger, anger]", ProtocolError, "named twice"),
        ("corpus.classes=[anger]", ProtocolError, "two classes or more"),
        ("corpus.classes=[anger, boredom]", RecipeError, "no emotion 'boredom'"),
        (
            "corpus.classes=[boredom]",
            RecipeError,
            r"no emotion 'boredom'; known: anger, happiness, sadness",
        ),
        ("corpus.merges={joy: happiness}", ProtocolError, "no emotion 'joy'"),
        ("corpus.options={colour: red}", CorpusError, "colour"),
        ("detector={name: slero}", SpeechError, "did you mean 'silero'"),
        ("detector.options={min_speech: 1}", SpeechError, "did you mean 'min_speech_s'"),
    ],
)
def test_what_cannot_work_is_told_before_any_extraction(
    tones: Path, tmp_path: Path, override: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        run({"manifest": tones}, tmp_path / "out", override, on_progress=never)
    assert not (tmp_path / "out").exists()


def test_wrong_corpora_upstreams_and_folders_are_told_by_name(tones: Path, tmp_path: Path) -> None:
    def start(given: dict[str, Path], **options: Any) -> None:
        recipes.run("sap", given, **{"out": tmp_path / "out", "upstream": "fbank:20", **options})

    with pytest.raises(UsageError, match="no corpus given; pass --corpus NAME=PATH"):
        start({})
    with pytest.raises(CorpusError, match=r"unknown corpus 'ravdes'; did you mean 'ravdess'"):
        start({"ravdes": tones})
    with pytest.raises(CorpusError):
        start({"manifest": tmp_path / "missing.csv"})
    with pytest.raises(UpstreamError, match="no such folder"):
        start({"manifest": tones}, upstream=str(tmp_path / "no-upstream"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="exists and is no folder"):
        start({"manifest": tones}, out=tmp_path / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_store_of_another_upstream_is_refused(tones: Path, tmp_path: Path) -> None:
    run({"manifest": tones}, tmp_path / "a", *ONE_SYSTEM, store=tmp_path / "store")
    with pytest.raises(StoreError, match="another upstream"):
        recipes.run(
            "sap",
            {"manifest": tones},
            out=tmp_path / "b",
            upstream="fbank:30",
            overrides=QUICK,
            store=tmp_path / "store",
        )


def test_several_corpora_are_one_table_in_which_namesakes_are_two_people(
    tmp_path: Path, shared: Path
) -> None:
    clips = corpora.read("emodb", shared / "data/emodb-4class")
    chosen = clips[clips["speaker"].isin(["03", "08", "09"]).to_numpy(bool)]
    chosen = chosen[chosen["emotion"].isin(["anger", "sadness"]).to_numpy(bool)].iloc[::4]
    for file, _, _ in chosen.index:
        shutil.copy(file, (tmp_path / "emodb").mkdir(exist_ok=True) or tmp_path / "emodb")
    tones = synthetic.manifest(tmp_path / "tones", speakers=3, emotions=("anger", "sadness"))
    rows = rows_of(tones)
    for row in rows:
        row["speaker"] = {"s0": "03", "s1": "08", "s2": "09"}[row["speaker"]]
    write_rows(tones, rows)
    record = run({"emodb": tmp_path / "emodb", "manifest": tones}, tmp_path / "out", *ONE_SYSTEM)
    assert record["protocol"]["corpus"] == "emodb+manifest"
    assert record["protocol"]["speakers"] == 6
    assert record["protocol"]["clips"] == len(chosen) + 12
    assert len(record["systems"]["gap"]["folds"]) == 6
    corpus = run(
        {"emodb": tmp_path / "emodb", "manifest": tones},
        tmp_path / "out2",
        *ONE_SYSTEM,
        "protocol.folds=leave-one-corpus-out",
    )
    assert [fold["name"] for fold in corpus["systems"]["gap"]["folds"]] == ["emodb", "manifest"]


@pytest.mark.parametrize("spelling", ["iemocap", "IEMOCAP"])
def test_iemocap_is_four_classes_with_excitement_counted_as_happiness(tmp_path: Path, spelling: str) -> None:
    codes = {"ang": 2, "hap": 1, "exc": 2, "neu": 2, "sad": 2, "fru": 1, "sur": 1, "xxx": 1}
    pitch = {"ang": 600.0, "hap": 1200.0, "exc": 1200.0, "neu": 300.0, "sad": 150.0}
    for session in (1, 2):
        for speaker in "FM":
            dialogue = f"Ses0{session}{speaker}_impro01"
            turns = [
                (f"{dialogue}_{speaker}{n:03d}", code)
                for n, code in enumerate(code for code, count in codes.items() for _ in range(count))
            ]
            root = tmp_path / "IEMOCAP" / f"Session{session}"
            text = root / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(
                "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
                + "".join(f"[1.5000 - 2.2500]\t{t}\t{c}\t[2.0, 3.5, 4.0]\n\n" for t, c in turns)
            )
            for n, (turn, code) in enumerate(turns):
                wave = synthetic.utterance(
                    0.4, pitch.get(code, 900.0), seed=1000 * session + 100 * ord(speaker) + n
                )
                synthetic.write(root / "sentences" / "wav" / dialogue / f"{turn}.wav", wave)
    record = run({spelling: tmp_path / "IEMOCAP"}, tmp_path / "out", *ONE_SYSTEM)
    system = record["systems"]["gap"]
    assert system["labels"] == ["anger", "happiness", "neutral", "sadness"]
    assert np.sum(system["confusion"], axis=1).tolist() == [8, 12, 8, 8]
    assert record["protocol"]["merges"] in ([["excitement", "happiness"]], {"excitement": "happiness"})
    assert record["protocol"]["speakers"] == 4


def test_settings_that_are_set_win_over_a_corpus_section_and_several_corpora_have_none() -> None:
    plain = recipes.load("sap")
    assert section_for(plain, {"iemocap": "x"}).classes == ["anger", "happiness", "neutral", "sadness"]
    assert section_for(plain, {"emodb": "x"}) == plain.corpus
    assert section_for(plain, {"iemocap": "x", "emodb": "y"}) == plain.corpus
    two = recipes.load("sap", ["corpus.classes=[anger, sadness]"])
    assert section_for(two, {"iemocap": "x"}).classes == ["anger", "sadness"]
    assert section_for(two, {"iemocap": "x"}).merges == {"excitement": "happiness"}


def test_the_folds_of_a_benchmark_are_run_as_listed(shared: Path, tmp_path: Path) -> None:
    lists = shared / "data/emobox/ravdess.csv.gz"
    table = corpora.read("ravdess", shared / "data/ravdess")
    # One sentence of the first eight speakers, three emotions.
    chosen = table[
        table["emotion"].isin(["anger", "sadness", "calm"]).to_numpy(bool)
        & table["speaker"].isin([f"{i:02d}" for i in range(1, 9)]).to_numpy(bool)
        & (table["intensity"] == "normal").to_numpy(bool)
    ].iloc[::2]
    for file, _, _ in chosen.index:
        folder = tmp_path / "ravdess" / Path(file).parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    record = run(
        {"ravdess": tmp_path / "ravdess"},
        tmp_path / "out",
        *ONE_SYSTEM,
        "protocol.folds=emobox",
        f"protocol.lists={lists}",
    )
    assert record["protocol"]["folds"] == "emobox"
    listed = pd.read_csv(lists)
    stems = {Path(file).stem for file, _, _ in chosen.index}
    listed = listed[[Path(wav).stem in stems for wav in listed["wav"]]]
    wanted = Counter({f: int((listed[f] == "test").sum()) for f in listed if str(f).startswith("fold_")})
    found = {fold["name"]: fold["n"] for fold in record["systems"]["gap"]["folds"]}
    assert sum(found.values()) == record["systems"]["gap"]["n"] == len(stems)
    assert sorted(found.values()) == sorted(n for n in wanted.values() if n)


def test_real_speech_with_whisper_ends_in_a_result(shared: Path, tmp_path: Path) -> None:
    table = corpora.read("emodb", shared / "data/emodb-4class")
    chosen = table[
        table["speaker"].isin(["03", "08", "09"]).to_numpy(bool)
        & table["emotion"].isin(["anger", "sadness"]).to_numpy(bool)
    ]
    for file, _, _ in chosen.groupby(["speaker", "emotion"]).head(3).index:
        shutil.copy(file, (tmp_path / "emodb").mkdir(exist_ok=True) or tmp_path / "emodb")
    folder = recipes.run(
        "sap",
        {"emodb": tmp_path / "emodb"},
        out=tmp_path / "out",
        upstream=str(shared / "data/weights/whisper-tiny.en-encoder"),
        overrides=[
            "training.steps=20",
            "seeds=[0]",
            "evaluation.resamples=100",
            "evaluation.permutations=100",
        ],
    )
    record = json.loads((folder / "metrics.json").read_text())
    assert record["systems"]["gap"]["ua"] > 0.8
    assert record["upstream"]["name"].endswith("whisper-tiny.en-encoder")
