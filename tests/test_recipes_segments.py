"""Recipes of networks on segments and of SVMs: what they end in, what they use again, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from subtone import corpora, recipes, upstreams
from subtone.cli.entry import run as subtone
from subtone.errors import ProtocolError, RecipeError, StoreError, SubtoneError, TrainingError, UsageError
from subtone.extraction import ExtractionOptions, FeatureMaps, FeatureStore, clips_of, extract_to_store
from subtone.recipes import cnns as cnns_room
from subtone.recipes import svms as svms_room
from subtone.recipes.data import divide, read_corpora
from subtone.recipes.scores import read_scores, write_scores
from subtone.speech import get_detector
from subtone.training.segments.saving import load_network
from subtone.training.segments.source import WithinClips
from subtone.training.segments.train import score_clips
from subtone.training.segments.windows import cut
from tests import synthetic, tiny_upstreams

DETECTOR = {"name": "energy", "options": {"min_speech_s": 0.03, "min_silence_s": 0.03, "speech_pad_s": 0.0}}
SEGMENTS = {"length_s": 0.15, "min_speech": 0.3}
CONV = {"blocks": [{"channels": 8, "max_pool": 2}], "dense": [], "dropout": 0.0}
TINY: dict[str, Any] = {"segments": SEGMENTS, "network": CONV}
KINDS: dict[str, Any] = {
    "cnn": TINY,
    "votes": {**TINY, "decision": "majority"},
    "attends": {**TINY, "decision": "attention", "layer": -1},
    "alone": {**TINY, "segments": {**SEGMENTS, "context": "segment"}},
    "square": {
        "segments": {**SEGMENTS, "min_speech": None, "shift": False},
        "layer": 0,
        "network": {
            **CONV,
            "blocks": [{"kind": "conv2d", "channels": 4, "stride": 2}, {"kind": "conv1d", "channels": 8}],
        },
    },
}
SMALL: dict[str, Any] = {
    "name": "small",
    "title": "Networks that train in a moment",
    "upstream": "fbank:20",
    "detector": DETECTOR,
    "protocol": {"folds": "group-k-fold", "k": 2, "dev": "speakers", "dev_share": 0.4},
    "downstream": {"epochs": 2, "average": 1, "batch_s": 3.0, "learning_rate": 0.01},
    "seeds": [0],
    "evaluation": {"resamples": 100, "permutations": 100},
}
#: The same of the recipes that come with Subtone.
QUICK = (
    f"detector={json.dumps(DETECTOR)}",
    "protocol.k=2",
    "protocol.dev_share=0.4",
    "evaluation.resamples=100",
    "evaluation.permutations=100",
)


def written(folder: Path, **sections: Any) -> Path:
    """Write a recipe of small networks, with these sections."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **sections}), encoding="utf-8")
    return path


def run(recipe: str | Path, tones: Path, out: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Run a recipe and return its metrics."""
    given = {"manifest": tones} if tones.suffix == ".csv" else {"shemo": tones}
    folder = recipes.run(recipe, given, out=out, overrides=overrides, **options)
    assert folder is not None
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


def figures(record: dict[str, Any]) -> Any:
    systems = {
        name: {key: one[key] for key in ("ua", "wa", "confusion")} for name, one in record["systems"].items()
    }
    return systems, record["protocol"], record["comparisons"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.manifest(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with systems of all three kinds."""
    return written(
        tmp_path_factory.mktemp("recipe"),
        cnns=KINDS,
        systems={"gap": {"pooling": "gap"}},
        training={"components": 8, "hidden": 8, "steps": 20},
        svms={"svm": {"features": "pooled", "pooled": {"pooling": "gap+sap"}, "svm": {"costs": [1.0]}}},
        compare=[["gap", "cnn"], ["svm", "alone"]],
    )


@pytest.fixture(scope="module")
def finished(every: Path, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "result"
    run(every, tones, out)
    return out


def test_systems_of_all_kinds_stand_side_by_side_in_the_result(finished: Path, every: Path) -> None:
    record = json.loads((finished / "metrics.json").read_text())
    names = {"gap", "svm", *KINDS}
    assert set(record["systems"]) == names
    for system in record["systems"].values():
        assert system["n"] == 24
        assert len(system["folds"]) == 2
    assert [(one["a"], one["b"], one["metric"]) for one in record["comparisons"]] == [
        ("gap", "cnn", "ua"),
        ("gap", "cnn", "wa"),
        ("svm", "alone", "ua"),
        ("svm", "alone", "wa"),
    ]
    assert record["cnns"].keys() == KINDS.keys()
    for name in KINDS:
        assert record["cnns"][name].keys() == {"fold1-seed0", "fold2-seed0"}
        for told in record["cnns"][name].values():
            (stage,) = told["stages"]
            assert stage["epochs"] == len(stage["history"]) == 2
            assert 0 <= stage["dev_ua"] <= 1
            assert told["segments"] > 12
    assert {len(one) for one in record["svms"].values()} == {2}
    assert record["upstream"]["name"] == "fbank:20"
    assert record["failed"] == []
    assert recipes.load(finished / "recipe.yaml") == recipes.load(every)
    predicted = pd.read_parquet(finished / "predictions.parquet")
    assert set(predicted["system"]) == set(record["systems"])
    np.testing.assert_allclose(predicted[["anger", "happiness", "sadness"]].sum(axis=1), 1)
    text = (finished / "README.md").read_text()
    assert all(name in text for name in names)
    assert "Speaker-dependent" not in text


def test_each_system_is_scaled_by_what_it_said_of_development_clips(
    finished: Path, every: Path, tones: Path, tmp_path: Path
) -> None:
    record = json.loads((finished / "metrics.json").read_text())
    kinds = {name: one["temperature"] for name, one in record["calibration"].items()}
    assert kinds == {"gap": "fitted", "svm": "built-in", **dict.fromkeys(KINDS, "fitted")}
    told = [fold["temperature"] for fold in record["svms"]["svm"]]
    assert list(record["calibration"]["svm"]["temperatures"].values()) == told
    # Runs of an earlier version kept the scores of test clips only.
    shutil.copytree(recipes.work_folder(finished), tmp_path / "result.work")
    scores = tmp_path / "result.work" / "small" / "cnn" / "fold1-seed0" / "scores.safetensors"
    logits, about = read_scores(scores)
    tested = record["systems"]["cnn"]["folds"][0]["n"]
    assert len(logits["clips"]) > tested
    write_scores(scores, {"clips": logits["clips"][:tested]}, about)
    again = run(every, tones, tmp_path / "result")
    assert again["systems"] == record["systems"]
    assert again["calibration"]["cnn"]["ece_after"] is None
    assert "1 of 2 folds have no" in again["calibration"]["cnn"]["note"]
    assert again["calibration"]["gap"] == record["calibration"]["gap"]


def test_networks_stay_beside_the_result_and_nothing_of_their_making(finished: Path) -> None:
    work = recipes.work_folder(finished)
    assert sorted(path.name for path in work.iterdir()) == ["features", "small"]
    assert sorted(path.name for path in (work / "small").iterdir()) == sorted([*KINDS, "svm"])
    for name in KINDS:
        folder = work / "small" / name / "fold2-seed0"
        network, saved_as = load_network(folder / "network.safetensors")
        assert network.decision == saved_as.system.decision
        assert saved_as.labels == ("anger", "happiness", "sadness")
        assert (saved_as.upstream, saved_as.layers) == ("fbank:20", (0,))
        assert (folder / "whole" / "curves.csv").exists()
        assert not [path for path in folder.rglob("*") if path.name in ("checkpoint", "epochs")]
    assert len(FeatureStore.open(work / "features")) > 24 + 24, "segments are encoded by themselves as well"


@pytest.mark.parametrize("name", ["cnn", "attends", "square"])
def test_a_clip_s_answer_is_that_of_the_network_of_its_fold(
    finished: Path, every: Path, tones: Path, name: str
) -> None:
    recipe, work = recipes.load(every), recipes.work_folder(finished)
    split = divide(recipe, {"manifest": tones}, read_corpora(recipe, {"manifest": tones}))
    clips = clips_of(split.table)
    maps = FeatureMaps(FeatureStore.open(work / "features"), [clip.key() for clip in clips])
    grid = upstreams.load("fbank:20").grid
    speech = [one.project(grid, int(n)) for one, n in zip(maps.speech, maps.lengths, strict=True)]
    table = pd.read_parquet(finished / "predictions.parquet").query("system == @name")
    told = {
        Path(file).as_posix(): row for (file, _, _), row in zip(table.index, table.to_numpy(), strict=True)
    }
    at = [table.columns.get_loc(label) for label in split.protocol.classes]
    for number, fold in enumerate(split.folds, 1):
        folder = work / "small" / name / f"fold{number}-seed0"
        network, saved_as = load_network(folder / "network.safetensors")
        source = WithinClips(maps, cut(maps.lengths.tolist(), speech, 0.01, saved_as.system.segments))
        scored = np.exp(score_clips(network, source, fold.test))
        for row, posteriors in zip(fold.test.tolist(), scored, strict=True):
            given = told[Path(clips[row].file).relative_to(tones.parent).as_posix()]
            np.testing.assert_allclose(given[at].astype(float), posteriors, atol=1e-5)
            assert given[table.columns.get_loc("truth")] == split.table["emotion"].iloc[row]
            assert given[table.columns.get_loc("fold")] == fold.name


def untrained(*_: Any, **__: Any) -> None:
    raise AssertionError("a network was trained again")


def test_with_the_result_deleted_the_same_call_trains_nothing_again(
    finished: Path, every: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "result")
    shutil.copytree(recipes.work_folder(finished), recipes.work_folder(tmp_path / "result"))
    before = json.loads((finished / "metrics.json").read_text())
    shutil.rmtree(tmp_path / "result")
    monkeypatch.setattr(cnns_room, "train_segments", untrained)
    monkeypatch.setattr(svms_room, "train_svm", untrained)
    again = run(every, tones, tmp_path / "result")
    assert figures(again) == figures(before)
    assert again["cnns"] == before["cnns"]
    assert again["svms"] == before["svms"]
    with pytest.raises(AssertionError, match="trained again"):
        run(every, tones, tmp_path / "result", "seeds=[0, 1]", overwrite=True)
    shutil.rmtree(tmp_path / "result")
    for setting, told in (
        ("downstream.epochs=3", r"another downstream\.epochs \(2, now 3\)"),
        ("cnns.cnn.network.dropout=0.5", r"another settings\.network\.dropout"),
        ("svms.svm.svm.costs=[2.0]", r"another settings\.costs \(\[1\.0\], now \[2\.0\]\)"),
        ("detector.options.min_speech_s=0.04", "detector"),
    ):
        with pytest.raises(SubtoneError, match=told) as caught:
            run(every, tones, tmp_path / "result", setting)
        # The store is told of first, where it does not fit either.
        if isinstance(caught.value, TrainingError):
            assert "pass --overwrite to replace it, give the result another folder (--out)" in str(
                caught.value
            )
            assert "--store" not in str(caught.value)
            assert f"or delete {tmp_path / 'result.work' / 'small'}" in str(caught.value)
    with pytest.raises(AssertionError, match="trained again"):  # with leave to replace them
        run(every, tones, tmp_path / "result", "downstream.epochs=3", overwrite=True)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of one network and nothing else."""
    return written(tmp_path_factory.mktemp("recipe"), cnns={"cnn": TINY})


def stored(tones: Path, folder: Path, frames: Any) -> Path:
    table = corpora.read("manifest", tones)
    files = [file for file, _, _ in table.index]
    detector = get_detector("energy", **DETECTOR["options"])  # type: ignore[arg-type]
    options = ExtractionOptions(frames=frames)
    extract_to_store(upstreams.load("fbank:20"), folder, files, detector=detector, options=options)
    return folder


def test_a_store_with_frames_is_used_as_it_is_and_one_without_is_told_with_the_way_out(
    one: Path, tones: Path, tmp_path: Path, finished: Path
) -> None:
    store = stored(tones, tmp_path / "store", "all")
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    told: list[str] = []
    record = run(one, tones, tmp_path / "a", store=store, on_progress=lambda doing, _, __: told.append(doing))
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before
    assert any("24 of 24" in doing for doing in told)
    assert any("training cnn, fold 2, 2 of 2" in doing for doing in told)
    assert not (tmp_path / "a.work" / "features").exists()
    assert (tmp_path / "a.work" / "small" / "cnn" / "fold1-seed0" / "network.safetensors").exists()
    first = pd.read_parquet(finished / "predictions.parquet").query("system == 'cnn' and seed == 0")
    again = pd.read_parquet(tmp_path / "a" / "predictions.parquet")
    np.testing.assert_array_equal(again["anger"], first["anger"], "what else is trained changes nothing")
    assert record["systems"].keys() == {"cnn"}

    bare = stored(tones, tmp_path / "bare", None)
    with pytest.raises(
        StoreError, match=r"bare: holds no frames, and networks on segments .*another --store"
    ):
        run(one, tones, tmp_path / "b", store=bare)
    assert not (tmp_path / "b").exists()


def test_the_layers_that_networks_look_at_are_kept_and_no_others(tones: Path, tmp_path: Path) -> None:
    whisper = str(tiny_upstreams.write(tmp_path / "whisper", "whisper-80"))
    layers = upstreams.load(whisper).num_layers
    assert layers > 2
    last = written(tmp_path, upstream=whisper, cnns={"cnn": {**TINY, "layer": -1}})
    run(last, tones, tmp_path / "out")
    assert FeatureStore.open(tmp_path / "out.work" / "features").frame_layers == (layers - 1,)
    with pytest.raises(
        StoreError, match=rf"frames of layers {layers - 1} alone, .* need those of 0, .*another"
    ):
        run(last, tones, tmp_path / "out", "cnns.cnn.layer=null", overwrite=True)
    with pytest.raises(UsageError, match=f"layer {layers} is asked for, .* has layers 0 to {layers - 1}"):
        run(last, tones, tmp_path / "other", f"cnns.cnn.layer={layers}")
    assert not (tmp_path / "other.work" / "features").exists()


def test_random_folds_by_the_name_of_a_split_are_marked_in_the_result(tones: Path, tmp_path: Path) -> None:
    systems = f"cnns={json.dumps({'cnn': TINY})}"
    small = (*QUICK, "systems={}", systems, "compare=[]", "downstream.epochs=1")
    record = run(
        "segment-cnn",
        tones,
        tmp_path / "out",
        *small,
        "split=random",
        "splits.random.k=3",
        upstream="fbank:20",
    )
    protocol = record["protocol"]
    assert (protocol["split"], protocol["folds"]) == ("random", "random-k-fold")
    assert len(record["systems"]["cnn"]["folds"]) == 3
    assert protocol["speaker_dependent"] is True
    assert "SPEAKER-DEPENDENT" in protocol["description"]
    assert "**Speaker-dependent split**" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(RecipeError, match="no split 'randm'; did you mean 'random'"):
        run("segment-cnn", tones, tmp_path / "b", "split=randm")
    with pytest.raises(ProtocolError, match="dev"):
        run("segment-cnn", tones, tmp_path / "b", *small, "split=random", "splits.random.dev=moon")
    assert not (tmp_path / "b").exists()


def shemo(folder: Path) -> Path:
    """Write a corpus named as ShEMO is: six speakers, five emotions and a little fear."""
    letters = {
        "A": (600.0, 0.5),
        "H": (1200.0, 0.2),
        "N": (300.0, 0.1),
        "S": (150.0, 0.05),
        "W": (900.0, 0.3),
    }
    for speaker in range(1, 7):
        gender = "FM"[speaker % 2]
        for at, (letter, (pitch, level)) in enumerate(letters.items()):
            wave = synthetic.utterance(0.4, pitch + 5 * speaker, level, 100 * speaker + at)
            synthetic.write(folder / f"{gender}{speaker:02d}{letter}01.wav", wave)
    for speaker in (2, 4):
        synthetic.write(
            folder / f"F{speaker:02d}F01.wav", synthetic.utterance(0.4, 450.0, 0.2, 1000 + speaker)
        )
    return folder


def test_shemo_is_five_emotions_without_fear_divided_either_way(tmp_path: Path) -> None:
    folder = shemo(tmp_path / "ShEMO")
    assert len(list(folder.iterdir())) == 32
    for name in ("segment-cnn", "svm-egemaps", "transfer-cnn"):
        for split in (None, "speaker-disjoint", "random"):
            recipe = recipes.load(name, [f"split={split or 'null'}"])
            table = read_corpora(recipe, {"shemo": folder})
            assert len(table) == 30
            divided = divide(recipe, {"shemo": folder}, table)
            assert divided.protocol.classes == ("anger", "happiness", "neutral", "sadness", "surprise")
            assert len(divided.folds) == 5
            assert divided.protocol.speaker_dependent is (split == "random")
            assert sorted(np.concatenate([fold.test for fold in divided.folds])) == list(range(30))
    small = (*QUICK, "systems={}", f"cnns={json.dumps({'cnn': TINY})}", "compare=[]", "downstream.epochs=1")
    record = run("segment-cnn", folder, tmp_path / "out", *small, upstream="fbank:20")
    assert record["systems"]["cnn"]["labels"] == ["anger", "happiness", "neutral", "sadness", "surprise"]
    assert record["systems"]["cnn"]["n"] == 30
    assert record["not_asked_for"] == {"fear": 2}
    page = (tmp_path / "out" / "README.md").read_text()
    assert "> **Emotions left out**, as the recipe says: fear (2 clips)." in page


def test_functionals_pooled_features_and_networks_leave_out_the_same_clips(tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="needs the extra opensmile")
    tones = synthetic.manifest(tmp_path / "tones")
    (tmp_path / "tones" / "s1" / "anger_0.wav").write_text("no audio")
    mine = written(
        tmp_path,
        cnns={"cnn": TINY},
        seeds=[0, 7],
        svms={"svm": {"features": "egemaps", "svm": {"kernels": ["linear"], "costs": [0.1, 1.0]}}},
    )
    record = run(mine, tones, tmp_path / "out")
    assert [entry["file"] for entry in record["failed"]] == ["anger_0.wav"]
    assert record["failed"][0]["message"]
    assert record["protocol"]["clips"] == 23
    page = (tmp_path / "out" / "README.md").read_text()
    assert "> **1 of 24 clips could not be used**" in page
    assert "Recipe `small`: Networks that train in a moment. Upstream: fbank:20." in page
    assert page.count("| svm | ") == 5, (
        "figures, recalls, calibration, and what development chose in two folds"
    )
    assert {system["n"] for system in record["systems"].values()} == {23}
    seeds = {name: system["seeds"] for name, system in record["systems"].items()}
    assert seeds == {"cnn": 2, "cnn (vote)": 1, "svm": 1}, "in an SVM nothing is drawn"
    assert set(record["cnns"]["cnn"]) == {f"fold{fold}-seed{seed}" for fold in (1, 2) for seed in (0, 7)}
    assert record["functionals"]["egemaps"].startswith("opensmile ")
    work = sorted(path.name.partition("-opensmile")[0] for path in (tmp_path / "out.work").iterdir())
    assert work == ["features", "functionals-egemaps", "small"]


def test_svms_on_functionals_need_no_upstream_and_run_beside_pooled_features(
    tones: Path, tmp_path: Path
) -> None:
    pytest.importorskip("opensmile", reason="needs the extra opensmile")
    grid = "{kernels: [linear], costs: [0.1, 1.0]}"
    pooled = "svm-pooled: {features: pooled, pooled: {pooling: gap}}"
    both = (
        *QUICK,
        f"svms={{svm-egemaps: {{features: egemaps, svm: {grid}}}, {pooled}}}",
        "compare=[[svm-egemaps, svm-pooled]]",
    )
    store = tmp_path / "store"
    record = run("svm-egemaps", tones, tmp_path / "a", *both, upstream="fbank:20", store=store)
    assert record["systems"]["svm-egemaps"]["ua"] > 0.8
    assert record["systems"]["svm-pooled"]["ua"] > 0.8
    assert [one["kernel"] for one in record["svms"]["svm-egemaps"]] == ["linear", "linear"]
    assert record["comparisons"][0]["a"] == "svm-egemaps"
    assert [path.name for path in (tmp_path / "a.work").iterdir()] == ["svm-egemaps"], (
        "features are in the store"
    )

    functionals = (
        f"svm-egemaps: {{features: egemaps, svm: {grid}}}, svm-compare: {{features: compare, svm: {grid}}}"
    )
    alone = (*QUICK, "upstream=null", f"svms={{{functionals}}}", "compare=[]")
    other = run("svm-egemaps", tones, tmp_path / "b", *alone, store=store)
    assert other["systems"]["svm-compare"]["ua"] > 0.8
    assert "upstream" not in other
    assert other["systems"]["svm-egemaps"]["confusion"] == record["systems"]["svm-egemaps"]["confusion"]
    with pytest.raises(RecipeError, match="looks at no upstream; leave --upstream away"):
        run("svm-egemaps", tones, tmp_path / "c", *alone, upstream="fbank:20")
    with pytest.raises(RecipeError, match="upstream"):
        run("svm-egemaps", tones, tmp_path / "c", *both, "upstream=null")


def test_the_network_that_ships_learns_pictures_of_speech_in_two_stages(tmp_path: Path) -> None:
    tones = synthetic.manifest(tmp_path / "tones", emotions=("anger", "sadness"))
    quick = (
        *QUICK,
        "cnns.transfer-cnn-2s.segments.length_s=0.4",
        "cnns.transfer-cnn-2s.images.head_epochs=1",
        "downstream.epochs=1",
        "downstream.batch_s=4.0",
        "downstream.precision=fp32",
    )
    record = run("transfer-cnn", tones, tmp_path / "out", *quick)
    assert record["systems"]["transfer-cnn-2s"]["n"] == 16
    for told in record["cnns"]["transfer-cnn-2s"].values():
        assert [stage["epochs"] for stage in told["stages"]] == [1, 1]
    folder = tmp_path / "out.work" / "transfer-cnn" / "transfer-cnn-2s" / "fold1-seed0"
    network, saved_as = load_network(folder / "network.safetensors")
    assert network.encoder.name == "subtone-pictures"
    assert saved_as.labels == ("anger", "sadness")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "> **subtone-pictures has been taught emotions** on baved, emotale, emotiontts" in page
    assert "(transfer-cnn-2s) have heard the test speakers" in page
    assert not [path for path in folder.rglob("*") if path.name in ("checkpoint", "epochs")]


def test_without_development_clips_the_last_epochs_count(one: Path, tones: Path, tmp_path: Path) -> None:
    record = run(one, tones, tmp_path / "out", "protocol.dev=none")
    for told in record["cnns"]["cnn"].values():
        assert told["stages"][0]["dev_ua"] is None
        assert told["stages"][0]["kept"] == [2]
    assert record["systems"]["cnn"]["n"] == 24


def test_clips_of_no_test_fold_are_not_scored(one: Path, tones: Path, tmp_path: Path) -> None:
    record = run(one, tones, tmp_path / "out", "protocol={folds: fixed}")
    assert record["systems"]["cnn"]["n"] == 6
    assert record["protocol"]["clips"] == 24
    assert list(record["cnns"]["cnn"]) == ["fold1-seed0"]


@pytest.mark.parametrize(
    ("name", "setting", "told"),
    [
        ("transfer-cnn", "training.steps=7", "'training' means nothing .*it has 'downstream'"),
        ("svm-egemaps", "training.steps=7", "'training' means nothing .*each of 'svms' has its 'svm'"),
        ("svm-egemaps", "downstream.epochs=7", "'downstream' means nothing .*each of 'svms' has its 'svm'"),
        ("sap", "downstream.epochs=7", "'downstream' means nothing .*'downstream' is that of 'cnns'"),
        ("e2e-mean", f"cnns={json.dumps({'cnn': TINY})}", "'cnns' means nothing .*fine-tunes"),
        ("ems-npc", f"cnns={json.dumps({'cnn': TINY})}", "'cnns' means nothing .*pre-trains"),
        ("ems-npc", "svms={svm: {features: egemaps}}", "'svms' means nothing .*pre-trains"),
        ("segment-cnn", "cnns.gap+sap={}", r"two are called 'gap\+sap'"),
        ("segment-cnn", "svms={cnn-1s: {features: egemaps}}", "two are called 'cnn-1s'"),
        ("segment-cnn", "cnns.cnn-1.decision=mean", r"no cnn 'cnn-1'; did you mean 'cnn-1s'\?; to add one"),
        ("svm-egemaps", "svms.svm-egemap.svm.costs=[1]", r"no svm 'svm-egemap'; did you mean 'svm-egemaps'"),
        ("segment-cnn", "splits.rand.k=3", r"no split 'rand'; did you mean 'random'"),
        ("segment-cnn", "downstream.dropout=0.5", r"downstream\.dropout: .*network\.dropout"),
        ("segment-cnn", "cnns.a/b={}", "'a/b' cannot be part of a folder's name"),
        ("segment-cnn", "name=features", "'features' cannot be the folder of what is trained"),
        ("segment-cnn", "extraction.leave_out_silence_s=0.1", None),
        (
            "transfer-cnn",
            "cnns.transfer-cnn-2s.network={}",
            r"'cnns\.transfer-cnn-2s': .*network or images",
        ),
        ("segment-cnn", "cnns.cnn-1s.decision=vote", r"'cnns\.cnn-1s\.decision': .*'majority'"),
        ("segment-cnn", "cnns.cnn-1s.segments.length_s=0", r"'cnns\.cnn-1s\.segments': length_s = 0"),
        ("segment-cnn", "cnns.cnn-1s.segments.overlap=1", r"'cnns\.cnn-1s\.segments': overlap = 1"),
        (
            "segment-cnn",
            "cnns.cnn-1s.segments.lenght_s=1",
            r"'cnns\.cnn-1s\.segments\.lenght_s'; did .*'length_s'",
        ),
        ("segment-cnn", "cnns.cnn-1s.netwrk={}", r"'cnns\.cnn-1s\.netwrk'; did you mean 'network'"),
        (
            "segment-cnn",
            "cnns.cnn-1s.network.blocks=[{channels: 4, kernel: 2}]",
            r"'cnns\.cnn-1s\.network\.blocks\.0': kernel = 2 must be odd",
        ),
        (
            "segment-cnn",
            "cnns.cnn-1s.network.blocks=[{channels: 4, kernal: 3}]",
            r"'cnns\.cnn-1s\.network\.blocks\.0\.kernal'; did you mean 'kernel'",
        ),
        (
            "segment-cnn",
            "cnns.cnn-1s.network.blocks=[{channels: 4}, {channels: 4, kind: conv2d}]",
            r"'cnns\.cnn-1s\.network': blocks: a conv2d stands above a conv1d",
        ),
        ("segment-cnn", "cnns.cnn-1s.network.global_pool=avg", r"'cnns\.cnn-1s\.network\.global_pool'"),
        ("svm-egemaps", "svms.svm-pooled.pooled=null", r"'svms\.svm-pooled': pooled: says what"),
        ("svm-egemaps", "svms.svm-egemaps.features=egemap", r"'svms\.svm-egemaps\.features'"),
        ("svm-egemaps", "svms.svm-egemaps.svm.costs=[0]", r"'svms\.svm-egemaps\.svm': costs: 0"),
        (
            "svm-egemaps",
            "svms.svm-egemaps.svm.cost=[1]",
            r"'svms\.svm-egemaps\.svm\.cost'; did you mean 'costs'",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_told_where_it_stands(
    name: str, setting: str, told: str | None
) -> None:
    if told is None:
        assert recipes.load(name, [setting])
        alone = [setting, "cnns.cnn-1s.segments.context=segment"]
        with pytest.raises(RecipeError, match=r"cnns\.cnn-1s: .*leave extraction\.leave_out_silence_s away"):
            recipes.load(name, alone)
        return
    with pytest.raises(RecipeError, match=told) as caught:
        recipes.load(name, [setting])
    assert "\n" not in str(caught.value)


def test_a_setting_of_one_network_changes_no_other() -> None:
    plain = recipes.load("segment-cnn")
    changed = recipes.load(
        "segment-cnn", ["cnns.cnn-1s.network.dropout=0.1", "cnns.cnn-500ms.segments.overlap=0.7"]
    )
    assert changed.cnns["cnn-1s"].network.dropout == 0.1  # type: ignore[union-attr]
    assert changed.cnns["cnn-500ms"].segments.overlap == 0.7
    assert changed.cnns["cnn-500ms"].network == plain.cnns["cnn-500ms"].network
    for name in ("cnn-2s", "cnn-3s"):
        assert changed.cnns[name] == plain.cnns[name]


def test_a_system_that_is_set_to_null_goes_with_its_comparisons() -> None:
    recipe = recipes.load("segment-cnn", ["cnns.cnn-2s=null", "cnns.cnn-500ms=null"])
    assert recipe.system_names == ("gap+sap", "cnn-1s", "cnn-3s")
    assert recipe.compare == [("gap+sap", "cnn-1s"), ("gap+sap", "cnn-3s")]
    assert recipes.load("svm-egemaps", ["svms.svm-compare=null"]).compare == [("svm-egemaps", "svm-pooled")]
    with pytest.raises(RecipeError, match=r"nothing to take away; did you mean 'cnn-2s'\?"):
        recipes.load("segment-cnn", ["cnns.cnn-2=null"])


def test_the_network_that_is_trained_stands_in_the_recipe_that_is_kept() -> None:
    recipe = recipes.load("segment-cnn", ["cnns={mine: {segments: {length_s: 1.0}}}", "compare=[]"])
    assert recipe.cnns["mine"].network is not None
    assert recipes.load("transfer-cnn").cnns["transfer-cnn-2s"].network is None


def test_what_a_split_is_called_by_stays_whatever_is_asked_of_the_protocol() -> None:
    recipe = recipes.load("segment-cnn", ["protocol.folds=leave-one-speaker-out", "protocol.k=3"])
    assert recipe.protocols["iemocap"].folds == "leave-one-speaker-out"
    assert {name: (one.folds, one.k) for name, one in recipe.splits.items()} == {
        "speaker-disjoint": ("group-k-fold", 3),
        "random": ("random-k-fold", 3),
    }
    with pytest.raises(
        RecipeError, match=r"split 'random' says how clips are divided; set splits\.random\.folds"
    ):
        recipes.load("segment-cnn", ["split=random", "protocol.folds=leave-one-speaker-out"])


def test_a_recipe_that_does_not_fine_tune_is_run_by_one_process(
    one: Path, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--corpus", f"manifest={tones}", "--out", str(tmp_path / "out"), "--devices", "2"]
    assert subtone(["recipe", "run", str(one), *given]) != 0
    assert "does not fine-tune, so one process runs it" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_what_the_command_line_shows_is_run_by_it(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("segment-cnn", "svm-egemaps", "transfer-cnn"):
        assert subtone(["recipe", "show", name]) == 0
        path = tmp_path / f"{name}.yaml"
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        assert recipes.load(path) == recipes.load(name)
    settings = [
        *QUICK,
        "systems={}",
        f"cnns={json.dumps({'cnn': TINY})}",
        "compare=[]",
        "downstream.epochs=1",
    ]
    given = ["--corpus", f"manifest={tones}", "--upstream", "fbank:20", "--out", str(tmp_path / "out")]
    flags = [word for setting in settings for word in ("--set", setting)]
    assert subtone(["recipe", "run", str(tmp_path / "segment-cnn.yaml"), *given, *flags]) == 0
    shown = capsys.readouterr()
    assert str(tmp_path / "out") in shown.out
    assert "cnn: " in shown.out + shown.err
