"""What the commands make of corpora: rows left out, merges, names; on a small corpus and a model trained on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from subtone.cli import entry
from tests.cli_cases import SMALL, Ended, train_small, write_corpus


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def model(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(manifest, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = entry.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def test_evaluate_warns_of_a_corpus_that_the_model_was_trained_on(
    call: Any, model: Path, manifest: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "trained_on": ["toy", "manifest"]}))
    table = pd.read_csv(manifest)
    for name in ("toy", "other"):
        table.assign(corpus=name).to_csv(manifest.parent / f"{name}.csv", index=False)
        ended = call(
            "evaluate", "-m", tmp_path / "model", "--corpus", f"manifest={manifest.parent / name}.csv"
        )
        assert ended.code == 0
        assert ("the model was trained on toy" in ended.err) == (name == "toy")


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ("angr=sadness", "the corpus has no emotion 'angr'; did you mean 'anger'?"),
        ("anger=sadnes", "the model has no label 'sadnes'; did you mean 'sadness'?"),
    ],
)
def test_evaluate_refuses_a_merge_of_what_is_not_there(
    call: Any, model: Path, manifest: Path, merge: str, message: str
) -> None:
    ended = call("evaluate", "-m", model, "--corpus", f"manifest={manifest}", "--merge", merge)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


@pytest.fixture(scope="module")
def faulty(manifest: Path) -> Path:
    """A manifest with a recording that is gone and an emotion that nobody knows."""
    out = manifest.with_name("faulty.csv")
    out.write_text(manifest.read_text() + "gone.wav,anger,s0\n0-anger-0.wav,hapy,s0\n")
    return out


@pytest.mark.parametrize("command", ["evaluate", "train", "recipe run", "corpus export"])
def test_what_a_reader_s_error_says_to_pass_can_be_passed_and_is_told(
    call: Any, model: Path, faulty: Path, tmp_path: Path, command: str
) -> None:
    corpus = ("--corpus", f"manifest={faulty}")
    line: tuple[str | Path, ...] = {
        "evaluate": ("evaluate", "-m", model, *corpus),
        "train": ("train", *corpus, *SMALL, "--out", tmp_path / "out"),
        "recipe run": (
            "recipe", "run", "sap", *corpus, *SMALL, "--upstream", "fbank:20",
            "--set", "evaluation.permutations=100", "--out", tmp_path / "out",
        ),
        "corpus export": ("corpus", "export", "manifest", faulty, "--out", tmp_path / "out.csv"),
    }[command]  # fmt: skip
    for option in ("--skip-unknown", "--skip-missing"):
        refused = call(*line)
        assert refused.code == 2
        assert f"pass {option}" in refused.err
        line = (*line, option)
    ended = call(*line)
    assert ended.code == 0
    told = [text for text in ended.err.splitlines() if "left out" in text]
    assert told == [
        "subtone: left out: 1 that the reader does not know (0-anger-0.wav); 1 that are not there (gone.wav)"
    ]


def test_labels_and_merges_are_texts_whatever_yaml_makes_of_them(
    call: Any, manifest: Path, tmp_path: Path
) -> None:
    line = ("train", "--corpus", f"manifest={manifest}", "--out", tmp_path / "out")
    assert "no emotion 'no'" in call(*line, "--labels", "no,on").err
    assert "the recipe asks for off" in call(*line, "--labels", "off", "--merge", "on=off").err
