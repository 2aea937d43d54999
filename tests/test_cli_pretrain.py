"""``subtone pretrain``: from a folder of recordings to an upstream that other commands take."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from subtone import upstreams
from subtone.cli import entry, pretrain
from subtone.pretraining.intensity import IntensityModel
from subtone.pretraining.masking import STRATEGIES
from subtone.pretraining.objectives import ARCHITECTURES
from subtone.pretraining.options import PretrainOptions
from tests import synthetic
from tests.cli_cases import Ended

QUICK = ("--size", "tiny", "--steps", "4", "--batch-size", "3", "--crop", "50")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(5):
        synthetic.write(folder / f"{i}.wav", synthetic.utterance(0.6 + 0.1 * i, 150 + 50 * i, seed=i))
    synthetic.write(folder / "short.wav", synthetic.utterance(0.1))
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = entry.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def test_all_that_can_be_trained_can_be_asked_for() -> None:
    assert set(pretrain._ARCHITECTURES) == set(ARCHITECTURES)
    assert set(pretrain._MASKINGS) == set(STRATEGIES)
    for name, architecture in ARCHITECTURES.items():
        assert set(pretrain._SIZES) == set(architecture.sizes)
        assert PretrainOptions.defaults(name).masking == architecture.masking


def test_recordings_become_an_upstream_that_extract_takes(
    call: Any, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = call("pretrain", "mockingjay", recordings, "--out", out, *QUICK)
    assert ended.code == 0, ended.err
    assert ended.out == f"{out / 'upstream'}\n"
    assert "4 steps" in ended.err
    assert "1 recordings too short" in ended.err
    assert upstreams.load(str(out / "upstream")).num_layers == 3
    about = json.loads((out / "run.json").read_text())
    assert (about["settings"]["masking"], about["settings"]["intensity_input"]) == ("random", False)
    store = tmp_path / "store"
    ended = call(
        "extract", "--upstream", out / "upstream", "--store", store, "--detector", "energy", recordings
    )
    assert ended.code == 0, ended.err


def test_the_same_command_goes_on_and_another_is_refused(call: Any, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call("pretrain", "npc", recordings, "--out", out, *QUICK).code == 0
    weights = (out / "upstream" / "model.safetensors").read_bytes()
    assert call("pretrain", "npc", recordings, "--out", out, *QUICK).code == 0
    assert (out / "upstream" / "model.safetensors").read_bytes() == weights
    ended = call("pretrain", "npc", recordings, "--out", out, *QUICK, "--seed", "3")
    assert ended.code == 2
    assert "another seed (0, now 3)" in ended.err


def test_emotional_masking_scores_the_frames_and_uses_the_scores(
    call: Any, recordings: Path, tmp_path: Path
) -> None:
    frames, out = tmp_path / "frames", tmp_path / "run"
    ended = call(
        "pretrain", "npc", recordings, "--masking", "ems-nms", "--frames", frames, "--out", out, *QUICK
    )
    assert ended.code == 0, ended.err
    about = json.loads((out / "run.json").read_text())
    assert about["settings"]["intensity_input"]
    assert about["settings"]["intensity_target"]
    assert about["corpus"]["intensity"] == IntensityModel.load().fingerprint()
    assert about["result"]["coverage"] > 0.05
    header = (out / "curves.csv").read_text().splitlines()[0]
    assert "loss_intensity" in header
    plain = call(
        "pretrain", "npc", recordings, "--frames", frames, "--out", tmp_path / "plain", *QUICK
    )  # the same frames serve
    assert plain.code == 0, plain.err


def test_ready_scores_take_the_place_of_a_model(call: Any, recordings: Path, tmp_path: Path) -> None:
    scores, out = tmp_path / "scores.csv", tmp_path / "run"
    scores.write_text("".join(f"{i},0.1,0.9,0.{i}\n" for i in range(1, 5)))
    ended = call(
        "pretrain", "npc", recordings, "--masking", "ems", "--intensity", scores, "--out", out, *QUICK
    )
    assert ended.code == 1
    assert f"0.wav: has no score in {scores}" in ended.err
    about = json.loads((out / "run.json").read_text())
    assert about["corpus"]["intensity"] == hashlib.sha256(scores.read_bytes()).hexdigest()
    assert about["corpus"]["utterances"] == 4


def test_broken_recordings_are_named_and_the_others_train(
    call: Any, recordings: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    ended = call(
        "pretrain", "npc", recordings, broken, tmp_path / "nowhere", "--out", tmp_path / "run", *QUICK
    )
    assert ended.code == 1
    assert "broken.wav" in ended.err
    assert "nowhere: no such file or folder" in ended.err
    assert (tmp_path / "run" / "upstream" / "config.json").exists()


def test_a_folder_of_something_else_is_refused_before_anything_is_decoded(
    call: Any, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    ended = call("pretrain", "npc", recordings, "--out", tmp_path, *QUICK)
    assert ended.code == 2
    assert "holds other files" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_of_processes_that_train_together_the_first_tells_what_all_refuse(
    call: Any, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = ("pretrain", "mockingjay", recordings, "--out", tmp_path / "run", "--masking", "none")
    told = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        ended = call(*refused)
        assert ended.code == 2
        told.append(ended.err)
    assert "masking 'none' hides none" in told[0]
    assert told[1] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("npc", "--min-frames", "0"), "min_frames must be a whole number from 1"),
        (("mockingjy",), "did you mean 'mockingjay'"),
        (("npc", "--masking", "emss"), "did you mean 'ems"),
        (("npc", "--intensity", "model"), "nothing here looks at intensity"),
        (("npc", "--steps", "0"), "steps must be a whole number from 1"),
        (("mockingjay", "--masking", "none"), "masking 'none' hides none"),
        (("npc", "--device", "cuda", "--devices", "99"), "99 CUDA devices are asked for"),
    ],
)
def test_mistakes_are_told_in_a_line(
    call: Any, recordings: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    first, *others = arguments
    ended = call("pretrain", first, recordings, "--out", tmp_path / "run", *others)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.strip().splitlines()) == 1
