"""``subtone intensity``: a table of clips, their curves, and a model of one's own."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors.numpy import load_file

import subtone
from subtone.cli.entry import run
from subtone.pretraining.intensity import IntensityModel
from subtone.speech import get_detector


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers of two levels, brighter where stronger, and a manifest that tells the levels."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    time = np.arange(9_600) / 16_000
    rows = []
    for number in range(8):
        level, name = ("low", "high")[number % 2], f"{number}.wav"
        wave = sum(np.sin(2 * np.pi * 150 * k * time) / k ** (2 - number % 2) for k in range(1, 20))
        wave = 0.1 * wave * (np.sin(12 * time) > -0.5) + 0.001 * random.standard_normal(len(time))
        soundfile.write(folder / name, wave, 16_000)
        rows.append((name, "anger", f"s{number // 4}", level))
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("file", "emotion", "speaker", "intensity"), *rows])
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_no_unicode_costs_no_scores(clips: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"gr\xfcn.wav")
    shutil.copy(clips / "0.wav", odd)
    out, curves = tmp_path / "scores.parquet", tmp_path / "curves.safetensors"
    named = ["--out", str(out), "--frames", str(curves), "--detector", "energy"]
    assert run(["intensity", "score", str(odd), *named]) == 0
    assert [Path(file).name for file in pd.read_parquet(out).index.get_level_values("file")] == [
        "gr\\xfcn.wav"
    ]
    assert [Path(name).name for name in load_file(curves)] == ["gr\\xfcn.wav"]


def test_scores_are_those_of_the_model_and_curves_lie_beside(clips: Path, tmp_path: Path) -> None:
    out, curves = tmp_path / "scores.parquet", tmp_path / "curves.safetensors"
    arguments = ["intensity", "score", str(clips / "0.wav"), str(clips / "1.wav"), "--detector", "energy"]
    assert run([*arguments, "--out", str(out), "--frames", str(curves)]) == 0
    table, found = pd.read_parquet(out), load_file(curves)
    assert list(table.columns) == ["intensity", "peak", "speech_s"]
    model, wave = IntensityModel.load(), subtone.load_audio(clips / "0.wav")
    expected = model.score(wave, get_detector("energy").detect(wave))
    file = table.index.get_level_values("file")[0]
    assert table["intensity"].iloc[0] == pytest.approx(expected.intensity)
    assert table["speech_s"].iloc[0] == pytest.approx(expected.speech_s)
    np.testing.assert_array_equal(found[file], expected.frames)


def test_a_recording_that_cannot_be_read_does_not_stop_the_others(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    out = tmp_path / "scores.csv"
    code = run(["intensity", "score", str(tmp_path / "broken.wav"), str(clips / "0.wav"), "--out", str(out)])
    assert code == 1
    assert "broken.wav" in capsys.readouterr().err
    assert len(pd.read_csv(out)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "scores.txt"), ".parquet or .csv"),
        (("--out", "scores.csv", "--frames", "curves.npz"), ".safetensors"),
        (("--out", "scores.csv", "--model", "no-such"), "neither 'default'"),
    ],
)
def test_mistakes_are_told_before_the_work(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["intensity", "score", str(clips), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_trained_model_scores(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "model", tmp_path / "scores.csv"
    train = ["intensity", "train", "--corpus", f"manifest={clips / 'clips.csv'}", "--out", str(folder)]
    assert run([*train, "--steps", "2"]) == 0
    assert IntensityModel.load(folder).fingerprint() != IntensityModel.load().fingerprint()
    assert run(["intensity", "score", str(clips), "--model", str(folder), "--out", str(out)]) == 0
    assert len(pd.read_csv(out)) == 8
    capsys.readouterr()
    assert run(train) == 2
    assert "exists already" in capsys.readouterr().err
