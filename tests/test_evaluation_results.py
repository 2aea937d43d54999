"""A result folder is whole or absent, and every program can read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from subtone.errors import UsageError
from subtone.evaluation import (
    compare,
    corrected,
    describe_environment,
    evaluate,
    plots,
    read_metrics,
    write_results,
)
from subtone.evaluation import results as results_module
from subtone.evaluation.calibrated import Calibration, calibrate
from subtone.evaluation.slices import Slices, slices_of
from subtone.protocols import build

LABELS = ["anger", "sadness"]


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    who = np.repeat([f"s{n}" for n in range(6)], 10)
    truth = np.array(LABELS)[rng.integers(0, 2, 60)]
    index = pd.Index([f"{n}.wav" for n in range(60)], name="file")
    split = build(pd.DataFrame({"corpus": "toy", "emotion": truth, "speaker": who}, index=index))
    truth, who = split.table["emotion"].to_numpy(), split.table["speaker"].to_numpy()
    good = np.where(rng.random(60) < 0.9, truth, LABELS[0])
    systems = {
        "GAP": evaluate(truth, [LABELS[0]] * 60, LABELS, who, who),
        "GAP + SAP": evaluate(truth, good, LABELS, who, who),
    }
    predictions = pd.DataFrame(
        {"system": "GAP + SAP", "truth": truth, "label": good}, index=split.table.index
    )
    return {
        "protocol": split.protocol,
        "systems": systems,
        "comparisons": corrected(
            [compare(truth, [LABELS[0]] * 60, good, LABELS, who, names=("GAP", "GAP + SAP"))]
        ),
        "predictions": predictions,
        "recipe": "name: sap\n",
    }


def test_folder_holds_what_is_promised(run, tmp_path):
    folder = write_results(
        tmp_path / "deep" / "out", **run, extra={"note": {"nan": float("nan"), "np": np.float32(1)}}
    )
    assert {file.name for file in folder.iterdir()} == {
        "README.md",
        "confusion-GAP.png",
        "confusion-GAP_+_SAP.png",
        "environment.json",
        "folds.csv",
        "folds.png",
        "metrics.json",
        "predictions.parquet",
        "recipe.yaml",
    }
    assert [file.name for file in folder.parent.iterdir()] == ["out"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["description"] == run["protocol"].describe()
    system = metrics["systems"]["GAP + SAP"]
    assert system["n"] == 60
    assert [fold["name"] for fold in system["folds"]] == [f"s{n}" for n in range(6)]
    assert metrics["comparisons"][0]["a"] == "GAP"
    assert metrics["note"] == {"nan": None, "np": 1.0}
    assert len(pd.read_csv(folder / "folds.csv")) == 12
    read = pd.read_parquet(folder / "predictions.parquet")
    pd.testing.assert_frame_equal(read.reset_index(), run["predictions"].reset_index(), check_dtype=False)
    assert (folder / "recipe.yaml").read_text() == "name: sap\n"
    assert json.loads((folder / "environment.json").read_text())["versions"]["numpy"] == np.__version__
    for image in folder.glob("*.png"):
        assert image.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_page_says_protocol_intervals_and_verdict(run, tmp_path):
    page = (write_results(tmp_path / "out", **run) / "README.md").read_text()
    best = run["systems"]["GAP + SAP"]
    assert run["protocol"].describe() in page
    assert f"{100 * best.ua:.1f} ({100 * best.ua_ci[0]:.1f} to {100 * best.ua_ci[1]:.1f})" in page
    assert run["comparisons"][0].sentence() in page
    assert "Best UA: **GAP + SAP**" in page


def test_page_and_metrics_say_for_whom_it_works_and_how_true_it_is(run, tmp_path):
    who = np.repeat([f"s{n}" for n in range(6)], 10)
    table = pd.DataFrame({"gender": np.where(np.isin(who, ["s0", "s1"]), "female", "male")})
    truth = np.tile([0, 1], 30)
    scores = np.where(truth[:, None] == [0, 1], 0.8, 0.2)[None]
    found = {"GAP + SAP": slices_of(truth, scores, LABELS, table, who)}
    measured = {name: calibrate(scores, truth, list(who)) for name in run["systems"]}
    folder = write_results(tmp_path / "out", **run, slices=found, calibration=measured)
    record = json.loads((folder / "metrics.json").read_text())
    assert Slices.from_dict(record["slices"]["GAP + SAP"]) == found["GAP + SAP"]
    assert Calibration.from_dict(record["calibration"]["GAP"]) == measured["GAP"]
    assert (folder / "reliability.png").exists()
    page = (folder / "README.md").read_text()
    assert "| gender | female (few) | 2 | 20 | 100.0 (100.0 to 100.0) |" in page
    assert "the worst speaker 100.0 (100.0 to 100.0) %" in page
    assert "| GAP + SAP | 20.0 | 0.22 | – | – | – |" in page
    assert page.index("## Who it works for") < page.index("## Calibration") < page.index("## How it was run")


def test_slices_of_no_system_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match="'GAPS', which is no system"):
        write_results(
            tmp_path / "out", **run, slices={"GAPS": slices_of([0], [0], LABELS, pd.DataFrame(index=[0]))}
        )
    assert list(tmp_path.iterdir()) == []


def test_metrics_read_back(run, tmp_path):
    record, systems, comparisons = read_metrics(write_results(tmp_path / "out", **run))
    assert list(systems) == ["GAP", "GAP + SAP"]
    assert comparisons == run["comparisons"]
    assert (
        systems["GAP"].to_dict(full=True)
        == run["systems"]["GAP"].to_dict(full=True)
        == record["systems"]["GAP"]
    )


def test_results_are_not_overwritten_unless_asked(run, tmp_path):
    folder = write_results(tmp_path / "out", **run)
    (folder / "stale.txt").write_text("old")
    with pytest.raises(UsageError, match="--overwrite"):
        write_results(folder, **run)
    assert (folder / "stale.txt").exists()
    write_results(folder, **run, overwrite=True)
    assert not (folder / "stale.txt").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_never_replaced(run, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="no result folder"):
        write_results(tmp_path, **run, overwrite=True)
    with pytest.raises(UsageError, match="no folder"):
        write_results(tmp_path / "thesis.tex", **run, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_used(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert (write_results(tmp_path / "out", **run) / "metrics.json").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_nothing_half_written(run, tmp_path, monkeypatch, existing):
    target = tmp_path / "out"
    before: dict[str, bytes] = {}
    if existing:
        write_results(target, **run)
        before = {file.name: file.read_bytes() for file in target.iterdir()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results_module.plots, "fold_strip", full_disk)
    with pytest.raises(UsageError, match=r"out: the result can't be written \(No space left on device\)"):
        write_results(target, **run, overwrite=True)
    assert (
        {file.name: file.read_bytes() for file in target.iterdir()} == before
        if existing
        else not target.exists()
    )
    assert [file.name for file in tmp_path.iterdir()] == (["out"] if existing else [])


def test_what_a_killed_run_left_is_swept_away(run, tmp_path):
    left = tmp_path / ".out.999999999.partial"
    left.mkdir()
    (left / "metrics.json").write_text("{")
    write_results(tmp_path / "out", **run)
    assert not left.exists()


def test_a_result_whose_replacement_was_killed_midway_returns(run, tmp_path):
    folder = write_results(tmp_path / "out", **run)
    folder.rename(tmp_path / ".out.999999999.old")
    with pytest.raises(UsageError, match="--overwrite"):
        write_results(folder, **run)
    assert read_metrics(folder)[2] == run["comparisons"]


def test_a_place_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written"):
        write_results(tmp_path / "file" / "out", **run)


def test_systems_and_extra_entries_are_checked_before_anything_is_written(run, tmp_path):
    with pytest.raises(UsageError, match="one system"):
        write_results(tmp_path / "out", **{**run, "systems": {}})
    with pytest.raises(UsageError, match="'systems' would hide"):
        write_results(tmp_path / "out", **run, extra={"systems": 1})
    with pytest.raises(UsageError, match="JSON can't"):
        write_results(tmp_path / "out", **run, extra={"model": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_metrics_is_named(tmp_path):
    with pytest.raises(UsageError, match="finished run"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text("[1, 2")
    with pytest.raises(UsageError, match="not the metrics of a run"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text('{"systems": {"a": {}}, "comparisons": []}')
    with pytest.raises(UsageError, match="not the metrics of a run"):
        read_metrics(tmp_path)


def test_environment_names_no_user_and_no_host():
    import getpass
    import platform

    found = describe_environment(command="subtone recipe run sap", seeds=[0, 1])
    text = json.dumps(found["machine"]) + json.dumps(found["versions"])
    assert found["seeds"] == [0, 1]
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert not {"user", "host", "node"} & set(found) | ({getpass.getuser()} & set(found["machine"].values()))


@pytest.mark.parametrize("script", ["/env/bin/subtone", "/env/lib/subtone/__main__.py"])
def test_the_command_is_one_that_can_be_typed_again(monkeypatch, script):
    monkeypatch.setattr("sys.argv", [script, "recipe", "run", "sap"])
    assert describe_environment()["command"] == "subtone recipe run sap"


@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize(
    "title", [None, "A system with a very long name, as sweeps like to make them, on wavlm-base-plus"]
)
def test_plots_are_drawn_for_any_number_of_classes(tmp_path, classes, title):
    rng = np.random.default_rng(classes)
    labels = [f"emotion-{n}" for n in range(classes)]
    truth = rng.integers(0, classes - 1, 50)  # the last class is absent
    found = evaluate(
        truth, rng.integers(0, classes, (3, 50)), labels, rng.integers(0, 5, 50), folds=truth % 2
    )
    path = plots.confusion_matrix(found, tmp_path / "c.png", title=title)
    again = plots.confusion_matrix(found, tmp_path / "d.png", title=title)
    assert path.read_bytes() == again.read_bytes()
    assert plots.fold_strip({"a": found, "b": found}, tmp_path / "f.svg", metric="wa").stat().st_size > 1000


def test_plots_that_cannot_be_drawn_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match="no systems"):
        plots.fold_strip({}, tmp_path / "f.png")
    with pytest.raises(UsageError, match="metric"):
        plots.fold_strip(run["systems"], tmp_path / "f.png", metric="f1")
