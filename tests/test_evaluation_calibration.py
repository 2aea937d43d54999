"""Temperature and calibration error against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.errors import UsageError
from subtone.evaluation.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def test_calibration_error_equals_the_one_worked_out_by_hand():
    confidence = [0.95, 0.95, 0.55, 0.65, 0.65]
    probabilities = [[c, 1 - c] for c in confidence]
    truth = [0, 1, 0, 0, 0]
    # Bins of a tenth: two clips at 0.95, half right; one at 0.55, right; two at 0.65, both right.
    expected = (2 * 0.45 + 1 * 0.45 + 2 * 0.35) / 5
    assert expected_calibration_error(probabilities, truth, bins=10) == pytest.approx(expected)


def test_bins_hold_their_upper_edge_and_certainty_has_a_bin():
    found = reliability([[1.0, 0.0], [0.8, 0.2]], [0, 0], bins=5)
    assert found.clips.tolist() == [0, 0, 0, 1, 1]
    assert math.isnan(found.accuracy[0])
    assert found.error == pytest.approx(0.1)


def test_perfect_and_hopeless_confidence():
    assert expected_calibration_error([[1.0, 0.0]] * 4, [0] * 4) == 0.0
    assert expected_calibration_error([[1.0, 0.0]] * 4, [1] * 4) == 1.0


def test_temperature_of_two_classes_has_a_closed_form():
    # Every clip has the logit 4 and is right in 3 of 4: sigmoid(4 / T) = 3 / 4, so T = 4 / log 3.
    logits, truth = [[4.0, 0.0]] * 8, [0] * 6 + [1] * 2
    assert fit_temperature(logits, truth) == pytest.approx(4 / math.log(3), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 5.0), st.integers(0, 100))
def test_temperature_is_recovered_and_mends_calibration(temperature, seed):
    rng = np.random.default_rng(seed)
    true_logits = 1.5 * rng.standard_normal((4000, 4))
    truth = (true_logits + rng.gumbel(size=true_logits.shape)).argmax(1)
    logits = true_logits * temperature
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(temperature, rel=0.1)
    mended = expected_calibration_error(apply_temperature(logits, found), truth)
    assert mended < 0.04
    assert (apply_temperature(logits, found).argmax(1) == logits.argmax(1)).all()


def test_temperature_of_faultless_and_of_large_scores_stays_finite():
    assert 0 < fit_temperature([[5.0, 0.0], [0.0, 5.0]], [0, 1]) < 0.1
    assert 1 < fit_temperature([[1e4, 0.0]] * 2, [0, 1]) <= 100.1
    assert np.isfinite(apply_temperature([[1e300, 0.0]], 1.0)).all()


@pytest.mark.parametrize(
    ("scores", "truth", "says"),
    [
        ([[0.5, 0.5]], [0, 1], "clips, classes"),
        ([0.5, 0.5], [0, 1], "clips, classes"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "clips, classes"),
        ([[0.5, float("nan")]], [0], "not finite"),
        ([[0.5, 0.5]], [2], "class numbers 0 to 1"),
        ([[0.5, 0.5]], ["anger"], "class numbers"),
        ([[3.0, -3.0]], [0], "probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(scores, truth, says):
    with pytest.raises(UsageError, match=says):
        expected_calibration_error(scores, truth)
    if says != "probabilities":
        with pytest.raises(UsageError, match=says):
            fit_temperature(scores, truth)


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="temperature"):
        apply_temperature([[0.0, 1.0]], 0.0)
    with pytest.raises(UsageError, match="bins"):
        expected_calibration_error([[0.5, 0.5]], [0], bins=0)
