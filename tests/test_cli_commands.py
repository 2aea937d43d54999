"""What the commands answer, on a small corpus and a model trained on it by the command line itself."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import subtone
from subtone.cli import entry
from tests.cli_cases import EXAMPLES, SMALL, Ended, train_small, write_corpus


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


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes, terminal: bool = False) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stdin)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_predict_prints_one_json_object_a_line_with_the_promised_keys(
    call: Any, model: Path, manifest: Path
) -> None:
    ended = call("predict", "--model", model, manifest.parent, "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    found = records(ended.out)
    assert len(found) == 16
    for record in found:
        assert list(record)[:6] == ["file", "start", "end", "label", "scores", "speech"]
        assert set(record["scores"]) == {"anger", "sadness"}
        assert sum(record["scores"].values()) == pytest.approx(1)
        assert record["label"] == max(record["scores"], key=record["scores"].__getitem__)
        assert record["label"] in Path(record["file"]).name
        assert (record["start"], record["end"]) == (0.0, 0.6)
        assert 0 < record["speech"] <= 1


def test_csv_json_and_python_give_the_same_numbers(call: Any, model: Path) -> None:
    file = EXAMPLES / "pauses.flac"
    options = ("--per", "window", "--window", "2", "--hop", "1.5")
    rows = list(
        csv.DictReader(io.StringIO(call("predict", "-m", model, file, *options, "--format", "csv").out))
    )
    lines = records(call("predict", "-m", model, file, *options, "--format", "json").out)
    table = subtone.predict(file, model=model, per="window", window_s=2, hop_s=1.5).table
    assert len(rows) == len(lines) == len(table) == 12
    assert list(rows[0]) == ["file", "start", "end", "label", "anger", "sadness", "speech", "note"]
    assert any(line["label"] is None for line in lines), "the pauses must leave gaps"
    for row, line, (index, answer) in zip(rows, lines, table.iterrows()):
        assert row["file"] == line["file"] == index[0] == str(file)
        assert float(row["start"]) == line["start"] == index[1].total_seconds()
        assert float(row["end"]) == line["end"] == index[2].total_seconds()
        assert float(row["speech"]) == line["speech"] == answer["speech"]
        assert row["note"] == line["note"] == answer["note"]
        if line["label"] is None:
            assert (row["label"], row["anger"], line["scores"]) == ("", "", {})
        else:
            assert row["label"] == line["label"] == answer["label"]
            assert float(row["anger"]) == line["scores"]["anger"] == pytest.approx(answer["anger"], abs=1e-9)


def test_what_fails_is_named_and_the_others_are_done(call: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty").mkdir()
    good = EXAMPLES / "statement.wav"
    ended = call(
        "predict", "-m", model, tmp_path / "text.wav", "gone.wav", tmp_path / "empty", "no*match.wav", good,
        "--format", "json",
    )  # fmt: skip
    assert ended.code == 1
    assert [record["file"] for record in records(ended.out)] == [str(good)]
    for name in ("text.wav", "gone.wav", "empty", "no*match.wav"):
        assert sum(name in line for line in ended.err.splitlines()) == 1
    assert ended.err.endswith("subtone: 4 of 5 recordings failed\n")


def test_nothing_done_is_exit_code_2(call: Any, model: Path) -> None:
    ended = call("predict", "-m", model, "gone.wav", "lost.wav", "--format", "csv")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("no such file") == 2


def test_a_recording_on_stdin_gets_the_answer_of_the_file(
    call: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EXAMPLES / "call.opus"
    (of_file,) = records(call("predict", "-m", model, file, "--channel", "1", "--format", "json").out)
    pipe(monkeypatch, file.read_bytes())
    ended = call("predict", "-m", model, "-", "--channel", "1", "--format", "json")
    assert ended.code == 0
    assert records(ended.out) == [{**of_file, "file": "-"}]


@pytest.mark.parametrize(
    ("content", "terminal", "message"),
    [
        (bytes((1 << 20) + 1), False, "stdin: more than 1 MB; raise --stdin-limit"),
        (b"", False, "stdin: is empty (0 bytes)"),
        (b"hello", False, "stdin: "),
        (b"", True, "nothing is piped there"),
    ],
)
def test_stdin_that_is_no_recording_is_refused_by_name(
    call: Any,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    terminal: bool,
    message: str,
) -> None:
    pipe(monkeypatch, content, terminal)
    ended = call("predict", "-m", model, "-", "--stdin-limit", "1")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_a_broken_stdin_does_not_keep_the_files_from_their_answers(
    call: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, b"")
    ended = call("predict", "-m", model, "-", EXAMPLES / "german.ogg", "--format", "json")
    assert ended.code == 1
    assert [Path(record["file"]).name for record in records(ended.out)] == ["german.ogg"]


def test_a_file_whose_name_is_no_text_is_answered_in_valid_json(
    call: Any, model: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xff.wav")
    try:
        shutil.copy(EXAMPLES / "statement.wav", tmp_path / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    ended = call("predict", "-m", model, tmp_path, "--format", "json")
    assert ended.code == 0
    (record,) = records(ended.out)
    assert Path(record["file"]).name.startswith("caf")
    record["file"].encode()  # what other programs read must be text
    assert call("predict", "-m", model, tmp_path).code == 0


def test_the_table_shows_answers_gaps_and_what_looks_like_markup(
    call: Any, model: Path, tmp_path: Path
) -> None:
    shutil.copy(EXAMPLES / "statement.wav", tmp_path / "[red]a[bold].wav")
    soundfile.write(tmp_path / "b.flac", np.zeros(16_000), 16_000)
    ended = call("predict", "-m", model, tmp_path)
    assert ended.code == 0
    header, _, first, second = ended.out.splitlines()
    assert header.split() == ["file", "start", "s", "end", "s", "emotion", "score", "speech"]
    assert first.startswith(str(tmp_path / "[red]a[bold].wav") + " ")
    assert "– (silent)" in second


def test_a_plot_is_drawn_of_each_recording(call: Any, model: Path, tmp_path: Path) -> None:
    files = (EXAMPLES / "statement.wav", EXAMPLES / "german.ogg")
    ended = call("predict", "-m", model, *files, "--per", "segment", "--plot", tmp_path / "out.png")
    assert ended.code == 0
    for name in ("out.png", "out-2.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert name in ended.err


def test_labels_narrow_the_choice(call: Any, model: Path) -> None:
    file = EXAMPLES / "statement.wav"
    ended = call("predict", "-m", model, file, "--labels", "sadness", "--format", "json")
    assert records(ended.out)[0]["scores"] == {"sadness": pytest.approx(1)}
    wrong = call("predict", "-m", model, file, "--labels", "sadnes")
    assert wrong.code == 2
    assert "did you mean 'sadness'?" in wrong.err


def test_evaluate_prints_one_object_with_the_promised_keys(
    call: Any, model: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    ended = call(
        "evaluate", "--model", model, "--corpus", f"manifest={manifest}", "--format", "json", "--predictions", out
    )  # fmt: skip
    assert ended.code == 0
    (found,) = records(ended.out)
    assert list(found) == [
        "n", "ua", "ua_ci", "wa", "wa_ci", "macro_f1", "per_class_recall", "confusion", "labels", "seconds",
    ]  # fmt: skip
    assert found["n"] == 16
    assert found["labels"] == ["anger", "sadness"]
    answers = pd.read_csv(out)
    assert (answers["truth"] == answers["label"]).mean() == pytest.approx(found["wa"])
    assert ended.err == ""  # two manifests need not be one corpus, so no claim that these speakers were heard


def test_evaluate_goes_on_past_a_broken_clip(call: Any, model: Path, manifest: Path, tmp_path: Path) -> None:
    shutil.copytree(manifest.parent, tmp_path / "copy")
    (tmp_path / "copy" / "0-anger-0.wav").write_bytes(b"RIFF")
    ended = call("evaluate", "-m", model, "--corpus", f"manifest={tmp_path / 'copy' / 'clips.csv'}")
    assert ended.code == 1
    assert ended.out.startswith("UA ")
    assert "0-anger-0.wav" in ended.err


def test_train_refuses_a_taken_folder_before_it_works(call: Any, model: Path, manifest: Path) -> None:
    before = (model / "model.safetensors").stat().st_mtime_ns
    ended = call("train", "--corpus", f"manifest={manifest}", "--out", model, *SMALL)
    assert ended.code == 2
    assert "exists already" in ended.err
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def test_train_by_a_recipe_that_pretrains_asks_for_the_upstream(
    call: Any, manifest: Path, tmp_path: Path
) -> None:
    ended = call("train", "--recipe", "ems-npc", "--corpus", f"manifest={manifest}", "--out", tmp_path / "m")
    assert ended.code == 2
    assert "pre-trains upstreams of its own; name the one to train on" in ended.err


def test_extract_fills_a_store_and_takes_it_up_again(call: Any, manifest: Path, tmp_path: Path) -> None:
    line = ("extract", "--upstream", "fbank:20", "--store", tmp_path / "s", "--detector", "energy")
    first = call(*line, manifest.parent, "--format", "json")
    assert first.code == 0
    summary = json.loads(first.out)
    assert (summary["clips"], summary["reused"], summary["failed"]) == (16, 0, [])
    again = call(*line, manifest.parent / "*-anger-*.wav", "gone.wav", "--format", "json")
    assert again.code == 1
    assert (json.loads(again.out)["clips"], json.loads(again.out)["reused"]) == (8, 8)
    assert "gone.wav" in again.err


def test_a_recipe_runs_to_a_result_folder(call: Any, manifest: Path, tmp_path: Path) -> None:
    shown = call("recipe", "show", "sap")
    assert shown.code == 0
    mine = tmp_path / "mine.yaml"
    mine.write_text(shown.out)
    ended = call(
        "recipe", "run", mine, "--corpus", f"manifest={manifest}", "--upstream", "fbank:20",
        "--out", tmp_path / "result", *SMALL, "--set", "evaluation.permutations=100",
    )  # fmt: skip
    assert ended.code == 0
    assert ended.out == f"{tmp_path / 'result'}\n"
    metrics = json.loads((tmp_path / "result" / "metrics.json").read_text())
    for name, system in metrics["systems"].items():
        assert f"{name}: UA {100 * system['ua']:.1f}" in ended.err
    assert metrics["upstream"]["name"] == "fbank:20"
    taken = call("recipe", "run", mine, "--corpus", f"manifest={manifest}", "--out", tmp_path / "result")
    assert taken.code == 2
    assert "not empty" in taken.err


def test_recipe_list_names_and_describes(call: Any) -> None:
    found = records(call("recipe", "list", "--format", "json").out)
    assert [one["name"] for one in found] == list(subtone.recipes.names())
    table = call("recipe", "list").out
    assert all(one["name"] in table and one["description"] in table for one in found)


def test_corpus_list_gives_every_corpus_in_every_form(call: Any) -> None:
    names = list(subtone.corpora.CORPORA)
    assert [one["name"] for one in records(call("corpus", "list", "--format", "json").out)] == names
    rows = list(csv.DictReader(io.StringIO(call("corpus", "list", "--format", "csv").out)))
    assert [row["name"] for row in rows] == names
    assert [line.split()[0] for line in call("corpus", "list").out.splitlines()[2:]] == names


def test_corpus_check_ends_with_0_on_a_whole_copy_and_with_1_on_a_faulty_one(
    call: Any, manifest: Path, tmp_path: Path
) -> None:
    whole = call("corpus", "check", "manifest", manifest)
    assert (whole.code, whole.err) == (0, "")
    assert "clips: 16 in 16 files" in whole.out
    shutil.copytree(manifest.parent, tmp_path / "copy")
    (tmp_path / "copy" / "3-sadness-1.wav").unlink()
    faulty = call("corpus", "check", "manifest", tmp_path / "copy" / "clips.csv", "--format", "json")
    assert faulty.code == 1
    report = json.loads(faulty.out)
    assert (report["ok"], len(report["missing"])) == (False, 1)
    assert faulty.err.count("\n") == 1


def test_a_copy_that_differs_from_the_published_figures_fails_only_a_strict_check(
    call: Any, tmp_path: Path
) -> None:
    shutil.copy(EXAMPLES / "statement.wav", tmp_path / "03a01Fa.wav")
    assert call("corpus", "check", "emodb", tmp_path).code == 0
    assert call("corpus", "check", "emodb", tmp_path, "--strict").code == 1


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_exported_corpus_reads_back_as_the_same_table(
    call: Any, manifest: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"table{suffix}"
    ended = call("corpus", "export", "manifest", manifest, "--out", out)
    assert (ended.code, ended.out) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    pd.testing.assert_frame_equal(
        subtone.corpora.read("manifest", out), subtone.corpora.read("manifest", manifest)
    )


def test_models_lists_what_ships(call: Any) -> None:
    listed = records(call("models", "--format", "json").out)
    models = [one["name"] for one in listed if one["kind"] == "model"]
    assert models == [model.name for model in subtone.bundle.shipped()]
    for one in listed:
        card = call("models", one["name"])
        assert card.code == 0
        assert card.out.strip()


def test_doctor_reports_versions_codecs_detectors_devices_and_models(call: Any) -> None:
    ended = call("doctor", "--format", "json")
    report = json.loads(ended.out)
    by_name = {(one["area"], one["name"]): one for one in report["findings"]}
    assert by_name["version", "subtone"]["detail"] == subtone.__version__
    assert "opus" in by_name["audio", "soundfile"]["detail"]
    assert by_name["speech", "silero"]["state"] == "ok"
    assert "threads" in by_name["device", "cpu"]["detail"]
    assert ("model", "default") in by_name
    assert by_name["setting", "HF_HUB_OFFLINE"]["detail"] == "1"
    broken = [one for one in report["findings"] if one["state"] == "broken"]
    assert report["ok"] == (not broken)
    assert ended.code == (1 if broken else 0)
    assert len(ended.err.splitlines()) == len(broken)


def test_doctor_survives_what_is_broken(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ImportError("libsndfile is not there")

    monkeypatch.setattr("soundfile.available_formats", fails)
    ended = call("doctor")
    assert ended.code == 1
    assert "audio soundfile: ImportError: libsndfile is not there" in ended.err
    assert "silero" in ended.out
