"""Recipes that fine-tune: each fold's upstream its own, nothing done twice, and the paper's figures beside ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from subtone import recipes, upstreams
from subtone.errors import RecipeError, SubtoneError, TrainingError, UsageError
from subtone.recipes.data import protocol_for
from subtone.recipes.load import load
from subtone.speech import get_detector
from subtone.training.end_to_end.frames import encode_frames
from tests import small_clips, synthetic, tiny_upstreams
from tests.cli_cases import ROOT, subtone_in_a_process
from tests.test_corpora_iemocap import plant

#: Settings under which a recipe trains in seconds.
QUICK = (
    "detector={name: energy}",
    "finetuning.fit.epochs=2",
    "finetuning.fit.average=2",
    "finetuning.fit.batch_s=1.6",
    "finetuning.crop_s=1.5",
    "downstream.epochs=2",
    "downstream.average=2",
    "evaluation.resamples=100",
    "evaluation.permutations=100",
)
SMALL_ECAPA = "networks.ecapa.aggregator={name: ecapa, channels: 8, embedding: 6}"
NO_OTHER_ECAPA = "networks.ecapa-no-averaging.aggregator=mean"


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.manifest(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_upstreams.write(tmp_path_factory.mktemp("whisper"), "whisper-80")


def run(name: str, given: dict[str, Path], out: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    folder = recipes.run(name, given, out=out, overrides=[*QUICK, *overrides], **options)
    assert folder == out
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


@pytest.fixture(scope="module")
def finished(tones: Path, whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "result"
    overrides = ("protocol.k=2", SMALL_ECAPA, NO_OTHER_ECAPA, "networks.both={aggregator: gap+sap}")
    run("e2e-ecapa", {"manifest": tones}, out, *overrides, upstream=str(whisper))
    return out


def test_every_network_is_measured_on_every_clip(finished: Path) -> None:
    record = json.loads((finished / "metrics.json").read_text())
    assert set(record["systems"]) == {"mean", "ecapa", "ecapa-no-averaging", "both"}
    for system in record["systems"].values():
        assert system["n"] == 24
        assert len(system["folds"]) == 2
    assert {(c["a"], c["b"]) for c in record["comparisons"]} == {
        ("mean", "ecapa"),
        ("ecapa-no-averaging", "ecapa"),
    }
    told = record["finetuning"]["fold1-seed0"]
    (upstream,) = told["upstreams"].values()
    assert upstream["epochs"] == 2
    assert len(upstream["kept"]) == 2
    assert set(upstream["dev_ua"]) == {"best", "averaged"}
    assert "without its test speakers" in record["protocol"]["description"]
    predictions = pd.read_parquet(finished / "predictions.parquet")
    assert len(predictions) == 4 * 24
    assert {name: one["temperature"] for name, one in record["calibration"].items()} == dict.fromkeys(
        record["systems"], "fitted"
    )
    assert all(one["spread"]["speakers"] == 4 for one in record["slices"].values())


def test_the_page_has_the_published_rows_beside_ours(finished: Path) -> None:
    page = (finished / "README.md").read_text()
    assert "## Beside the paper (Morais et al. 2022" in page
    assert "| ecapa, published | wav2vec 2.0 (robust) | iemocap | 77.36 | 76.58 | session 5-fold |" in page
    assert "| **ecapa**, this run |" in page
    assert "of another corpus" in page
    record = json.loads((finished / "metrics.json").read_text())
    assert {"system": "ecapa", "what": "HuBERT", "ua": 77.04}.items() <= record["published"][3].items()


def test_each_fold_leaves_an_upstream_that_loads(finished: Path) -> None:
    work = finished.with_name("result.work") / "e2e-ecapa"
    folders = sorted(work.glob("fold*/upstream1/averaged"))
    assert [folder.parts[-3] for folder in folders] == ["fold1-seed0", "fold2-seed0"]
    prints = {upstreams.load(folder).fingerprint() for folder in folders}
    assert len(prints) == 2
    assert all(upstreams.load(folder).taught_on == ("manifest",) for folder in folders)
    assert not list(work.glob("fold*/*/checkpoint")) and not list(work.glob("fold*/*/epochs"))  # noqa: PT018
    assert not (work / "frozen").exists()
    assert (work / "fold1-seed0" / "upstream1" / "curves.csv").is_file()
    assert list((work / "fold1-seed0" / "upstream1" / "tensorboard").iterdir())


def test_what_is_done_is_not_done_again_and_comes_out_the_same(
    finished: Path, tones: Path, whisper: Path
) -> None:
    work = finished.with_name("result.work") / "e2e-ecapa"
    scores = work / "fold2-seed0" / "scores.safetensors"
    before, kept = load_file(scores), (work / "fold1-seed0" / "scores.safetensors").stat().st_mtime_ns
    whole = json.loads((finished / "metrics.json").read_text())
    scores.unlink()  # as if the second fold had been broken off
    overrides = ("protocol.k=2", SMALL_ECAPA, NO_OTHER_ECAPA, "networks.both={aggregator: gap+sap}")
    again = run("e2e-ecapa", {"manifest": tones}, finished, *overrides, upstream=str(whisper), overwrite=True)
    assert (work / "fold1-seed0" / "scores.safetensors").stat().st_mtime_ns == kept
    after = load_file(scores)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert again["systems"]["ecapa"]["ua"] == whole["systems"]["ecapa"]["ua"]


def test_other_settings_in_the_same_folder_are_told(finished: Path, tones: Path, whisper: Path) -> None:
    overrides = ("protocol.k=2", SMALL_ECAPA, NO_OTHER_ECAPA, "networks.both={aggregator: gap+sap}")
    with pytest.raises(
        TrainingError, match=r"another downstream\.epochs \(2, now 3\); .*delete .*/e2e-ecapa to begin"
    ):
        run(
            "e2e-ecapa",
            {"manifest": tones},
            finished,
            *overrides,
            "downstream.epochs=3",
            upstream=str(whisper),
            overwrite=True,
        )


def test_labels_of_test_speakers_change_no_other_score(tones: Path, whisper: Path, tmp_path: Path) -> None:
    """Epochs, averages and weights are blind to the test fold: with its labels turned, its scores stay."""
    table = pd.read_csv(tones)
    overrides = ("protocol.folds=fixed", "protocol.dev=speakers", "networks={mean: {aggregator: mean}}",
                 "compare=[]", "published=[]")  # fmt: skip
    scores = []
    for name, turned in (
        ("as-is", {}),
        ("turned", {"anger": "sadness", "sadness": "happiness", "happiness": "anger"}),
    ):
        told = table.copy()
        tested = told["split"] == "test"
        told.loc[tested, "emotion"] = told.loc[tested, "emotion"].replace(turned)
        path = tones.with_name(f"{name}.csv")
        told.to_csv(path, index=False)
        out = tmp_path / name
        run("e2e-mean", {"manifest": path}, out, *overrides, upstream=str(whisper))
        predictions = pd.read_parquet(out / "predictions.parquet")
        scores.append(predictions[["anger", "happiness", "sadness"]].to_numpy())
    np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize("kind", ["early", "late"])
def test_upstreams_of_different_hops_are_joined(
    kind: str, tones: Path, whisper: Path, tmp_path: Path
) -> None:
    networks = (
        f"networks.{kind}-fusion={{fusion: {kind}, aggregator: {{name: ecapa, channels: 8, embedding: 4}}}}"
    )
    alone = [f"networks.{name}.aggregator=gap+sap" for name in ("first", "second")]
    record = run(
        f"e2e-{kind}-fusion",
        {"manifest": tones},
        tmp_path / "out",
        "protocol.k=2",
        networks,
        *alone,
        upstream=[str(whisper), "fbank:20"],
    )
    assert set(record["systems"]) == {"first", "second", f"{kind}-fusion"}
    assert [one["name"] for one in record["upstreams"]] == [str(whisper), "fbank:20"]
    told = record["finetuning"]["fold1-seed0"]["upstreams"]
    assert list(told) == [str(whisper)]  # filter banks have nothing to tune


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in small: five sessions of two speakers, each with every code of the four-class task."""
    codes = ("ang", "hap", "exc", "neu", "sad", "fru")
    turns = {
        f"Ses0{session}F_impro01_{side}{n:03d}": code
        for session in range(1, 6)
        for side in "FM"
        for n, code in enumerate(codes)
    }
    root = plant(tmp_path_factory.mktemp("corpora") / "IEMOCAP_full_release", turns)
    for number, path in enumerate(sorted(root.rglob("Ses*.wav"))):
        path.unlink()
        synthetic.write(path, synthetic.utterance(0.4, 150.0 + 40 * (number % 6), seed=number))
    return root


def test_iemocap_is_divided_by_session_and_its_development_is_the_papers(
    iemocap: Path, whisper: Path, tmp_path: Path
) -> None:
    settings = [part for one in (*QUICK, SMALL_ECAPA, NO_OTHER_ECAPA) for part in ("--set", one)]
    command = [
        "recipe",
        "run",
        "e2e-ecapa",
        "--corpus",
        f"iemocap={iemocap}",
        "--upstream",
        whisper,
        *settings,
    ]
    process = subtone_in_a_process(
        *command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err.decode()
    assert out.decode().split() == ["results/e2e-ecapa-iemocap"]
    record = json.loads((tmp_path / "results/e2e-ecapa-iemocap/metrics.json").read_text())
    assert record["protocol"]["folds"] == "leave-one-session-out"
    assert record["protocol"]["dev"] == "random"
    assert record["protocol"]["classes"] == ["anger", "happiness", "neutral", "sadness"]
    assert record["protocol"]["clips"] == 50
    assert len(record["systems"]["ecapa"]["folds"]) == 5
    page = (tmp_path / "results/e2e-ecapa-iemocap/README.md").read_text()
    assert "of another corpus" not in page
    assert "subtone: ecapa: UA" in err.decode()


def test_a_protocol_asked_for_holds_for_corpora_with_their_own() -> None:
    sessions = load("e2e-mean")
    assert protocol_for(sessions, {"iemocap": ""}).folds == "leave-one-session-out"
    assert protocol_for(sessions, {"ravdess": ""}).folds == "group-k-fold"
    for asked in (
        "protocol.folds=leave-one-speaker-out",
        "protocol={folds: leave-one-speaker-out, dev: random}",
    ):
        speakers = load("e2e-mean", [asked])
        for corpus in ("iemocap", "ravdess"):
            plan = protocol_for(speakers, {corpus: ""})
            assert (plan.folds, plan.dev, plan.dev_share) == ("leave-one-speaker-out", "random", 0.2)


def test_an_option_of_an_aggregator_may_be_set_by_itself() -> None:
    network = load("e2e-ecapa", ["networks.ecapa.aggregator.channels=64"]).networks["ecapa"]
    assert (network.aggregator.name, network.aggregator.channels) == ("ecapa", 64)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("finetuning.tuning={train: top-layers, top_layers: 9}",), "top_layers = 9"),
        (("finetuning.augmentation={noise: 0.5, noise_folder: nowhere}",), "noise_folder"),
        (("extraction.precision=fp16",), "fp16 is for CUDA"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_decoded(
    overrides: tuple[str, ...], told: str, tones: Path, whisper: Path, tmp_path: Path
) -> None:
    with pytest.raises(SubtoneError, match=told):
        run(
            "e2e-mean",
            {"manifest": tones},
            tmp_path / "out",
            "protocol.k=2",
            *overrides,
            upstream=str(whisper),
        )
    assert not (tmp_path / "out.work").exists()


def test_two_processes_write_one_result(tones: Path, whisper: Path, tmp_path: Path) -> None:
    overrides = ("protocol.k=2", "networks={mean: {aggregator: mean}}", "compare=[]", "published=[]")
    settings = [part for one in (*QUICK, *overrides) for part in ("--set", one)]
    command = [
        "recipe",
        "run",
        "e2e-mean",
        "--corpus",
        f"manifest={tones}",
        "--upstream",
        str(whisper),
        *settings,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "subtone", *command, "--devices", "2", "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'two'}\n"
    one = run(
        "e2e-mean",
        {"manifest": tones},
        tmp_path / "one",
        *overrides,
        "finetuning.fit.accumulate=2",
        upstream=str(whisper),
    )
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert two["systems"]["mean"]["ua"] == pytest.approx(one["systems"]["mean"]["ua"])
    columns = ["anger", "happiness", "sadness"]
    scores = [pd.read_parquet(tmp_path / name / "predictions.parquet")[columns] for name in ("one", "two")]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_what_an_upstream_was_taught_is_told(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ravdess" in upstreams.load("subtone-mini:speech").taught_on
    original = upstreams.load

    def taught(name: Any, **options: Any) -> upstreams.Upstream:
        loaded = original(name, **options)
        loaded.taught_on = ("manifest",)
        return loaded

    monkeypatch.setattr(upstreams, "load", taught)
    overrides = (
        "protocol.k=2",
        "networks={mean: {weights: frozen, aggregator: mean}}",
        "compare=[]",
        "published=[]",
    )
    record = run("e2e-mean", {"manifest": tones}, tmp_path / "out", *overrides, upstream="fbank:20")
    assert (
        "fbank:20 was taught on manifest with emotions, TEST SPEAKERS INCLUDED"
        in record["protocol"]["description"]
    )


def test_frames_for_networks_are_those_of_the_upstream(tmp_path: Path, whisper: Path) -> None:
    clips, _ = small_clips.decoded(tmp_path)
    upstream = upstreams.load(whisper)
    frames = encode_frames(upstream, clips, tmp_path / "frames", "mix")
    stream = frames.read(np.array([3, 0]))
    for place, row in enumerate((3, 0)):
        wave, speech = clips.read(row)
        (expected,) = upstream.extract([wave])
        count = expected.shape[1]
        assert stream.mask[place].sum() == count
        np.testing.assert_allclose(stream.frames[place, :, :count], expected, atol=2e-4)
        np.testing.assert_array_equal(stream.speech[place, :count], speech.project(upstream.grid, count))
    mean, deviation = frames.moments(np.array([0, 1]))
    both = np.concatenate([upstream.extract([clips.read(row)[0]])[0] for row in (0, 1)], axis=1)
    np.testing.assert_allclose(mean, both.mean(1), atol=1e-3)
    np.testing.assert_allclose(deviation, both.std(1), atol=1e-3)


def test_a_clip_that_cannot_be_read_is_named_and_the_rest_is_done(tmp_path: Path, whisper: Path) -> None:
    manifest = synthetic.manifest(tmp_path / "corpus")
    (tmp_path / "corpus" / "s0" / "anger_0.wav").write_bytes(b"no audio")
    record = run(
        "e2e-mean",
        {"manifest": manifest},
        tmp_path / "out",
        "protocol.k=2",
        "networks={mean: {aggregator: mean}}",
        "compare=[]",
        "published=[]",
        upstream=str(whisper),
    )
    assert [entry["file"] for entry in record["failed"]] == ["anger_0.wav"]
    assert record["systems"]["mean"]["n"] == 23


@pytest.mark.parametrize(
    ("name", "overrides", "upstream", "told"),
    [
        ("e2e-mean", (), ["a", "b"], r"stands on 1 upstream, given are 2; give --upstream once"),
        ("e2e-early-fusion", (), "a", r"stands on 2 upstreams, given are 1; give --upstream 2 times"),
        ("e2e-mean", ("finetuning.fit.epohs=3",), None, r"finetuning\.fit\.epohs'; did you mean 'epochs'"),
        ("e2e-mean", ("finetuning.tunning=3",), None, r"finetuning\.tunning'; did you mean 'tuning'"),
        ("e2e-mean", ("finetuning.tuning.train=lor",), None, "lora"),
        (
            "e2e-mean",
            ("networks.mean.aggregator=ecappa",),
            None,
            "Input should be 'mean', 'sap'.* or 'ecapa'",
        ),
        ("e2e-mean", ("networks.mean.fusion=early",), None, "joins several upstreams, and there is one"),
        ("e2e-early-fusion", ("networks.first.only=3",), None, "only = 3, but there are 2 upstreams"),
        ("e2e-mean", ("systems={x: {pooling: gap}}",), None, "has 'networks' in the place of 'systems'"),
        ("sap", ("networks={x: {aggregator: mean}}",), None, "belong to a recipe with 'finetuning'"),
        ("e2e-mean", ("networks.maen.aggregator=sap",), None, "no network 'maen'; did you mean 'mean'"),
        ("e2e-mean", ("finetuning.fit.epochs=0",), None, r"'finetuning\.fit': epochs = 0 must be"),
        ("e2e-mean", ("downstream.epochs=0",), None, r"'downstream': epochs = 0 must be"),
        ("e2e-mean", ("extraction.leave_out_silence_s=1",), None, "tuned on whole clips; leave it away"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(
    name: str, overrides: tuple[str, ...], upstream: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=told):
        recipes.run(
            name,
            {"manifest": tmp_path / "none.csv"},
            out=tmp_path / "o",
            upstream=upstream,
            overrides=overrides,
        )


def test_processes_are_for_recipes_that_fine_tune(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not fine-tune, so one process runs it; leave --devices"):
        recipes.run("sap", {"manifest": tones}, out=tmp_path / "out", devices=2)


def test_decoded_clips_are_read_again_only_when_they_changed(tmp_path: Path) -> None:
    clips, _ = small_clips.decoded(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in clips.paths}
    again, _ = small_clips.decoded(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in again.paths} == before
    wave, speech = clips.read(0, 1000, 4000)
    whole, spoken = clips.read(0)
    np.testing.assert_array_equal(wave, whole[1000:4000])
    assert speech == spoken.clip(1000, 4000)
    assert clips.lengths[0] == len(whole) == spoken.num_samples
    assert get_detector("energy").detect(whole) == spoken
