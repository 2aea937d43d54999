"""Calibration of results: measured on test clips, scaled by development clips of the same fold and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from subtone.errors import UsageError
from subtone.evaluation import soft_vote
from subtone.evaluation.calibrated import COLDEST, Calibration, Development, calibrate
from subtone.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from subtone.evaluation.reliability_plot import reliability_diagrams


def answered(
    rng: np.random.Generator, clips: int, heat: float, seeds: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``(seeds, clips, 3)`` of classes that were drawn by them, then made too sure by ``heat``."""
    logits = 1.5 * rng.standard_normal((clips, 3))
    chances = apply_temperature(logits, 1.0)
    truth = (chances.cumsum(1) < rng.random((clips, 1))).sum(1)
    noisy = logits + 0.1 * rng.standard_normal((seeds, clips, 3))
    return apply_temperature(noisy, 1.0 / heat), truth


@pytest.fixture
def two_folds():
    """Test clips of two folds, the one too sure and the other too unsure, and each fold's development clips."""
    rng = np.random.default_rng(0)
    parts = [answered(rng, 600, heat, seeds=2) for heat in (3.0, 0.4)]
    heard = [Development(*answered(rng, 500, heat, seeds=2)) for heat in (3.0, 0.4)]
    scores, truth = np.concatenate([p[0] for p in parts], axis=1), np.concatenate([p[1] for p in parts])
    return scores, truth, ["a"] * 600 + ["b"] * 600, {"a": heard[0], "b": heard[1]}


def test_figures_are_those_of_the_answers_of_all_seeds_together(two_folds):
    scores, truth, folds, heard = two_folds
    found = calibrate(scores, truth, folds, heard)
    flat, twice = scores.reshape(-1, 3), np.tile(truth, 2)
    assert found.answers == 2400 == sum(one.answers for one in found.bins)
    assert found.ece == pytest.approx(expected_calibration_error(flat, twice, 15))
    assert found.nll == pytest.approx(log_loss(twice, flat, labels=[0, 1, 2]))
    confidence, right = flat.max(1), flat.argmax(1) == twice
    for one in found.bins:
        rows = (confidence > one.low) & (confidence <= one.high)
        assert one.answers == rows.sum()
        if one.answers:
            assert one.confidence == pytest.approx(confidence[rows].mean())
            assert one.accuracy == pytest.approx(right[rows].mean())


def test_each_fold_has_the_temperature_of_its_own_development_clips(two_folds):
    scores, truth, folds, heard = two_folds
    found = calibrate(scores, truth, folds, heard)
    for name, one in heard.items():
        alone = fit_temperature(np.log(one.scores.reshape(-1, 3)), np.tile(one.truth, 2))
        assert found.temperatures[name] == pytest.approx(alone, rel=1e-4)
    assert found.temperatures["a"] == pytest.approx(3.0, rel=0.25)
    assert found.temperatures["b"] == pytest.approx(0.4, rel=0.25)
    assert found.ece_after < 0.4 * found.ece
    assert found.nll_after < found.nll
    assert found.temperature == "fitted"


def test_neither_test_clips_nor_other_folds_touch_a_temperature(two_folds):
    scores, truth, folds, heard = two_folds
    found = calibrate(scores, truth, folds, heard)
    wrong = calibrate(scores[:, ::-1], (truth + 1) % 3, folds, heard)
    assert wrong.temperatures == found.temperatures
    other = replace(heard["b"], truth=(heard["b"].truth + 1) % 3)
    changed = calibrate(scores, truth, folds, {**heard, "b": other})
    assert changed.temperatures["a"] == found.temperatures["a"]
    assert changed.temperatures["b"] != found.temperatures["b"]


def test_without_development_clips_there_is_no_temperature_and_the_result_says_so(two_folds):
    scores, truth, folds, heard = two_folds
    nobody = Development(np.empty((2, 0, 3)), np.empty(0, np.int64))
    for none in (None, {}, {"a": nobody, "b": nobody}):
        found = calibrate(scores, truth, folds, none)
        assert (found.temperature, found.ece_after, found.nll_after) == ("none", None, None)
        assert found.temperatures == {"a": None, "b": None}
        assert "No development clips" in found.note
    half = calibrate(scores, truth, folds, {"a": heard["a"]})
    assert half.ece_after is None
    assert half.temperatures["a"] is not None
    assert "1 of 2 folds" in half.note


def test_what_is_scaled_already_is_not_scaled_again(two_folds):
    scores, truth, folds, heard = two_folds
    found = calibrate(scores, truth, folds, heard, built_in={"a": 2.0, "b": 0.5})
    assert (found.temperature, found.temperatures) == ("built-in", {"a": 2.0, "b": 0.5})
    assert (found.ece_after, found.bins_after) == (None, ())
    assert found.ece == calibrate(scores, truth, folds).ece


def test_development_clips_that_are_all_recognised_do_not_make_a_system_certain():
    scores = np.full((1, 20, 2), [0.9, 0.1])
    found = calibrate(scores, np.zeros(20, int), ["a"] * 20, {"a": Development(scores, np.zeros(20, int))})
    assert found.temperatures == {"a": COLDEST}


def test_answers_of_impossible_classes_count_as_nearly_impossible():
    found = calibrate([[[1.0, 0.0]] * 3], np.array([0, 0, 1]), ["a"] * 3)
    assert np.isfinite(found.nll)
    assert found.nll > 100


def test_a_vote_is_scaled_by_votes(two_folds):
    one = two_folds[3]["a"]
    assert (one.vote().scores == soft_vote(one.scores)[None]).all()
    assert one.vote().truth is one.truth


def test_calibration_survives_json(two_folds):
    for found in (calibrate(*two_folds), calibrate(*two_folds[:3])):
        record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert record == found.to_dict()
        assert Calibration.from_dict(record) == found


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="scores"):
        calibrate([[0.5, 0.5]], np.array([0]), ["a"])
    with pytest.raises(UsageError, match="folds"):
        calibrate([[[0.5, 0.5]]], np.array([0]), [])
    with pytest.raises(UsageError, match="probabilities"):
        calibrate([[[3.0, 1.0]]], np.array([0]), ["a"])


def test_diagrams_are_drawn_the_same_each_time(two_folds, tmp_path):
    both = {"scaled": calibrate(*two_folds), "not": calibrate(*two_folds[:3])}
    path = reliability_diagrams(both, tmp_path / "a.png")
    assert path.read_bytes() == reliability_diagrams(both, tmp_path / "b.png").read_bytes()
    many = {f"a system with a very long name, number {n}": both["not"] for n in range(6)}
    assert reliability_diagrams(many, tmp_path / "c.svg").stat().st_size > 1000
    with pytest.raises(UsageError, match="no systems"):
        reliability_diagrams({}, tmp_path / "d.png")
