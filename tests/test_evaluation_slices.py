"""Figures by group and by speaker are those of the groups and speakers by themselves."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from subtone.errors import UsageError
from subtone.evaluation import evaluate
from subtone.evaluation.bootstrap import resample_within, units_of
from subtone.evaluation.gap_words import gap_sentences
from subtone.evaluation.slices import Slices, groups, slices_of

LABELS = ["anger", "happiness", "neutral", "sadness"]


def study(rng: np.random.Generator, speakers: int = 12, clips: int = 20, gain: float = 0.0, seeds: int = 1):
    """Truth, answers, speakers, and a table in which every other speaker is a woman, better by ``gain``."""
    who = np.repeat(np.arange(speakers), clips)
    truth = np.tile(np.arange(4), len(who) // 4)
    ability = 0.6 + 0.05 * rng.standard_normal(speakers) + gain * (np.arange(speakers) % 2 == 0)
    right = rng.random((seeds, len(who))) < ability[who]
    answers = np.where(right, truth, (truth + rng.integers(1, 4, right.shape)) % 4)
    table = pd.DataFrame({"gender": np.where(who % 2 == 0, "female", "male")})
    return truth, answers, who, table


def test_a_slices_figures_are_those_of_its_clips_alone():
    truth, answers, who, table = study(np.random.default_rng(0), seeds=3)
    (cut,) = slices_of(truth, answers, LABELS, table, who).cuts
    assert [one.name for one in cut.slices] == ["female", "male"]
    for one in cut.slices:
        rows = (table["gender"] == one.name).to_numpy()
        each = [
            (balanced_accuracy_score(truth[rows], a[rows]), accuracy_score(truth[rows], a[rows]))
            for a in answers
        ]
        assert (one.ua, one.wa) == pytest.approx(tuple(np.mean(each, axis=0)))
        assert (one.n, one.speakers, one.classes, one.few) == (120, 6, 4, False)


def test_a_slices_interval_is_that_of_evaluating_its_clips_alone():
    truth, answers, who, table = study(np.random.default_rng(1), speakers=30, clips=40, seeds=3)
    (cut,) = slices_of(truth, answers, LABELS, table, who, resamples=20_000).cuts
    for one in cut.slices:
        rows = (table["gender"] == one.name).to_numpy()
        alone = evaluate(truth[rows], answers[:, rows], LABELS, who[rows], resamples=20_000, seed=3)
        assert one.ua_ci == pytest.approx(alone.ua_ci, abs=0.003)
        assert one.wa_ci == pytest.approx(alone.wa_ci, abs=0.003)


def test_strata_keep_their_number_of_speakers_in_every_resample():
    truth, answers, who, _ = study(np.random.default_rng(2), speakers=9, clips=4)
    units = units_of(truth, answers, 4, who)
    strata = np.arange(len(units.copies)) % 2
    inside = [int(units.copies[strata == s].sum()) for s in (0, 1)]
    marked = units.support.copy()
    marked[:, 0], marked[:, 1:] = np.where(strata == 0, 1.0, 1000.0), 0.0
    copy = type(units)(units.hits, marked, units.copies, units.unit)
    _, support = resample_within(copy, strata, 50, np.random.default_rng(0))
    assert (support[:, 0] == inside[0] + 1000 * inside[1]).all()


def test_the_gap_is_between_best_and_worst_and_its_p_is_that_of_dealing_the_groups_anew():
    truth, answers, who, table = study(np.random.default_rng(3), speakers=8, clips=12, gain=0.15)
    (cut,) = slices_of(truth, answers, LABELS, table, who).cuts
    by_name = {one.name: one.ua for one in cut.slices}
    gap = cut.gap
    assert gap is not None
    assert gap.ua == pytest.approx(by_name[gap.best] - by_name[gap.worst])
    assert gap.ci[0] < gap.ua < gap.ci[1]
    as_far, deals = 0, list(itertools.combinations(range(8), 4))
    for women in deals:
        first = np.isin(who, women)
        pair = [balanced_accuracy_score(truth[rows], answers[0][rows]) for rows in (first, ~first)]
        as_far += abs(pair[0] - pair[1]) >= gap.ua - 1e-9
    assert gap.p == pytest.approx(as_far / len(deals), abs=0.03)


def test_groups_that_do_not_differ_are_told_apart_in_five_percent_of_studies_at_most():
    rng = np.random.default_rng(4)
    p, held = [], 0
    for number in range(200):
        truth, answers, who, _ = study(rng, speakers=18, clips=20)
        table = pd.DataFrame({"corpus": np.array(["a", "b", "c"])[who % 3]})
        (cut,) = slices_of(truth, answers, LABELS, table, who, seed=number, resamples=200).cuts
        p.append(cut.gap.p)
        held += cut.gap.ci[0] > 0
    assert np.mean(np.array(p) < 0.05) <= 0.09
    assert held / 200 > 0.05, "the interval of a pair chosen for being far apart leaves zero out too often"


def test_a_slice_of_too_few_speakers_is_given_and_marked_and_no_gap_is_taken_to_it():
    truth, answers, who, _ = study(np.random.default_rng(5), speakers=9, clips=8)
    corpus = np.array(["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["d"])[who]
    answers[:, corpus == "d"] = truth[corpus == "d"]
    (cut,) = slices_of(truth, answers, LABELS, pd.DataFrame({"corpus": corpus}), who).cuts
    assert [(one.name, one.speakers, one.few) for one in cut.slices] == [
        ("a", 3, False), ("b", 3, False), ("c", 2, True), ("d", 1, True),
    ]  # fmt: skip
    assert cut.slices[3].ua == 1.0
    assert cut.slices[3].ua_ci is None
    assert cut.slices[2].ua_ci is not None
    assert {cut.gap.best, cut.gap.worst} == {"a", "b"}
    (alone,) = slices_of(
        truth, answers, LABELS, pd.DataFrame({"corpus": np.where(corpus == "d", "d", "a")}), who
    ).cuts
    assert alone.gap is None


def test_a_speaker_of_two_languages_is_drawn_for_both_at_once():
    rng = np.random.default_rng(6)
    truth, answers, who, _ = study(rng, speakers=20, clips=40)
    able = rng.random(20) < 0.5  # speakers differ wildly, languages do not
    answers = np.where(able[who] & (rng.random(len(who)) < 0.9), truth, answers[0])
    table = pd.DataFrame({"language": np.where(np.arange(len(who)) // 4 % 2 == 0, "en", "de")})
    (cut,) = slices_of(truth, answers, LABELS, table, who).cuts
    assert [one.speakers for one in cut.slices] == [20, 20]
    one = cut.slices[0].ua_ci
    assert cut.gap.ci[1] - cut.gap.ci[0] < 0.8 * (one[1] - one[0]), "what speakers differ in cancels out"
    assert cut.gap.p is None


def test_only_what_the_table_knows_and_differs_in_is_cut():
    truth, answers, who, table = study(np.random.default_rng(7), speakers=6, clips=8)
    table["gender"] = table["gender"].astype("string").where(who != 5, pd.NA)
    table["language"] = "ko"
    table["age"] = pd.array([pd.NA] * len(who), "Float64")
    (cut,) = slices_of(truth, answers, LABELS, table, who).cuts
    assert (cut.by, cut.unknown) == ("gender", 8)
    assert [one.speakers for one in cut.slices] == [3, 2]
    assert slices_of(truth, answers, LABELS, table[[]], who).cuts == ()
    bilingual = np.where(who > 0, None, np.where(np.arange(len(who)) % 2 == 0, "en", "de"))
    assert slices_of(truth, answers, LABELS, pd.DataFrame({"language": bilingual}), who).cuts == ()


def test_ages_fall_into_groups_by_their_years_and_stand_in_their_order():
    table = pd.DataFrame({"age": pd.array([71, 29.9, 30, pd.NA, 49.9, 50], "Float64")})
    assert groups(table, "age").tolist() == [
        "50 and over", "under 30", "30–49", None, "30–49", "50 and over",
    ]  # fmt: skip
    truth = [0, 1, 0, 1, 0, 1]
    (cut,) = slices_of(truth, truth, LABELS, table, list("abcdef")).cuts
    assert [one.name for one in cut.slices] == ["under 30", "30–49", "50 and over"]
    assert cut.unknown == 1


def test_spread_is_that_of_each_speaker_alone():
    rng = np.random.default_rng(8)
    truth, answers, who, table = study(rng, speakers=23, clips=12, seeds=2)
    who[-5:] = 99  # a speaker of five clips
    spread = slices_of(truth, answers, LABELS, table, who).spread
    each = sorted(
        np.mean([balanced_accuracy_score(truth[who == s], a[who == s]) for a in answers])
        for s in np.unique(who)
    )
    assert (spread.speakers, spread.fewest_clips, spread.worst_decile_speakers) == (24, 5, 2)
    assert (spread.minimum, spread.maximum) == pytest.approx((each[0], each[-1]))
    assert (spread.tenth, spread.median) == pytest.approx(tuple(np.percentile(each, [10, 50])))
    assert spread.worst_decile == pytest.approx(np.mean(each[:2]))
    assert spread.worst_decile_ci[0] <= spread.worst_decile <= spread.worst_decile_ci[1]


def test_interval_of_the_worst_tenth_equals_the_slow_one():
    truth, answers, who, table = study(np.random.default_rng(9), speakers=20, clips=40)
    spread = slices_of(truth, answers, LABELS, table, who).spread
    each = np.array([balanced_accuracy_score(truth[who == s], answers[0][who == s]) for s in range(20)])
    rng = np.random.default_rng(5)
    worst = [np.mean(sorted(each[rng.integers(20, size=20)])[:2]) for _ in range(4000)]
    assert spread.worst_decile_ci == pytest.approx(np.percentile(worst, [2.5, 97.5]), abs=0.01)


def test_without_speakers_clips_are_resampled_and_the_result_says_so():
    truth, answers, who, table = study(np.random.default_rng(10))
    for speakers in (None, [None, *who[1:]]):
        found = slices_of(truth, answers, LABELS, table, speakers)
        assert (found.unit, found.spread) == ("clip", None)
        assert [one.speakers for one in found.cuts[0].slices] == [None, None]
        assert found.cuts[0].gap.p is None


def test_slices_survive_json():
    truth, answers, who, table = study(np.random.default_rng(11), speakers=5, clips=8)
    table["corpus"] = np.where(who == 4, "b", "a")
    found = slices_of(truth, answers, LABELS, table, who)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record == found.to_dict()
    assert Slices.from_dict(record) == found
    bare = slices_of(truth, answers, LABELS, table[[]])
    assert Slices.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare


def test_what_does_not_fit_is_refused():
    truth, answers, who, table = study(np.random.default_rng(12))
    with pytest.raises(UsageError, match="a table of 3 rows for 240 clips"):
        slices_of(truth, answers, LABELS, table[:3], who)
    with pytest.raises(UsageError, match="no slices by 'genders'; did you mean 'gender'"):
        slices_of(truth, answers, LABELS, table, who, by=["genders"])
    with pytest.raises(UsageError, match="resamples"):
        slices_of(truth, answers, LABELS, table, who, resamples=0)


def other_classes(who, truth):
    """The same table by corpus, where one corpus lacks a class, and by gender, where both have all."""
    corpus = np.where(who < 6, "a", "b")
    kept = ~((corpus == "b") & (truth == 3))
    return kept, pd.DataFrame({"corpus": corpus, "gender": np.where(who % 2 == 0, "female", "male")})


def test_no_gap_is_given_between_groups_of_different_classes_and_that_is_said():
    truth, answers, who, _ = study(np.random.default_rng(20), speakers=12, clips=20)
    kept, table = other_classes(who, truth)
    found = slices_of(truth[kept], answers[:, kept], LABELS, table[kept], who[kept])
    gaps = {cut.by: (cut.gap is None, cut.no_gap) for cut in found.cuts}
    assert gaps == {"corpus": (True, "classes differ"), "gender": (False, None)}
    assert "By corpus, no gap is given, for its groups hold different emotions" in " ".join(
        gap_sentences(found)
    )
    # As many classes, but others.
    swapped = kept & ~((table["corpus"] == "a").to_numpy() & (truth == 0))
    same_number = slices_of(truth[swapped], answers[:, swapped], LABELS, table[swapped], who[swapped])
    corpus = next(cut for cut in same_number.cuts if cut.by == "corpus")
    assert [one.classes for one in corpus.slices] == [3, 3]
    assert (corpus.gap, corpus.no_gap) == (None, "classes differ")
    few = slices_of(truth, answers, LABELS, pd.DataFrame({"corpus": np.where(who < 11, "a", "b")}), who)
    assert few.cuts[0].no_gap == "few speakers"
    assert Slices.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_gap_that_an_older_result_took_between_different_classes_is_not_read():
    truth, answers, who, table = study(np.random.default_rng(21), speakers=8, clips=12)
    record = json.loads(json.dumps(slices_of(truth, answers, LABELS, table, who).to_dict()))
    del record["cuts"][0]["no_gap"]
    assert Slices.from_dict(record).cuts[0].gap is not None
    record["cuts"][0]["slices"][0]["classes"] = 3
    assert Slices.from_dict(record).cuts[0].no_gap == "classes differ"
    assert Slices.from_dict(record).cuts[0].gap is None


def test_who_is_ahead_is_said_only_where_a_test_corrected_for_all_attributes_bears_it_out():
    truth, answers, who, table = study(np.random.default_rng(22), speakers=12, clips=20, gain=0.2)
    table["corpus"] = np.where(who < 6, "a", "b")
    found = slices_of(truth, answers, LABELS, table, who)
    gender, corpus = found.cuts

    def told(p: float | None, other: float | None) -> str:
        cuts = [
            replace(cut, gap=replace(cut.gap, p=one, ci=(0.1, 0.3)))
            for cut, one in ((gender, p), (corpus, other))
        ]
        return gap_sentences(replace(found, cuts=tuple(cuts)))[0]

    assert "By gender, female is ahead of male by" in told(0.02, 0.5)
    assert (
        "p = 0.020 with groups given out among speakers at random, 0.040 after Holm's correction over 2"
        in told(0.02, 0.5)
    )
    assert "There is no evidence of a difference by gender" in told(0.03, 0.5)  # 0.06 corrected
    assert "By gender, female is ahead" in told(0.03, None)  # the only test
    assert "Holm" not in told(0.03, None)
    untested = told(None, 0.5)
    assert "ahead" not in untested
    assert "no test was made, for speakers belong to several groups" in untested
    unknown = slices_of(truth, answers, LABELS, table)
    assert all("for speakers are unknown" in one and "ahead" not in one for one in gap_sentences(unknown))
