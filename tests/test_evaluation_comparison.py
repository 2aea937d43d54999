"""A claim "B beats A" is made as often as it should be, and not more."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from subtone.errors import UsageError
from subtone.evaluation import Comparison, compare, corrected, evaluate, holm

LABELS = ["anger", "happiness", "neutral", "sadness"]


def study(rng, speakers, clips, gain=0.0):
    """Truth, answers of two systems that differ by ``gain`` on average, speakers (who differ in both)."""
    who = np.repeat(np.arange(speakers), clips)
    truth = np.tile(np.arange(4), speakers * clips // 4)
    base = 0.65 + 0.1 * rng.standard_normal(speakers)
    answers = []
    for shift in (0.0, gain):
        right = rng.random(len(who)) < (base + shift + 0.05 * rng.standard_normal(speakers))[who]
        answers.append(np.where(right, truth, (truth + rng.integers(1, 4, len(who))) % 4))
    return truth, answers[0], answers[1], who


@pytest.mark.parametrize("speakers", [10, 24])
def test_equal_systems_are_told_apart_in_about_five_percent_of_studies(speakers):
    rng = np.random.default_rng(speakers)
    p = np.empty(500)
    for number in range(len(p)):
        truth, a, b, who = study(rng, speakers, 60)
        p[number] = compare(truth, a, b, LABELS, who, seed=number, resamples=10, permutations=499).p
    # Ties make the test a little careful, so the share may lie below; it must not lie above.
    assert 0.02 <= (p < 0.05).mean() <= 0.08
    assert 0.40 <= (p < 0.5).mean() <= 0.56


def test_a_real_difference_is_found():
    truth, a, b, who = study(np.random.default_rng(0), 20, 40, gain=0.15)
    found = compare(truth, a, b, LABELS, who, names=("GAP", "GAP+SAP"))
    assert found.significant
    assert found.ci[0] < found.difference < found.ci[1]
    assert found.sentence().startswith(
        f"GAP+SAP beats GAP by {100 * found.difference:.1f} points UA (95 % interval "
    )


@pytest.mark.parametrize("metric", ["ua", "wa"])
def test_difference_is_that_of_the_evaluations_and_turns_with_the_order(metric):
    truth, a, b, who = study(np.random.default_rng(1), 20, 40, gain=0.1)
    found = compare(truth, a, b, LABELS, who, metric=metric)
    values = [getattr(evaluate(truth, answer, LABELS, who), metric) for answer in (a, b)]
    assert (found.value_a, found.value_b) == pytest.approx(values)
    assert found.difference == pytest.approx(values[1] - values[0])
    turned = compare(truth, b, a, LABELS, who, metric=metric)
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.ci[0] == pytest.approx(-found.ci[1], abs=0.01)
    assert turned.p == pytest.approx(found.p, abs=0.01)


def test_p_of_few_speakers_equals_trying_all_exchanges_by_hand():
    truth, a, b, who = study(np.random.default_rng(2), 6, 12, gain=0.12)
    found = compare(truth, a, b, LABELS, who)
    observed = abs(balanced_accuracy_score(truth, b) - balanced_accuracy_score(truth, a))
    larger = 0
    for exchange in itertools.product([False, True], repeat=6):
        swapped = np.array(exchange)[who]
        first, second = np.where(swapped, b, a), np.where(swapped, a, b)
        difference = balanced_accuracy_score(truth, second) - balanced_accuracy_score(truth, first)
        larger += abs(difference) >= observed - 1e-9
    assert found.p_exact
    assert found.p == pytest.approx(larger / 64)


def test_random_exchanges_come_near_to_all_exchanges(monkeypatch):
    truth, a, b, who = study(np.random.default_rng(3), 12, 20, gain=0.04)
    exact = compare(truth, a, b, LABELS, who)
    monkeypatch.setattr("subtone.evaluation.comparison.EXACT_UNITS", 0)
    sampled = compare(truth, a, b, LABELS, who)
    assert exact.p_exact
    assert not sampled.p_exact
    assert sampled.p == pytest.approx(exact.p, abs=0.02)


def test_random_p_is_never_zero():
    truth = np.tile(np.arange(4), 100)
    found = compare(truth, (truth + 1) % 4, truth, LABELS, np.repeat(np.arange(40), 10), permutations=99)
    assert found.p == 0.01


def test_the_same_answers_give_no_difference():
    truth, a, _, who = study(np.random.default_rng(4), 10, 20)
    found = compare(truth, a, a, LABELS, who, names=("A", "B"))
    assert (found.difference, found.ci, found.p) == (0.0, (0.0, 0.0), 1.0)
    expected = (
        "no evidence of a difference between A and B: 0.0 points UA (95 % interval 0.0 to 0.0, p = 1.00)"
    )
    assert found.sentence() == expected


def test_pairing_makes_the_interval_narrower_than_two_apart():
    rng = np.random.default_rng(5)
    truth, a, _, who = study(rng, 20, 40)
    b = np.where(rng.random(len(truth)) < 0.03, truth, a)  # nearly the same answers
    paired = compare(truth, a, b, LABELS, who).ci
    apart = evaluate(truth, a, LABELS, who).ua_ci
    assert paired[1] - paired[0] < 0.5 * (apart[1] - apart[0])


def test_systems_may_have_different_numbers_of_seeds():
    rng = np.random.default_rng(6)
    truth, a, b, who = study(rng, 10, 20)
    found = compare(truth, np.stack([a, b, a]), np.stack([b, b]), LABELS, who)
    values = [evaluate(truth, answer, LABELS, who).ua for answer in (a, b)]
    assert found.difference == pytest.approx(values[1] - (2 * values[0] + values[1]) / 3)


def test_without_speakers_clips_are_exchanged_and_the_result_says_so():
    truth, a, b, _ = study(np.random.default_rng(7), 10, 20)
    found = compare(truth, a, b, LABELS)
    assert (found.unit, found.units) == ("clip", 200)
    assert 0.0 < found.p <= 1.0


def test_the_worse_system_is_named_as_such():
    truth, a, b, who = study(np.random.default_rng(8), 20, 40, gain=0.2)
    said = compare(truth, b, a, LABELS, who, names=("new", "old")).sentence()
    assert said.startswith("new beats old by ")
    assert "interval −" not in said


def test_comparison_survives_json():
    truth, a, b, who = study(np.random.default_rng(9), 8, 12)
    found = compare(truth, a, b, LABELS, who)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"a", "b", "metric", "difference", "ci", "p", "sentence"} <= set(record)
    assert Comparison.from_dict(record) == found


def test_a_comparison_written_before_there_was_a_correction_is_read():
    truth, a, b, who = study(np.random.default_rng(9), 8, 12)
    found = compare(truth, a, b, LABELS, who)
    record = found.to_dict()
    del record["p_corrected"], record["tests"]
    assert Comparison.from_dict(record) == found
    together = corrected([found, found])
    assert [Comparison.from_dict(json.loads(json.dumps(one.to_dict()))) for one in together] == together


def test_the_tests_of_a_metric_are_corrected_for_their_number_and_verdicts_rest_on_that():
    truth, a, b, who = study(np.random.default_rng(0), 10, 40, gain=0.05)
    ps = {"ua": [0.04, 0.01, 0.03], "wa": [0.02]}
    found = [
        replace(compare(truth, a, b, LABELS, who, metric=metric), p=p, ci=(0.01, 0.1))
        for metric, each in ps.items()
        for p in each
    ]
    mixed = [found[3], *found[:3]]
    fixed = corrected(mixed)
    assert [one.p_corrected for one in fixed] == [0.02, *holm(ps["ua"])]
    assert [one.tests for one in fixed] == [1, 3, 3, 3]
    assert [one.significant for one in mixed] == [True] * 4
    assert [one.significant for one in fixed] == [True, False, True, False]
    assert [one.p for one in fixed] == [one.p for one in mixed]
    assert corrected(fixed) == fixed
    assert "p = 0.01, corrected for 3 tests p = 0.03)" in fixed[2].sentence()
    assert fixed[1].sentence().startswith("no evidence of a difference")
    assert "corrected" not in fixed[0].sentence()
    assert corrected([]) == []


def test_intervals_of_a_difference_hold_zero_when_only_seeds_differ():
    """Equal systems of three seeds that scatter by 5 points: as drawn, seeds gave such intervals in too few studies."""
    rng = np.random.default_rng(10)
    held = {True: 0, False: 0}
    for number in range(250):
        truth = np.tile(np.arange(4), 120)
        level = 0.7 + 0.05 * rng.standard_normal((6, 1))
        answers = np.where(rng.random((6, len(truth))) < level, truth, (truth + 1) % 4)
        who = np.repeat(np.arange(24), 20)
        low, high = compare(
            truth, answers[:3], answers[3:], LABELS, who, seed=number, resamples=200, permutations=1
        ).ci
        middle, shrink = answers_difference(truth, answers), np.sqrt(2 / 3)
        held[True] += low <= 0 <= high
        held[False] += middle + shrink * (low - middle) <= 0 <= middle + shrink * (high - middle)
    assert 0.87 <= held[True] / 250 <= 0.97
    assert held[False] < held[True] - 5


def answers_difference(truth, answers) -> float:
    """Mean UA of the later half of the seeds less that of the earlier."""
    each = [balanced_accuracy_score(truth, answer) for answer in answers]
    return float(np.mean(each[len(each) // 2 :]) - np.mean(each[: len(each) // 2]))


def two_corpora(rng, few, many):
    """Truth, answers, speakers and corpora; classes of each corpus are its own, as in a test over both."""
    parts = [study(rng, few, 40, gain=0.3), study(rng, many, 40)]
    truth, a, b, who = (
        np.concatenate([first, second + shift]) for (first, second), shift in zip(zip(*parts), (4, 4, 4, few))
    )
    return truth, a, b, who, ["small"] * 40 * few + ["large"] * 40 * many


def test_strata_are_drawn_by_themselves_so_that_a_small_corpus_is_in_every_resample():
    rng = np.random.default_rng(11)
    truth, a, b, who, corpora = two_corpora(rng, 2, 14)
    labels = [f"{corpus} {label}" for corpus in ("small", "large") for label in LABELS]
    found = compare(truth, a, b, labels, who, strata=corpora, resamples=4000)
    gained = []
    for _ in range(1500):
        rows = [
            np.flatnonzero(who == speaker)
            for corpus in (np.arange(2), np.arange(2, 16))
            for speaker in rng.choice(corpus, len(corpus))
        ]
        at = np.concatenate(rows)
        gained.append(balanced_accuracy_score(truth[at], b[at]) - balanced_accuracy_score(truth[at], a[at]))
    assert found.ci == pytest.approx(tuple(np.percentile(gained, [2.5, 97.5])), abs=0.01)
    together = compare(truth, a, b, labels, who, resamples=4000)
    assert together.ci[1] - together.ci[0] > 1.3 * (found.ci[1] - found.ci[0]), (
        "resamples without the small one"
    )
    assert (found.difference, found.units) == (pytest.approx(together.difference), together.units)
    assert found.p == pytest.approx(together.p, abs=0.02)
    turned = compare(truth, a, b, labels, who, strata=[f"the {name}" for name in corpora], resamples=4000)
    assert turned == found


def test_speakers_who_are_alike_are_told_apart_by_their_stratum():
    truth, right, wrong = [0, 1] * 6, [0, 1] * 6, [1, 0] * 6
    answers = right[:4] + wrong[4:8] + right[8:]
    who = [
        number // 2 for number in range(12)
    ]  # alike in both strata: right, right, wrong; wrong, right, right
    for strata, fixed in ((["x"] * 12, False), ([*"xxxx", *"yyyy", *"xxxx"], True)):
        low, high = compare(truth, wrong, answers, ["a", "b"], who, strata=strata).ci
        assert (low == high == pytest.approx(4 / 6)) is fixed


def test_one_stratum_is_none():
    truth, a, b, who = study(np.random.default_rng(12), 20, 40, gain=0.1)
    assert compare(truth, a, b, LABELS, who, strata=["all"] * len(who)) == compare(truth, a, b, LABELS, who)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match=r"a speaker belongs to several strata \(x, y\)"):
        compare([0, 1, 0], [0, 1, 0], [0, 1, 0], LABELS, ["s", "s", "t"], strata=["x", "y", "y"])
    with pytest.raises(UsageError, match="2 strata for 3 clips"):
        compare([0, 1, 0], [0, 1, 0], [0, 1, 0], LABELS, strata=["x", "y"])
    with pytest.raises(UsageError, match="has no stratum"):
        compare([0, 1, 0], [0, 1, 0], [0, 1, 0], LABELS, strata=["x", None, "y"])
    with pytest.raises(UsageError, match="metric 'f1'"):
        compare([0, 1], [0, 1], [0, 1], LABELS, metric="f1")
    with pytest.raises(UsageError, match="old: shape"):
        compare([0, 1], [0], [0, 1], LABELS, names=("old", "new"))
    with pytest.raises(UsageError, match="permutations"):
        compare([0, 1], [0, 1], [0, 1], LABELS, permutations=0)
