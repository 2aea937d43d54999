"""Support vector machines over folds: scikit-learn's answers, and nothing of the test rows in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from subtone.errors import RecipeError, UsageError
from subtone.evaluation.calibration import fit_temperature
from subtone.protocols import Fold
from subtone.training.options import OptionError
from subtone.training.svm import SvmOptions, SvmRun, train_svm

CLIPS, DIM = 240, 20
NOBODY = np.empty(0, np.int64)
ROWS = np.random.default_rng(1).permutation(CLIPS)
TRAIN, DEV, TEST = np.sort(ROWS[:120]), np.sort(ROWS[120:180]), np.sort(ROWS[180:])
FOLD = Fold("a", TRAIN, DEV, TEST)
SMALL = SvmOptions(costs=(1.0, 10.0), gammas=(0.3, 1.0))


def corpus(classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features of every scale, one that never varies among them, and classes of unequal size."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    y = rng.choice(classes, CLIPS, p=share)
    centres = rng.normal(0, 0.7, (classes, DIM))
    x = (centres[y] + rng.normal(size=(CLIPS, DIM))) * 10.0 ** rng.uniform(-3, 4, DIM) + 50
    x[:, 3] = 0.1
    return x.astype(np.float32), y.astype(np.int64)


def plain(kernel: str, cost: float, gamma: float | None, weights: str | None = "balanced") -> Pipeline:
    """Return what these options are in scikit-learn's own words."""
    svc = SVC(
        C=cost / DIM if kernel == "linear" else cost,
        kernel=kernel,
        gamma=(gamma or 1.0) / DIM,
        class_weight=weights,
        break_ties=True,
        decision_function_shape="ovr",
    )
    return make_pipeline(StandardScaler(), svc)


def same(one: SvmRun, other: SvmRun) -> None:
    """Check that two runs chose and learned the same."""
    assert one.chosen == other.chosen
    for a, b in zip(one.models, other.models, strict=True):
        for name in ("mean", "scale", "vectors"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.boundaries.weights, b.boundaries.weights)
        np.testing.assert_array_equal(a.boundaries.offsets, b.boundaries.offsets)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize(("kernel", "cost", "gamma"), [("rbf", 3.0, 0.5), ("linear", 3.0, None)])
@pytest.mark.parametrize("weights", ["balanced", "none"])
def test_scores_are_those_of_the_plain_pipeline_of_scikit_learn(
    classes: int, kernel: Any, cost: float, gamma: float | None, weights: Any
) -> None:
    x, y = corpus(classes)
    options = SvmOptions((kernel,), (cost,), (0.5,), weights)
    fold = Fold("a", np.concatenate([TRAIN, DEV]), NOBODY, TEST)
    run = train_svm(x, y, [fold], classes, options)
    theirs = plain(kernel, cost, gamma, None if weights == "none" else weights)
    theirs.fit(x[fold.train].astype(np.float64), y[fold.train])
    expected = theirs.decision_function(x[TEST].astype(np.float64))
    found = run.logits[TEST]
    assert (found.argmax(1) == theirs.predict(x[TEST].astype(np.float64))).all()
    # Both stop once they are within 1e-3 of the best, and rounding decides where.
    np.testing.assert_allclose(found[:, 1] - found[:, 0] if classes == 2 else found, expected, atol=2e-3)
    assert np.isnan(np.delete(run.logits, TEST, 0)).all()


@pytest.mark.parametrize("refit", [True, False])
def test_search_refit_and_temperature_are_those_written_out_with_scikit_learn(refit: bool) -> None:
    x32, y = corpus()
    x = x32.astype(np.float64)
    options = SvmOptions(("rbf", "linear"), (1.0, 10.0), (0.3, 1.0), refit=refit)
    tried = [("rbf", cost, gamma) for cost in options.costs for gamma in options.gammas]
    tried += [("linear", cost, None) for cost in options.costs]
    fitted = {setting: plain(*setting).fit(x[TRAIN], y[TRAIN]) for setting in tried}
    ua = {s: balanced_accuracy_score(y[DEV], fitted[s].predict(x[DEV])) for s in tried}
    best = max(tried, key=lambda s: (round(ua[s], 12), -s[1], s[0] == "rbf", -(s[2] or 0)))
    temperature = fit_temperature(fitted[best].decision_function(x[DEV]), y[DEV])
    final = fitted[best]
    if refit:
        both = np.sort(np.concatenate([TRAIN, DEV]))
        final = plain(*best).fit(x[both], y[both])

    run = train_svm(x32, y, [FOLD], 4, options)
    [choice] = run.chosen
    assert (choice.kernel, choice.cost, choice.gamma) == best
    assert choice.dev_ua == pytest.approx(ua[best])
    assert choice.temperature == pytest.approx(temperature, rel=1e-2)
    expected = final.decision_function(x[TEST]) / choice.temperature
    np.testing.assert_allclose(run.logits[TEST], expected, atol=2e-3 / choice.temperature)


def test_test_rows_are_scored_and_nothing_else() -> None:
    x, y = corpus()
    run = train_svm(x, y, [FOLD], 4, SMALL)
    other, unknown = x.copy(), y.copy()
    other[TEST] *= -100
    unknown[TEST] = 0
    changed = train_svm(other, unknown, [FOLD], 4, SMALL)
    same(run, changed)
    assert not np.array_equal(run.logits[TEST], changed.logits[TEST])


def test_scaling_is_that_of_the_training_rows_until_the_refit() -> None:
    x, y = corpus()
    other = x.copy()
    other[DEV] *= 3
    options = SvmOptions(costs=(1.0,), gammas=(1.0,), kernels=("rbf",), refit=False)
    same_setting = [train_svm(features, y, [FOLD], 4, options).models[0] for features in (x, other)]
    np.testing.assert_array_equal(same_setting[0].mean, same_setting[1].mean)
    np.testing.assert_allclose(same_setting[0].mean, x[TRAIN].mean(0, dtype=np.float64))
    refitted = train_svm(x, y, [FOLD], 4, SMALL).models[0]
    scaler = StandardScaler().fit(x[np.concatenate([TRAIN, DEV])].astype(np.float64))
    np.testing.assert_allclose(refitted.mean, scaler.mean_)
    np.testing.assert_allclose(refitted.scale, scaler.scale_)
    assert refitted.scale[3] == 1


def test_the_same_twice_and_whatever_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = corpus()
    one = train_svm(x, y, [FOLD], 4, SMALL)
    monkeypatch.setattr("subtone.training.svm.folds.cores", lambda: 1)
    other = train_svm(x, y, [FOLD], 4, SMALL)
    same(one, other)
    np.testing.assert_array_equal(one.logits, other.logits)


def test_a_fold_does_not_depend_on_the_others() -> None:
    x, y = corpus()
    folds = [FOLD, Fold("b", TEST, TRAIN, DEV)]
    told: list[tuple[int, int]] = []
    run = train_svm(x, y, folds, 4, SMALL, on_fold=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]
    for number, fold in enumerate(folds):
        alone = train_svm(x, y, [fold], 4, SMALL)
        assert alone.chosen[0] == run.chosen[number]
        np.testing.assert_array_equal(alone.logits[fold.test], run.logits[fold.test])
    assert np.isnan(run.logits[TRAIN]).all()


def test_a_fitted_one_scores_any_clips_as_the_run_did() -> None:
    x, y = corpus()
    run = train_svm(x, y, [FOLD], 4, SMALL)
    [model] = run.models
    np.testing.assert_array_equal(model.logits(x[TEST]), run.logits[TEST])
    np.testing.assert_allclose(
        model.logits(x[TEST[:1]].astype(float).tolist()), run.logits[TEST[:1]], atol=1e-5
    )
    assert model.logits(np.empty((0, DIM))).shape == (0, 4)
    with pytest.raises(UsageError, match="have 3 columns, but this SVM was fitted on 20"):
        model.logits(np.zeros((1, 3)))


def test_of_equals_the_simplest_is_taken() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(CLIPS) % 2
    x = y[:, None] * 100.0 + rng.normal(size=(CLIPS, 3))  # each setting recognises all
    options = SvmOptions(("linear", "rbf"), (100.0, 0.5, 7.0), (1.0, 0.2))
    [choice] = train_svm(x, y, [FOLD], 2, options).chosen
    assert (choice.kernel, choice.cost, choice.gamma, choice.dev_ua) == ("linear", 0.5, None, 1.0)
    options = SvmOptions(("rbf", "linear"), (100.0, 0.5, 7.0), (1.0, 0.2))
    [choice] = train_svm(x, y, [FOLD], 2, options).chosen
    assert (choice.kernel, choice.cost, choice.gamma, choice.dev_ua) == ("rbf", 0.5, 0.2, 1.0)
    assert choice.temperature >= 0.1  # all right: the development rows would have it at nothing


def test_without_development_rows_nothing_is_searched() -> None:
    x, y = corpus()
    fold = Fold("a", TRAIN, NOBODY, TEST)
    [choice] = train_svm(x, y, [fold], 4, SvmOptions()).chosen
    assert (choice.kernel, choice.cost, choice.gamma, choice.temperature) == ("rbf", 1.0, 1.0, 1.0)
    assert math.isnan(choice.dev_ua)
    [choice] = train_svm(x, y, [fold], 4, SvmOptions(("linear",), (3.0, 5.0))).chosen
    assert (choice.kernel, choice.cost, choice.gamma) == ("linear", 3.0, None)


def test_a_class_that_is_not_trained_on_scores_lowest() -> None:
    x, y = corpus()
    train = TRAIN[y[TRAIN] != 1]
    for dev in (DEV, NOBODY, DEV[y[DEV] == 1]):
        options = SvmOptions(costs=(1.0,), gammas=(1.0,), refit=False)
        run = train_svm(x, y, [Fold("a", train, dev, TEST)], 4, options)
        scores = run.logits[TEST]
        assert np.isfinite(scores).all()
        assert (scores[:, 1] < np.delete(scores, 1, 1).min(1) - 10).all()


def test_a_fold_of_one_class_is_refused_by_name() -> None:
    x, y = corpus()
    with pytest.raises(RecipeError, match="fold 'speaker 3' trains on clips of fewer than two classes"):
        train_svm(x, y, [Fold("speaker 3", TRAIN[y[TRAIN] == 1], DEV, TEST)], 4, SMALL)


def test_features_that_are_not_finite_are_told() -> None:
    x, y = corpus()
    x[[5, 9], [2, 3]] = np.nan, np.inf
    with pytest.raises(
        UsageError, match="2 of 240 clips have features that are not finite, clip 5 the first"
    ):
        train_svm(x, y, [FOLD], 4, SMALL)
    with pytest.raises(UsageError, match="disagree"):
        train_svm(corpus()[0], y[1:], [FOLD], 4, SMALL)
    with pytest.raises(UsageError, match="class numbers 0 to 2, got 0 to 3"):
        train_svm(corpus()[0], y, [FOLD], 3, SMALL)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kernels": ()}, "kernels = \\(\\)"),
        ({"kernels": ("poly",)}, "kernels: 'poly' is not known"),
        ({"costs": (1.0, 1.0)}, "each of them once"),
        ({"costs": (0.0,)}, "costs: 0.0 must be a number above 0"),
        ({"gammas": (math.inf,)}, "gammas: inf"),
        ({"gammas": (math.nan,)}, "gammas: nan"),
        ({"class_weights": "balance"}, "did you mean 'balanced'"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        SvmOptions(**changes)


def test_a_recipe_can_hold_the_options_as_they_are() -> None:
    read = TypeAdapter(SvmOptions)
    options = read.validate_python({"kernels": ["linear"], "costs": [1, 2.5], "refit": False})
    assert options == SvmOptions(("linear",), (1.0, 2.5), refit=False)
    with pytest.raises(ValidationError):
        read.validate_python({"cost": [1]})
