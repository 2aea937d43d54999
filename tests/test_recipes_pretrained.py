"""A recipe that pre-trains: equal budgets, test speakers unheard, every corpus for itself, and nothing done twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from subtone import recipes, upstreams
from subtone.errors import AudioError, PretrainingError, RecipeError
from subtone.pretraining.frames import FrameCorpus
from subtone.pretraining.intensity import IntensityModel
from tests import synthetic

#: Two variants of a network that trains in a second.
QUICK = (
    "detector={name: energy, options: {min_speech_s: 0.03, min_silence_s: 0.03, speech_pad_s: 0.0}}",
    "pretraining.size=tiny",
    "pretraining.steps=3",
    "pretraining.batch_size=4",
    "pretraining.variants={plain: {masking: none}, ems: {masking: ems}}",
    "compare=[[plain, ems]]",
    "protocol.k=2",
    "training.components=8",
    "training.hidden=8",
    "training.steps=20",
    "seeds=[0]",
    "evaluation.resamples=100",
    "evaluation.permutations=100",
)


def run(given: dict[str, Path], out: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    folder = recipes.run("ems-npc", given, out=out, overrides=[*QUICK, *overrides], **options)
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


def speakers_of(manifest: Path) -> dict[str, str]:
    table = pd.read_csv(manifest)
    return {str(manifest.parent / row.file): row.speaker for row in table.itertuples()}


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.manifest(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def finished(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "result"
    run({"manifest": tones}, out)
    return out


def settings_of(finished: Path, job: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((runs_of(finished) / job / "run.json").read_text())
    return document


def work_of(finished: Path) -> Path:
    return finished.with_name(finished.name + ".work")


def runs_of(finished: Path) -> Path:
    return work_of(finished) / "ems-npc" / "runs"


def test_each_variant_is_measured_and_compared(finished: Path) -> None:
    record = json.loads((finished / "metrics.json").read_text())
    assert set(record["systems"]) == {"plain", "ems"}
    assert {(c["a"], c["b"]) for c in record["comparisons"]} == {("plain", "ems")}
    assert record["systems"]["ems"]["n"] == 24
    assert len(record["systems"]["ems"]["folds"]) == 2
    assert set(record["slices"]) == {"plain", "ems"}
    for one in record["calibration"].values():
        assert one["temperature"] == "fitted"
        assert len([value for value in one["temperatures"].values() if value]) == 2


def test_an_upstream_never_heard_the_speakers_that_it_is_tested_on(finished: Path, tones: Path) -> None:
    predictions = pd.read_parquet(finished / "predictions.parquet")
    frames = FrameCorpus.open(work_of(finished) / "frames")
    by_speaker = speakers_of(tones)
    for number, fold in enumerate(sorted(predictions["fold"].unique()), 1):
        tested = set(predictions.loc[predictions["fold"] == fold, "speaker"])
        assert tested
        allowed = frames.select([file for file, speaker in by_speaker.items() if speaker not in tested])
        for variant in ("plain", "ems"):
            assert settings_of(finished, f"{variant}-fold{number}-run1")["corpus"]["digest"] == allowed.digest


def test_variants_differ_in_masking_and_intensity_alone(finished: Path) -> None:
    for fold in (1, 2):
        plain, ems = (settings_of(finished, f"{v}-fold{fold}-run1")["settings"] for v in ("plain", "ems"))
        differing = {name for name in plain if plain[name] != ems[name]}
        assert differing == {"masking", "intensity_input", "intensity_target"}


def test_folds_start_from_seeds_of_their_own(finished: Path) -> None:
    assert [settings_of(finished, f"plain-fold{fold}-run1")["settings"]["seed"] for fold in (1, 2)] == [0, 1]


def test_the_result_tells_coverage_and_speed_of_every_run(finished: Path) -> None:
    runs = json.loads((finished / "metrics.json").read_text())["pretraining"]["runs"]
    assert len(runs) == 4
    assert all(one["frames_per_s"] > 0 for one in runs.values())
    assert runs["plain-fold1-run1"]["coverage"] == 0
    assert runs["ems-fold1-run1"]["coverage"] > 0


def test_the_same_call_trains_nothing_again_and_ends_in_the_same_result(
    finished: Path, tones: Path, tmp_path: Path
) -> None:
    shutil.copytree(work_of(finished), tmp_path / "work")
    weights = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("checkpoint/**/*.safetensors")
    }
    assert weights
    again = run({"manifest": tones}, tmp_path / "again", store=tmp_path / "work")
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    first = json.loads((finished / "metrics.json").read_text())
    assert again["systems"] == first["systems"]


def test_recipes_share_frames_and_nothing_else_of_a_work_folder(
    finished: Path, tones: Path, tmp_path: Path
) -> None:
    shutil.copytree(work_of(finished), tmp_path / "work")
    run({"manifest": tones}, tmp_path / "out", "name=mine", "pretraining.steps=1", store=tmp_path / "work")
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"frames", "ems-npc", "mine"}
    tables = {path.name for path in (work_of(finished) / "frames").glob("table-*")}
    assert {path.name for path in (tmp_path / "work" / "frames").glob("table-*")} == tables
    share = recipes.load("ems-npc", [*QUICK, "pretraining.share=1.0"]).pretraining
    assert share is not None
    assert share.share == 1


def test_a_work_folder_of_other_settings_is_refused_with_the_setting(
    finished: Path, tones: Path, tmp_path: Path
) -> None:
    shutil.copytree(work_of(finished), tmp_path / "work")
    with pytest.raises(PretrainingError, match=r"steps \(3, now 4\)"):
        run({"manifest": tones}, tmp_path / "out", "pretraining.steps=4", store=tmp_path / "work")
    assert not (tmp_path / "out").exists()


def test_its_upstreams_can_be_used_elsewhere(finished: Path) -> None:
    upstream = upstreams.load(runs_of(finished) / "ems-fold1-run1" / "upstream")
    assert upstream.extract([synthetic.utterance()])[0].shape[0] == upstream.num_layers


def test_with_nothing_left_out_all_folds_share_an_upstream_and_the_protocol_says_so(
    tones: Path, tmp_path: Path
) -> None:
    record = run(
        {"manifest": tones}, tmp_path / "out", "pretraining.leave_out=nothing", "pretraining.repeats=2"
    )
    assert set(record["pretraining"]["runs"]) == {f"{v}-all-run{r}" for v in ("plain", "ems") for r in (1, 2)}
    assert "TEST SPEAKERS INCLUDED" in record["protocol"]["description"]
    assert record["systems"]["plain"]["seeds"] == 2


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(tones: Path, tmp_path: Path) -> None:
    shutil.copytree(tones.parent, tmp_path / "corpus")
    (tmp_path / "corpus" / "s2" / "anger_0.wav").write_bytes(b"no audio")
    record = run({"manifest": tmp_path / "corpus" / tones.name}, tmp_path / "out")
    assert [failure["file"] for failure in record["failed"]] == ["anger_0.wav"]
    assert record["systems"]["ems"]["n"] == 23


@pytest.fixture(scope="module")
def german(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some real clips of four speakers."""
    folder = tmp_path_factory.mktemp("emodb")
    for source in sorted((shared / "data" / "emodb-4class").rglob("*.opus")):
        if source.name[:2] in {"03", "08", "09", "10"} and source.stem[-1] == "a":
            (folder / source.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / source.parent.name)
    return folder


def test_several_corpora_are_measured_each_for_itself(tones: Path, german: Path, tmp_path: Path) -> None:
    record = run({"manifest": tones, "emodb": german}, tmp_path / "out", "pretraining.steps=1")
    assert set(record["systems"]) == {f"{c}: {v}" for c in ("manifest", "emodb") for v in ("plain", "ems")}
    assert {c["a"] for c in record["comparisons"]} == {"manifest: plain", "emodb: plain"}
    assert record["protocol"]["clips"] == sum(p["clips"] for p in record["protocol"]["corpora"].values())


def test_corpora_with_other_numbers_of_folds_are_refused_before_the_work(
    german: Path, tmp_path: Path
) -> None:
    six = synthetic.manifest(tmp_path / "six", speakers=6)
    with pytest.raises(RecipeError, match=r"different numbers of folds \(manifest 6, emodb 4\)"):
        run({"manifest": six, "emodb": german}, tmp_path / "out", "protocol.folds=leave-one-speaker-out")
    assert not (tmp_path / "out.work").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretraining.variants={plain: {masking: emz}}", "compare=[]"], "emz.*did you mean 'ems'"),
        (["compare=[[plain, emt]]"], "compare: no system 'emt'; there are: plain, ems"),
        (["name=frames"], "'frames' cannot be the folder of what is pre-trained"),
        (["name=a/b"], "'a/b' cannot be the folder of what is pre-trained"),
        (["pretraining.share=1.1"], "pretraining.share"),
        (["upstream=fbank"], "either 'upstream' or 'pretraining'"),
        (["pretraining.size=smal"], "did you mean 'small'"),
        (["pretraining.steps=0"], "pretraining.steps"),
        (["pretraining.architecture=mockingjay"], "'plain' hides nothing, so mockingjay would learn nothing"),
        (
            ["pretraining.variants={a/b: {masking: ems}}", "compare=[]"],
            "'a/b' cannot be part of a folder's name",
        ),
    ],
)
def test_a_mistake_in_the_recipe_is_told_before_the_work(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.load("ems-npc", [*QUICK, *overrides])


def test_audio_that_is_not_there_is_told_before_the_work(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nowhere"):
        run({"manifest": tones}, tmp_path / "out", f"pretraining.audio=[{tmp_path / 'nowhere'}]")
    assert not (tmp_path / "out.work").exists()


def test_the_protocol_says_when_the_intensity_model_was_taught_on_a_measured_corpus(
    tones: Path, tmp_path: Path
) -> None:
    taught = replace(IntensityModel.load(), trained_on=("baved", "manifest"))
    taught.save(tmp_path / "model")
    record = run(
        {"manifest": tones},
        tmp_path / "out",
        f"pretraining.intensity={tmp_path / 'model'}",
        "pretraining.steps=1",
    )
    assert "taught on manifest with levels, TEST SPEAKERS INCLUDED" in record["protocol"]["description"]


def test_ready_scores_serve_a_recipe_and_the_protocol_says_so(tones: Path, tmp_path: Path) -> None:
    # One name may stand for one recording only: speakers get clips of other names.
    table = pd.read_csv(tones)
    table["new"] = [f"{i:02}.wav" for i in range(len(table))]
    (tmp_path / "corpus").mkdir()
    for row in table.itertuples():
        shutil.copy(tones.parent / row.file, tmp_path / "corpus" / row.new)
    renamed = table.assign(file=table.pop("new"))
    renamed.to_csv(tmp_path / "corpus" / "clips.csv", index=False)
    scores = tmp_path / "scores.csv"
    scores.write_text("".join(f"{i:02},0.2,0.8,0.4\n" for i in range(len(table))))
    record = run(
        {"manifest": tmp_path / "corpus" / "clips.csv"},
        tmp_path / "out",
        f"pretraining.intensity={scores}",
        "pretraining.steps=1",
    )
    assert not record["failed"]
    assert "the intensities are ready scores" in record["protocol"]["description"]


def test_an_upstream_from_outside_is_refused(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="pre-trains upstreams of its own; leave --upstream away"):
        run({"manifest": tones}, tmp_path / "out", upstream="fbank")
