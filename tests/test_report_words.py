"""The words of a report follow from its figures: other figures, other words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from subtone.evaluation import compare
from subtone.evaluation.report.blocks import Words
from subtone.evaluation.report.build import page_of
from subtone.evaluation.report.clips import Clips
from subtone.evaluation.report.pairs import PairedTest, paired_tests
from subtone.evaluation.report.read import Run, read_folders
from subtone.evaluation.report.tables import systems_table
from subtone.evaluation.report.words import between_runs, cautions, cautions_between, summary
from tests.report_cases import LABELS, answers_of, write_run


def run_of(folder: Path, **shape: Any) -> Run:
    (run,) = read_folders([write_run(folder, **shape)])
    assert isinstance(run, Run)
    return run


def told(run: Run) -> str:
    tests, _ = paired_tests([run])
    return " ".join(summary(run, tests))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(
        tmp_path_factory.mktemp("r") / "toy", systems={"gap": 0.2, "sap": 3.0}, speakers=12, clips=144
    )


def test_the_best_system_is_the_one_with_the_highest_ua(run: Run) -> None:
    text = told(run)
    one = run.systems["sap"]
    assert f"sap has the highest UA: {100 * one.ua:.1f} % (95 % interval {100 * one.ua_ci[0]:.1f}" in text
    turned = replace_systems(
        run, {"gap": replace(run.systems["gap"], ua=0.99, ua_ci=(0.98, 1.0)), "sap": one}
    )
    assert "gap has the highest UA: 99.0 %" in told(turned)


def replace_systems(run: Run, systems: dict[str, Any]) -> Run:
    return replace(run, systems=systems)


def test_a_lead_counts_only_when_a_corrected_test_bears_it_out(run: Run) -> None:
    (test,) = paired_tests([run])[0]
    assert test.comparison.p < 0.05
    assert "the tests bear out that it beats gap" in told(run).lower()
    open_ = replace(test.comparison, p=0.4, p_corrected=0.4)
    assert "there is no evidence of a difference from gap" in told(replace(run, comparisons=(open_,))).lower()
    lost = replace(test.comparison, difference=-0.2, ci=(-0.3, -0.1))
    assert "it is beaten by gap (−20.0 points" in told(replace(run, comparisons=(lost,))).lower()
    assert "No paired test compares sap" in told(replace(run, comparisons=()))


def test_correction_takes_evidence_away_that_many_tests_would_have_found_by_chance(run: Run) -> None:
    (test,) = paired_tests([run])[0]
    near = replace(test.comparison, p=0.02)
    others = tuple(replace(near, a=f"other {number}", p=0.5) for number in range(9))
    first, *_ = paired_tests([replace(run, comparisons=(near, *others))])[0]
    assert first.comparison.p_corrected == pytest.approx(0.2)
    assert first.winner is None
    alone, *_ = paired_tests([replace(run, comparisons=(near,))])[0]
    assert alone.winner == "sap"


def test_the_hardest_class_and_what_it_is_taken_for(run: Run) -> None:
    matrix = np.array([[90, 5, 5], [10, 30, 60], [0, 0, 100]])
    recall = {"anger": 0.9, "happiness": 0.3, "sadness": 1.0}
    hard = replace(run.systems["sap"], confusion=matrix, per_class_recall=recall)
    text = told(replace_systems(run, {**run.systems, "sap": hard}))
    assert "Hardest is happiness: sap recognises 30.0 % of it and takes 60.0 % of it for sadness" in text
    assert "Easiest is sadness with 100.0 %" in text


def test_chance_inside_the_interval_is_said(run: Run) -> None:
    one = replace(run.systems["sap"], ua_ci=(0.30, 0.99))
    assert "the interval does not exclude it" in told(replace_systems(run, {"sap": one}))
    assert "below the whole interval" in told(run)


def test_the_worst_speaker_is_the_one_with_the_lowest_ua(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "toy", {"sap": 4.0}, speakers=6)
    path = folder / "predictions.parquet"
    table = pd.read_parquet(path)
    bad = table["speaker"] == "s3"
    table.loc[bad, "label"] = table.loc[bad, "truth"].map(
        {"anger": "sadness", "happiness": "anger", "sadness": "anger"}
    )
    table.to_parquet(path)
    (run,) = read_folders([folder])
    assert isinstance(run, Run)
    assert "sap serves speaker s3 worst, with a UA of 0.0 % on 10 clips" in told(run)


def test_calibration_is_told_with_its_direction(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "toy", {"sap": 1.0})
    path = folder / "predictions.parquet"
    table = pd.read_parquet(path)
    labels = ["anger", "happiness", "sadness"]
    for kind, top in (("surer", 0.998), ("less sure", 0.34)):
        table[labels] = (1 - top) / 2
        for label in labels:
            table.loc[table["label"] == label, label] = top
        table.to_parquet(path)
        (run,) = read_folders([folder])
        assert isinstance(run, Run)
        assert f"points {kind} than it is right" in told(run)


def test_what_would_mislead_is_said_first(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", protocol={"speaker_dependent": True}, speakers=4)
    text = " ".join(cautions(run))
    assert "Speaker-dependent split" in text
    assert "With 4 speakers" in text
    plain = run_of(tmp_path / "b", speakers=20)
    assert cautions(plain) == []
    lost = run_of(tmp_path / "c", speakers=20, extra={
        "failed": [{"file": "a", "message": "m"}], "left_out": {"missing": [{"file": "b", "message": "m"}]},
        "not_asked_for": {"fear": 3},
    })  # fmt: skip
    assert cautions(lost) == [
        "1 clip could not be used and is in no figure.",
        "1 file left out: named, but not there.",
        "Emotions left out, as the recipe says: fear (3 clips).",
    ]
    nobody = run_of(tmp_path / "d", speakers=None)
    assert "the intervals say nothing of new speakers" in cautions(nobody)[0]


def test_a_system_that_learned_nothing_is_named(run: Run) -> None:
    stuck = replace(run.systems["gap"], confusion=np.array([[9, 0, 0], [9, 0, 0], [9, 0, 0]]))
    text = " ".join(cautions(replace_systems(run, {**run.systems, "gap": stuck})))
    assert "gap answered anger for every clip" in text


def test_runs_are_compared_on_the_clips_that_both_tested(tmp_path: Path) -> None:
    a = write_run(tmp_path / "weak", {"sap": 0.3}, clips=144, speakers=12)
    b = write_run(tmp_path / "strong", {"sap": 4.0}, clips=144, speakers=12, seed=5)
    runs = [one for one in read_folders([a, b]) if isinstance(one, Run)]
    tests, remarks = paired_tests(runs)
    between = [test for test in tests if test.run is None]
    assert [(test.comparison.a, test.comparison.b) for test in between] == [("weak / sap", "strong / sap")]
    assert between[0].winner == "strong / sap"
    assert remarks == ["weak and strong: paired over 12 speakers, all 144 clips of both."]
    assert "Strong / sap beats weak / sap" in " ".join(between_runs(runs, tests))


def test_a_comparison_on_some_clips_equals_that_of_a_run_of_those_alone(tmp_path: Path) -> None:
    names = [f"clip{number:03d}.wav" for number in range(60)]
    a = write_run(tmp_path / "a", {"sap": 0.3}, files=names)
    b = write_run(
        tmp_path / "b", {"sap": 3.0}, files=[*names[:36], *[f"other{n}.wav" for n in range(24)]], seed=5
    )
    runs = [one for one in read_folders([a, b]) if isinstance(one, Run)]
    (test,), remarks = paired_tests(runs)
    assert "36 clips in common (of 60 and 60)" in remarks[0]
    truth, first = answers_of(0.3)
    _, second = answers_of(3.0, seed=5)
    speakers = [f"s{number % 6}" for number in range(36)]
    slow = compare(truth[:36], first[:, :36], second[:, :36], LABELS, speakers, names=("a / sap", "b / sap"))
    assert test.comparison.p == slow.p
    assert test.comparison.difference == pytest.approx(slow.difference)
    assert test.comparison.n == 36


def test_runs_of_other_clips_labels_or_truth_are_not_compared(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"sap": 1.0})
    others = [
        write_run(tmp_path / "labels", {"sap": 1.0}, labels=("anger", "happiness", "fear")),
        write_run(tmp_path / "clips", {"sap": 1.0}, files=[f"x{number}.wav" for number in range(60)]),
        write_run(tmp_path / "none", {"sap": 1.0}),
        write_run(tmp_path / "truth", {"sap": 1.0}, labels=("sadness", "anger", "happiness")),
    ]
    (others[2] / "predictions.parquet").unlink()
    for other, why in zip(others, ("classes differ", "no clip in common", "clip by clip", "another label")):
        tests, remarks = paired_tests([one for one in read_folders([a, other]) if isinstance(one, Run)])
        assert tests == []
        assert why in remarks[0]


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "x" / "sap"), write_run(tmp_path / "y" / "sap")
    assert [one.name for one in read_folders([a, b])] == ["x/sap", "y/sap"]


def test_metrics_of_another_run_are_not_mixed_with_the_answers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"sap": 1.0})
    record = json.loads((folder / "metrics.json").read_text())
    record["systems"]["sap"]["n"] = 59
    (folder / "metrics.json").write_text(json.dumps(record))
    (run,) = read_folders([folder])
    assert isinstance(run, Run)
    assert run.answers("sap") is None


def test_a_pair_knows_its_run(run: Run) -> None:
    (test,) = paired_tests([run])[0]
    assert isinstance(test, PairedTest)
    assert test.run == run.name


def runs_of(*folders: Path) -> list[Run]:
    return [one for one in read_folders(folders) if isinstance(one, Run)]


def test_a_speaker_dependent_run_is_not_held_against_a_disjoint_one(tmp_path: Path) -> None:
    random = {"speaker_dependent": True, "folds": "random-k-fold", "num_folds": 3}
    apart = {
        "speaker_dependent": False,
        "folds": "group-k-fold",
        "num_folds": 3,
        "leaks": ["speaker", "audio"],
    }
    listed = {"speaker_dependent": False, "folds": "fixed", "num_folds": 3, "leaks": ["audio"]}
    folders = [
        write_run(tmp_path / "random", {"sap": 4.0}, protocol=random),
        write_run(tmp_path / "apart", {"sap": 1.0}, protocol=apart, seed=5),
        write_run(tmp_path / "again", {"sap": 0.5}, protocol=listed, seed=7),
    ]
    runs = runs_of(*folders)
    tests, remarks = paired_tests(runs)
    assert [(test.comparison.a, test.comparison.b) for test in tests] == [("apart / sap", "again / sap")]
    assert "not compared, for the split of random is speaker-dependent" in remarks[0]
    assert "that of apart is not" in remarks[0]
    assert "In random, clips were divided at random" in cautions_between(runs)[0]
    assert "Folds differ between runs" in cautions_between(runs)[1]
    text = " ".join(between_runs(runs, tests))
    assert "Of 2 runs without a speaker-dependent split, apart has the highest UA" in text
    assert "random is the only run with a speaker-dependent split" in text
    page = page_of(runs, Clips([]))
    first, *_ = page.parts[0].sections[0].blocks
    assert isinstance(first, Words)
    assert first.caution
    assert first.sentences[0].startswith("Speaker-dependent runs stand beside others")
    table = systems_table(runs, "")
    assert table.columns[2] == "split"
    assert [row[2] for row in table.rows] == ["speaker-dependent", "speaker-disjoint", None]
    assert "split" not in systems_table(runs[1:], "").columns
    corpora = {
        "corpora": {"a": apart, "b": random}
    }  # a run of several corpora, one of them divided at random
    (mixed,) = runs_of(write_run(tmp_path / "mixed", {"sap": 1.0}, protocol=corpora))
    assert paired_tests([mixed, runs[1]])[0] == []
    assert len(paired_tests([mixed, runs[0]])[0]) == 1


def test_folds_of_another_kind_are_told(tmp_path: Path) -> None:
    five = {"folds": "group-k-fold", "num_folds": 5}
    each = {"folds": "leave-one-speaker-out", "num_folds": 6}
    runs = runs_of(
        write_run(tmp_path / "five", {"sap": 1.0}, protocol=five),
        write_run(tmp_path / "each", {"sap": 1.0}, protocol=each, seed=5),
        write_run(tmp_path / "same", {"sap": 1.0}, protocol=each, seed=7),
    )
    _, remarks = paired_tests(runs)
    assert (
        "Their folds differ (group-k-fold, 5 folds in five, leave-one-speaker-out, 6 folds in each)"
        in remarks[0]
    )
    assert "differ" not in remarks[2]
    assert "Folds differ between runs of the same corpus" in cautions_between(runs)[0]
    assert cautions_between(runs[1:]) == []
    elsewhere = write_run(tmp_path / "other", {"sap": 1.0}, protocol={**five, "corpus": "other"})
    assert (
        cautions_between([*runs[1:], *runs_of(elsewhere)]) == []
    )  # another corpus has other speakers anyway


def test_runs_are_compared_by_the_mean_over_seeds_not_by_a_vote(tmp_path: Path) -> None:
    voted = {"gap": 1.0, "sap": 1.5, "gap (vote)": 4.0}
    runs = runs_of(
        write_run(tmp_path / "voted", voted), write_run(tmp_path / "one", {"gap": 0.8, "wide": 2.0}, seed=5)
    )
    assert runs[0].best == "gap (vote)"  # though the mean of sap is higher than that of gap
    tests, _ = paired_tests(runs)
    between = [(test.comparison.a, test.comparison.b) for test in tests if test.run is None]
    assert between == [("voted / sap", "one / wide"), ("voted / gap", "one / gap")]
    text = " ".join(between_runs(runs, tests))
    assert "vote)" not in text
    assert "Between runs, systems count with the mean over seeds, not with their vote." in text
    assert text.count(" / sap") == 1
