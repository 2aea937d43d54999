"""Class shares: estimated from unlabelled clips as slow formulas do, put into scores, and never out of bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from subtone.errors import UsageError
from subtone.evaluation.calibration import apply_temperature
from subtone.evaluation.priors import (
    bbse_prior,
    class_shares,
    em_prior,
    oracle_adjusted,
    prior_adjusted,
)

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def shifted(
    clips: int, shares: Sequence[float], taught: Sequence[float], seed: int = 0
) -> tuple[Floats, Codes]:
    """Clips of a Gaussian a class, with the true posterior under the shares taught."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(shares), clips, p=shares)
    x = rng.normal(0, 1, (clips, len(shares))) + 2.0 * np.eye(len(shares))[truth]
    # log N(x; 2 e_j, 1) up to what all classes have in common
    return apply_temperature(2.0 * x + np.log(taught), 1.0), truth.astype(np.int64)


def slow_em(probabilities: Floats, taught: Sequence[float], iterations: int) -> list[float]:
    """Equations 4.7 and 4.8 of Saerens et al., word for word."""
    clips, classes = len(probabilities), len(taught)
    prior = list(taught)
    for _ in range(iterations):
        posterior = []
        for i in range(clips):
            ratio = [prior[j] / taught[j] * probabilities[i][j] for j in range(classes)]
            posterior.append([value / sum(ratio) for value in ratio])
        prior = [sum(row[j] for row in posterior) / clips for j in range(classes)]
    return prior


@pytest.mark.parametrize("taught", [[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]])
def test_em_follows_the_formula_of_its_paper(taught: list[float]) -> None:
    probabilities, _ = shifted(40, [0.2, 0.1, 0.7], taught)
    found = em_prior(probabilities, taught, tolerance=0.0, iterations=12)
    assert found.iterations == 12
    assert not found.converged
    np.testing.assert_allclose(found.prior, slow_em(probabilities, taught, 12), rtol=1e-10)


def test_em_ends_where_the_likelihood_is_highest() -> None:
    taught = np.array([0.3, 0.7])
    probabilities, _ = shifted(300, [0.85, 0.15], taught)
    grid = np.linspace(0.0005, 0.9995, 1000)
    each = [np.log(probabilities @ (np.array([q, 1 - q]) / taught)).sum() for q in grid]
    assert em_prior(probabilities, taught).prior[0] == pytest.approx(grid[int(np.argmax(each))], abs=0.002)


def test_em_and_confusions_recover_a_shift_of_labels() -> None:
    shares, taught = [0.7, 0.05, 0.25], [1 / 3] * 3
    probabilities, truth = shifted(20_000, shares, taught)
    found = em_prior(probabilities, taught)
    assert found.converged
    np.testing.assert_allclose(found.prior, shares, atol=0.015)
    dev, dev_truth = shifted(20_000, [0.2, 0.5, 0.3], taught, seed=1)  # its own shares do not matter
    by_confusion = bbse_prior(dev_truth, dev.argmax(1), probabilities.argmax(1), 3)
    np.testing.assert_allclose(by_confusion, shares, atol=0.02)
    plain = (probabilities.argmax(1) == truth).mean()
    adjusted = prior_adjusted(np.log(probabilities), taught, found.prior)
    oracle = oracle_adjusted(np.log(probabilities), taught, truth)
    assert (adjusted.argmax(1) == truth).mean() > plain + 0.02
    np.testing.assert_allclose(
        (adjusted.argmax(1) == truth).mean(), (oracle.argmax(1) == truth).mean(), atol=0.005
    )


def test_shares_as_taught_stay_as_they_are() -> None:
    taught = [0.6, 0.3, 0.1]
    probabilities, _ = shifted(20_000, taught, taught)
    np.testing.assert_allclose(em_prior(probabilities, taught).prior, taught, atol=0.01)
    np.testing.assert_allclose(prior_adjusted(np.log(probabilities), taught, taught), np.log(probabilities))


def test_a_class_without_test_clips_loses_its_share() -> None:
    probabilities, _ = shifted(3000, [0.5, 0.5, 0.0], [1 / 3] * 3)
    found = em_prior(probabilities, [1 / 3] * 3)
    assert 0 <= found.prior[2] < 0.01
    assert found.prior.sum() == pytest.approx(1.0)


def test_one_clip_gives_all_to_its_class() -> None:
    found = em_prior([[0.2, 0.5, 0.3]], [0.1, 0.8, 0.1])
    assert found.prior.argmax() == 2  # 0.3 / 0.1 is the highest likelihood
    assert found.prior[2] > 0.99


def test_clips_that_are_all_sure_of_one_class_give_it_everything() -> None:
    found = em_prior([[1.0, 0.0]] * 5, [0.5, 0.5])
    np.testing.assert_array_equal(found.prior, [1.0, 0.0])
    assert found.converged


def test_iterations_are_bounded_where_em_creeps() -> None:
    creeping = [[0.5, 0.5 - 1e-5, 1e-5]] * 3
    found = em_prior(creeping, [1 / 3] * 3, tolerance=0.0, iterations=50)
    assert (found.iterations, found.converged) == (50, False)
    assert np.isfinite(found.prior).all()
    assert found.prior.sum() == pytest.approx(1.0)


def test_confusions_follow_the_inverse_where_there_is_one() -> None:
    rng = np.random.default_rng(3)
    dev_truth = np.repeat(np.arange(3), 50)
    dev_answers = np.where(rng.random(150) < 0.7, dev_truth, rng.integers(0, 3, 150))
    test_answers = rng.choice(3, 400, p=[0.4, 0.25, 0.35])
    taken = np.zeros((3, 3))
    for truth, answer in zip(dev_truth, dev_answers, strict=True):
        taken[answer, truth] += 1
    taken = (taken + 1 / 3) / 51
    shares = [np.mean(test_answers == one) for one in range(3)]
    slow = np.linalg.inv(taken) @ shares
    assert (slow > 0).all()
    found = bbse_prior(dev_truth, dev_answers, test_answers, 3)
    np.testing.assert_allclose(found, slow, rtol=1e-6)


@pytest.mark.parametrize(
    ("truth", "answers", "test"),
    [
        ([0, 0, 1, 1], [0, 0, 0, 0], [1, 1]),  # test clips taken for what no development clip was taken for
        ([0, 0], [0, 0], [0, 1, 2]),  # two classes without development clips
        ([0, 1, 2], [0, 0, 0], [0]),  # no inverse, one test clip
        ([], [], [2, 2]),  # no development at all
    ],
)
def test_confusions_that_tell_little_still_give_shares(
    truth: list[int], answers: list[int], test: list[int]
) -> None:
    found = bbse_prior(np.array(truth, int), np.array(answers, int), np.array(test, int), 3)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1.0)


def test_adjusting_is_the_rule_of_bayes() -> None:
    posterior, taught, expected = np.array([0.5, 0.3, 0.2]), [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]
    slow = [p * q / t for p, q, t in zip(posterior, expected, taught, strict=True)]
    adjusted = apply_temperature(prior_adjusted(np.log(posterior), taught, expected), 1.0)
    np.testing.assert_allclose(adjusted, np.array(slow) / sum(slow))


def test_a_class_of_no_share_is_never_answered() -> None:
    logits = np.array([[9.0, 1.0, 0.0], [0.0, 1.0, 9.0]])
    truth = np.array([1, 2])
    np.testing.assert_array_equal(class_shares(truth, 3), [0.0, 0.5, 0.5])
    oracle = oracle_adjusted(logits, [1 / 3] * 3, truth)
    assert oracle.argmax(1).tolist() == [1, 2]
    assert not np.isnan(oracle).any()


def test_shares_need_not_sum_to_one() -> None:
    logits = np.array([[0.2, 0.1]])
    counted = prior_adjusted(logits, [30, 10], [5, 15])
    np.testing.assert_allclose(
        apply_temperature(counted, 1.0),
        apply_temperature(prior_adjusted(logits, [0.75, 0.25], [0.25, 0.75]), 1.0),
    )


@pytest.mark.parametrize(
    ("probabilities", "taught", "words"),
    [
        (np.zeros((0, 2)), [0.5, 0.5], "there is none"),
        ([[2.0, -1.0]], [0.5, 0.5], "pass logits through apply_temperature"),
        ([[np.nan, 1.0]], [0.5, 0.5], "pass logits through apply_temperature"),
        ([[0.5, 0.5]], [1.0, 0.0], "leave a class out that was never taught"),
        ([[0.5, 0.5]], [1.0], "a share for each class"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities: Floats, taught: list[float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        em_prior(probabilities, taught)


def test_impossible_expectations_are_refused() -> None:
    for expected in ([0.5], [-0.1, 1.1], [0.0, 0.0], [np.nan, 1.0]):
        with pytest.raises(UsageError, match="test_prior"):
            prior_adjusted([0.0, 0.0], [0.5, 0.5], expected)
    with pytest.raises(UsageError, match="0 test clips"):
        bbse_prior(np.array([0]), np.array([0]), np.array([], int), 2)
    with pytest.raises(UsageError, match="iterations"):
        em_prior([[0.5, 0.5]], [0.5, 0.5], iterations=0)
