"""Metrics equal scikit-learn's, intervals hold what they promise, bad answers are refused."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from subtone.errors import UsageError
from subtone.evaluation import Evaluation, evaluate, soft_vote
from subtone.evaluation.bootstrap import resampled_metrics, seed_weights, units_of

LABELS = ["anger", "happiness", "neutral", "sadness"]


def simulated(
    rng: np.random.Generator, speakers: int = 10, clips: int = 20, spread: float = 0.1, level: float = 0.7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, predictions and speakers, where speakers differ in how often they are recognised."""
    who = np.repeat(np.arange(speakers), clips)
    truth = np.tile(np.arange(4), speakers * clips // 4)
    ability = np.clip(level + spread * rng.standard_normal(speakers), 0, 1)
    right = rng.random(len(who)) < ability[who]
    return truth, np.where(right, truth, (truth + rng.integers(1, 4, len(who))) % 4), who


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_metrics_equal_scikit_learn(pairs):
    truth, predictions = np.array(pairs).T
    found = evaluate(truth, predictions, LABELS, resamples=2)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        assert found.ua == pytest.approx(balanced_accuracy_score(truth, predictions))
    assert found.wa == pytest.approx(accuracy_score(truth, predictions))
    expected = f1_score(truth, predictions, labels=range(4), average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected)
    assert (found.confusion == confusion_matrix(truth, predictions, labels=range(4))).all()
    for code, label in enumerate(LABELS):
        rows = truth == code
        recall = found.per_class_recall[label]
        assert (
            math.isnan(recall)
            if not rows.any()
            else recall == pytest.approx((predictions[rows] == code).mean())
        )


def test_labels_class_numbers_and_scores_say_the_same():
    rng = np.random.default_rng(0)
    truth, predictions, who = simulated(rng)
    scores = np.eye(4)[predictions] + 0.1 * rng.random((len(truth), 4))
    names = np.array(LABELS)
    forms = [
        evaluate(truth, predictions, LABELS, who),
        evaluate(names[truth], names[predictions], LABELS, who),
        evaluate(pd.Series(names[truth], dtype="string"), list(names[predictions]), LABELS, list(who)),
        evaluate(truth, scores, LABELS, who),
        evaluate(truth, scores.astype(np.float32)[None], LABELS, who),
    ]
    assert len({json.dumps(form.to_dict(full=True)) for form in forms}) == 1


def test_json_object_has_the_agreed_keys_and_reads_back():
    truth, predictions, who = simulated(np.random.default_rng(1))
    found = evaluate(truth % 3, predictions, LABELS, who, folds=who // 2, seconds=np.float32(1.5))
    assert list(found.to_dict()) == [
        "n", "ua", "ua_ci", "wa", "wa_ci", "macro_f1", "per_class_recall", "confusion", "labels", "seconds",
    ]  # fmt: skip
    record = json.loads(json.dumps(found.to_dict(full=True), allow_nan=False))
    assert record["per_class_recall"]["sadness"] is None
    assert Evaluation.from_dict(record).to_dict(full=True) == record
    assert record["interval"]["unit"] == "speaker"
    assert record["interval"]["units"] == 10


def test_folds_are_scored_apart():
    truth, predictions, who = simulated(np.random.default_rng(2))
    found = evaluate(truth, predictions, LABELS, who, folds=[f"s{speaker}" for speaker in who])
    assert [fold.name for fold in found.folds] == [f"s{speaker}" for speaker in range(10)]
    for number, fold in enumerate(found.folds):
        rows = who == number
        assert fold.n == 20
        assert fold.ua == pytest.approx(balanced_accuracy_score(truth[rows], predictions[rows]))
        assert fold.wa == pytest.approx(accuracy_score(truth[rows], predictions[rows]))


def test_several_seeds_give_the_mean_of_their_figures():
    rng = np.random.default_rng(3)
    truth, _, who = simulated(rng)
    answers = np.stack([simulated(rng)[1] for _ in range(3)])
    together = evaluate(truth, answers, LABELS, who, folds=who)
    alone = [evaluate(truth, answer, LABELS, who, folds=who) for answer in answers]
    for name in ("ua", "wa", "macro_f1"):
        assert getattr(together, name) == pytest.approx(np.mean([getattr(one, name) for one in alone]))
    assert (together.confusion == sum(one.confusion for one in alone)).all()
    assert together.seeds == 3
    assert together.n == len(truth)
    assert together.folds[4].ua == pytest.approx(np.mean([one.folds[4].ua for one in alone]))


def test_soft_vote_is_one_system_of_the_mean_probabilities():
    scores = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.3, 0.7]]])
    assert soft_vote(scores) == pytest.approx(np.array([[0.55, 0.45], [0.35, 0.65]]))
    assert evaluate([0, 1], soft_vote(scores), ["anger", "sadness"]).wa == 1.0
    assert evaluate([0, 1], scores, ["anger", "sadness"]).wa == 0.75
    with pytest.raises(UsageError, match="seeds, clips, classes"):
        soft_vote(scores[0])


def slow_bootstrap(truth, answers, who, weights) -> list[tuple[float, float]]:
    """UA and WA of each resample, clip by clip."""
    values = []
    for draw in weights:
        rows = np.concatenate(
            [np.flatnonzero(who == s) for s, times in enumerate(draw) for _ in range(times)]
        )
        recall = [np.mean(answers[rows][truth[rows] == c] == c) for c in np.unique(truth[rows])]
        values.append((float(np.mean(recall)), float(np.mean(truth[rows] == answers[rows]))))
    return values


def test_bootstrap_equals_the_slow_one_clip_by_clip():
    truth, answers, who = simulated(np.random.default_rng(4), speakers=4, clips=8)
    truth = np.where(who == 0, 3, truth % 3)  # only one speaker has the last class, so some resamples lack it
    units = units_of(truth, answers[None], 4, who)
    assert units.number == len(units.copies) == 4
    found = resampled_metrics(units, 50, seed=9)
    drawn = np.random.default_rng(9).multinomial(4, np.full(4, 0.25), size=50)
    # The units are sorted by their content: find whose is whose.
    order = [
        next(u for u in range(4)
             if (units.support[u] == np.bincount(truth[who == s], minlength=4)).all()
             and units.hits[u].sum() == (truth == answers)[who == s].sum())
        for s in range(4)
    ]  # fmt: skip
    expected = slow_bootstrap(truth, answers, who, drawn[:, order])
    assert found["ua"].tolist() == pytest.approx([ua for ua, _ in expected])
    assert found["wa"].tolist() == pytest.approx([wa for _, wa in expected])


def test_intervals_hold_the_true_value_about_as_often_as_they_say():
    """True UA 0.7, speakers differ by 0.1; with 30 speakers such intervals fall a little short of 95 %."""
    rng = np.random.default_rng(5)
    studies, held, by_clips = 300, 0, 0
    for study in range(studies):
        truth, answers, who = simulated(rng, speakers=30, clips=40)
        low, high = evaluate(truth, answers, LABELS, who, resamples=400, seed=study).ua_ci
        held += low <= 0.7 <= high
        low, high = evaluate(truth, answers, LABELS, None, resamples=400, seed=study).ua_ci
        by_clips += low <= 0.7 <= high
    assert 0.89 <= held / studies <= 0.98
    assert by_clips / studies < 0.87  # which is why speakers are resampled


def test_intervals_follow_the_seed_and_the_confidence():
    truth, answers, who = simulated(np.random.default_rng(6))
    first, second = (evaluate(truth, answers, LABELS, who, seed=1) for _ in range(2))
    assert first.ua_ci == second.ua_ci
    assert first.ua_ci != evaluate(truth, answers, LABELS, who, seed=2).ua_ci
    narrow = evaluate(truth, answers, LABELS, who, seed=1, confidence=0.5).ua_ci
    assert first.ua_ci[0] < narrow[0] < first.ua < narrow[1] < first.ua_ci[1]


@pytest.mark.parametrize("speakers", [None, [1] * 40, ["a", None] * 20, [pd.NA] * 40, [float("nan")] * 40])
def test_without_known_speakers_clips_are_resampled_and_the_result_says_so(speakers):
    truth, answers, _ = simulated(np.random.default_rng(7), speakers=2)
    found = evaluate(truth, answers, LABELS, speakers)
    assert (found.ci_unit, found.ci_units) == ("clip", 40)
    assert "40 clips" in found.sentence()
    expected = 1.96 * math.sqrt(found.wa * (1 - found.wa) / 40)
    assert (found.wa_ci[1] - found.wa_ci[0]) / 2 == pytest.approx(expected, rel=0.25)


def test_seeds_that_disagree_widen_the_interval():
    truth, _, who = simulated(np.random.default_rng(8), speakers=40, clips=40, spread=0.0)
    rng = np.random.default_rng(9)
    answers = np.stack(
        [np.where(rng.random(len(truth)) < level, truth, (truth + 1) % 4) for level in (0.5, 0.9)]
    )
    low, high = evaluate(truth, answers, LABELS, who).ua_ci
    assert low < 0.55
    assert high > 0.85


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_drawn_seeds_scatter_as_new_ones_would(seeds):
    """The variance of the weighted mean over draws is the unbiased estimate of that of a mean of new seeds."""
    values = np.random.default_rng(seeds).random(seeds)
    weights = seed_weights(seeds, 200_000, np.random.default_rng(0))
    assert weights.sum(1) == pytest.approx(1.0)
    drawn = weights @ values
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.003)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / seeds, rel=0.03)


def test_one_seed_is_drawn_as_it_is():
    assert (seed_weights(1, 10, np.random.default_rng(0)) == 1.0).all()


def test_seeds_far_apart_do_not_push_an_interval_out_of_range():
    truth, _, who = simulated(np.random.default_rng(11))
    low, high = evaluate(truth, np.stack([truth, (truth + 1) % 4]), LABELS, who).ua_ci
    assert (low, high) == (0.0, 1.0)


def test_a_large_evaluation_takes_little_time():
    rng = np.random.default_rng(10)
    truth, answers, _ = simulated(rng, speakers=400, clips=80)
    start = time.perf_counter()
    evaluate(truth, np.stack([answers] * 5), LABELS, rng.integers(0, 400, len(truth)))
    assert time.perf_counter() - start < 3.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([], [], LABELS), "truth is empty"),
        ((["angry"], ["anger"], LABELS), "truth, clip 0: 'angry' is no label; did you mean 'anger'"),
        ((["anger"], ["joy"], LABELS), "predictions, clip 0: 'joy' is no label; known"),
        ((["anger"], [None], LABELS), "expected a label, got None"),
        ((["anger"], ["anger", "anger"], LABELS), "does not fit 1 clips"),
        (([0, 4], [0, 1], LABELS), "class number 4"),
        (([0, -1], [0, 1], LABELS), "class number -1"),
        (([0, 1], [[0.5, 0.5]] * 2, LABELS), r"expected \(2 clips, 4 classes\)"),
        (([0, 1], [[float("nan")] * 4, [0.0] * 4], LABELS), "1 clips have NaN scores, first clip 0"),
        (([0, 1], [0, 1], []), "labels must be"),
        (([0, 1], [0, 1], "anger"), "labels must be"),
        (([0, 1], [0, 1], ["anger", "anger"]), "names a class twice"),
        (([0, 1], [0, 1], LABELS, ["x"]), "1 speakers for 2 clips"),
        (([0, 1], [0, 1], LABELS, None, ["x"]), "1 folds for 2 clips"),
    ],
)
def test_answers_that_do_not_fit_are_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        evaluate(*arguments)


@pytest.mark.parametrize("options", [{"resamples": 0}, {"confidence": 95}, {"confidence": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        evaluate([0, 1], [0, 1], LABELS, **options)
