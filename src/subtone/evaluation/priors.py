"""Class shares that differ between training and test: how they are estimated without labels, and put into scores.

A classifier that was taught with shares ``p(y)`` gives ``p(y | x)`` under them. Where clips of a class sound alike on
both sides (``p(x | y)`` stays) and only the shares become ``q(y)``, the right scores are proportional to
``p(y | x) · q(y) / p(y)``. That is what all functions here assume; another language or microphone breaks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError
from subtone.evaluation.metrics import Codes, Floats, confusion


@dataclass(frozen=True, eq=False)
class EmPrior:
    """Class shares that `em_prior` found.

    Attributes
    ----------
    prior
        ``(classes,)``, sums to 1.
    iterations
        How many were made.
    converged
        False when the last one still moved a share by more than the tolerance.
    """

    prior: Floats
    iterations: int
    converged: bool


def em_prior(
    probabilities: npt.ArrayLike,
    train_prior: npt.ArrayLike,
    *,
    tolerance: float = 1e-6,
    iterations: int = 1000,
) -> EmPrior:
    """Estimate the class shares of test clips from their unlabelled probabilities, by EM.

    From ``q = p``, repeat ``r_ij ∝ q_j / p_j · P(j | x_i)``, each row of r summing to 1, and ``q_j = mean_i r_ij``:
    the likelihood of the clips rises each time. Probabilities should be calibrated.

    Parameters
    ----------
    probabilities
        ``(clips, classes)``, rows sum to 1. One clip is enough for an answer, though not for a good one: all shares
        then go to one class.
    train_prior
        ``(classes,)`` shares that the classifier was taught with, each above 0. Class weights that balance the
        training make them all ``1 / classes``, whatever the training clips were.
    tolerance
        Stop when no share moves by more.
    iterations
        Stop after so many in any case. A class without test clips approaches 0 slowly and may end a little above.

    Returns
    -------
    EmPrior

    Raises
    ------
    UsageError
        If shapes disagree, rows are no probabilities, or a training share is not above 0.

    Notes
    -----
    Saerens, Latinne & Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities: A
    Simple Procedure", Neural Computation 14. On calibrating first: Alexandari, Kundaje & Shrikumar 2020, "Maximum
    Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation", ICML.

    Examples
    --------
    >>> em_prior([[0.9, 0.1]] * 3 + [[0.1, 0.9]], [0.5, 0.5]).prior.round(2)
    array([0.81, 0.19])
    """
    given = np.asarray(probabilities, dtype=np.float64)
    taught = _taught(train_prior, given)
    if not len(given):
        raise UsageError("shares are estimated from clips; there is none")
    if not np.isfinite(given).all() or (given < 0).any() or (np.abs(given.sum(1) - 1.0) > 1e-3).any():
        raise UsageError(
            "shares are estimated from probabilities (rows that sum to 1); pass logits through apply_temperature"
        )
    if iterations < 1:
        raise UsageError(f"iterations = {iterations}; it must be 1 or more")
    likelihood = given / taught  # proportional to p(x | y), row by row
    prior = taught
    for made in range(1, iterations + 1):
        joint = likelihood * prior
        found = (joint / joint.sum(1, keepdims=True)).mean(0)
        moved = float(np.abs(found - prior).max())
        prior = found
        if moved <= tolerance:
            return EmPrior(prior, made, True)
    return EmPrior(prior, iterations, False)


def bbse_prior(dev_truth: Codes, dev_answers: Codes, test_answers: Codes, classes: int) -> Floats:
    """Estimate the class shares of test clips from how development clips were confused (black box shift estimation).

    With ``C_ij`` the share of development clips of class j that were taken for class i, and ``m_i`` the share of test
    clips taken for it, ``C q = m``. Solved by least squares with no share below 0, which gives the inverse's answer
    where that is possible, and one where C has no inverse. Needs answers only, calibrated or not.

    Parameters
    ----------
    dev_truth, dev_answers
        ``(clips,)`` class numbers of development clips, whose speakers nothing was taught on.
    test_answers
        ``(clips,)`` class numbers.
    classes
        How many. Each class is given one more development clip, spread evenly over all answers: where no development
        clip tells how a class is answered, nothing is assumed of it.

    Returns
    -------
    NDArray of float64
        ``(classes,)``, sums to 1.

    Raises
    ------
    UsageError
        If there is no test clip, or development truth and answers are not of one length.

    Notes
    -----
    Lipton, Wang & Smola 2018, "Detecting and Correcting for Label Shift with Black Box Predictors", ICML; they invert
    the matrix and cut shares below 0 off. The added clip is ours.

    Examples
    --------
    >>> truth = np.repeat([0, 1], 500)
    >>> dev = np.concatenate([np.repeat([0, 1], [400, 100]), np.repeat([0, 1], [100, 400])])  # 80 % right
    >>> bbse_prior(truth, dev, np.repeat([0, 1], [740, 260]), 2).round(2)
    array([0.9, 0.1])
    """
    from scipy.optimize import nnls

    if not len(test_answers) or len(dev_truth) != len(dev_answers):
        raise UsageError(
            f"{len(test_answers)} test clips, {len(dev_truth)} true and {len(dev_answers)} answered development "
            "classes; give one or more test clips, and two numbers for each development clip"
        )
    counts = confusion(dev_answers, dev_truth, classes) + 1.0 / classes  # rows: answers
    taken = counts / counts.sum(0)
    marginal = np.bincount(test_answers, minlength=classes) / len(test_answers)
    found, _ = nnls(taken, marginal)
    return np.asarray(found / found.sum(), dtype=np.float64)


def prior_adjusted(logits: npt.ArrayLike, train_prior: npt.ArrayLike, test_prior: npt.ArrayLike) -> Floats:
    """Put other class shares into scores: ``logits − log train_prior + log test_prior`` (not normalised).

    Parameters
    ----------
    logits
        ``(..., classes)`` scores before the softmax, or log probabilities.
    train_prior
        ``(classes,)`` shares that the classifier was taught with, each above 0.
    test_prior
        ``(classes,)`` shares to expect; a class of share 0 gets −inf, and is never answered.

    Raises
    ------
    UsageError
        If shapes disagree, or shares are negative, all 0 or, in training, 0.

    Examples
    --------
    >>> prior_adjusted([0.0, 0.1], [0.5, 0.5], [0.75, 0.25]).round(2)
    array([ 0.41, -0.59])
    """
    scores = np.asarray(logits, dtype=np.float64)
    taught = _taught(train_prior, scores)
    expected = np.asarray(test_prior, dtype=np.float64)
    if expected.shape != taught.shape or not (expected >= 0).all() or not 0 < expected.sum() < np.inf:
        raise UsageError(
            f"test_prior must be {len(taught)} shares, none below 0 and one above, got {expected}"
        )
    with np.errstate(divide="ignore"):
        return np.asarray(scores - np.log(taught) + np.log(expected), dtype=np.float64)


def oracle_adjusted(logits: npt.ArrayLike, train_prior: npt.ArrayLike, test_truth: Codes) -> Floats:
    """Put the true class shares of the test clips into their scores: an oracle, for it looks at the test labels.

    No system can do so in use. It tells what could be gained at most by knowing the shares, and what published
    figures gain that do so without a word.

    Parameters
    ----------
    logits
        ``(..., clips, classes)``.
    train_prior
        ``(classes,)``, see `prior_adjusted`.
    test_truth
        ``(clips,)`` true class numbers of the test clips.

    Raises
    ------
    UsageError
        As `prior_adjusted`.

    Notes
    -----
    As Osman, Kaplan & Nadeem 2024, "SER Evals: In-domain and Out-of-domain Benchmarking for Speech Emotion
    Recognition", Interspeech (arXiv 2408.07851), adjust all figures out of domain. After Menon et al. 2021, "Long-tail
    Learning via Logit Adjustment", ICLR.

    Examples
    --------
    >>> oracle_adjusted([[0.0, 0.1]] * 4, [0.5, 0.5], np.array([0, 0, 0, 1])).argmax(1)
    array([0, 0, 0, 0])
    """
    classes = np.asarray(logits).shape[-1]
    return prior_adjusted(logits, train_prior, class_shares(test_truth, classes))


def class_shares(truth: Codes, classes: int) -> Floats:
    """Share of each class among clips, ``(classes,)``; sums to 1.

    Examples
    --------
    >>> class_shares(np.array([0, 0, 0, 2]), 3)
    array([0.75, 0.  , 0.25])
    """
    return np.asarray(np.bincount(truth, minlength=classes) / max(len(truth), 1), dtype=np.float64)


def _taught(train_prior: npt.ArrayLike, scores: Floats) -> Floats:
    prior = np.asarray(train_prior, dtype=np.float64)
    if prior.ndim != 1 or not scores.ndim or scores.shape[-1] != len(prior):
        raise UsageError(
            f"train_prior {prior.shape} must hold a share for each class of scores {scores.shape}"
        )
    if not ((prior > 0) & np.isfinite(prior)).all():
        raise UsageError(
            f"train_prior = {prior}; each share must be above 0: leave a class out that was never taught"
        )
    return np.asarray(prior / prior.sum(), dtype=np.float64)
