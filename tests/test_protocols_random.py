"""Random folds of clips: everything tested once, classes even, recordings whole, and marked wherever they show."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from subtone.errors import LeakError, ProtocolError
from subtone.evaluation import evaluate, write_results
from subtone.protocols import Protocol, Split, build
from subtone.protocols.development import dev_random, dev_recordings
from subtone.protocols.folds import random_k_fold
from subtone.recipes.pretrained import Downstream
from subtone.training.card import write_card

MARK = "SPEAKER-DEPENDENT: test speakers are heard in training"


def corpus(speakers: int = 4, takes: int = 5, *, root: str = "/data") -> pd.DataFrame:
    """Every speaker says every emotion; each clip is a file of its own."""
    rows = [
        (f"{root}/s{speaker}_{emotion}_{take}.wav", f"s{speaker}", emotion)
        for speaker in range(speakers)
        for emotion in ("anger", "neutral", "sadness")
        for take in range(takes)
    ]
    table = pd.DataFrame(rows, columns=["file", "speaker", "emotion"]).set_index("file")
    return table.assign(corpus="toy", session=table["speaker"])


def dialogues(count: int = 12, turns: int = 4) -> pd.DataFrame:
    """Files that hold several clips each."""
    index = pd.MultiIndex.from_tuples(
        [
            (f"/data/d{number}.wav", pd.Timedelta(turn, "s"), pd.Timedelta(turn + 1, "s"))
            for number in range(count)
            for turn in range(turns)
        ],
        names=["file", "start", "end"],
    )
    emotions = [("anger", "sadness")[n % 3 == 0] for n in range(count * turns)]
    return pd.DataFrame({"corpus": "toy", "emotion": emotions}, index=index)


def content(split: Split) -> list[tuple[str, str, tuple[str, ...]]]:
    """Folds as names of clips, comparable over row orders and folders."""
    names = [f"{file.rsplit('/', 1)[1]}|{start}" for file, start, _ in split.table.index]
    return [
        (fold.name, side, tuple(sorted(names[row] for row in getattr(fold, side))))
        for fold in split.folds
        for side in ("train", "dev", "test")
    ]


LABELS = st.lists(st.integers(0, 3), min_size=2, max_size=60)


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, k=st.integers(2, 12), seed=st.integers(0, 9))
def test_clips_are_tested_once_in_folds_of_even_size_and_even_classes(labels, k, seed):
    assume(k <= len(labels))
    codes = np.array(labels)
    folds = random_k_fold(codes, np.arange(len(codes)), k, seed)
    assert [name for name, _ in folds] == [f"fold_{n + 1}" for n in range(k)]
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(codes)))
    assert np.ptp([len(test) for _, test in folds]) <= 1
    for label in set(labels):
        assert np.ptp([(codes[test] == label).sum() for _, test in folds]) <= 1


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=2, max_size=50),
    k=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_no_recording_is_cut_across_folds_and_no_fold_is_empty(rows, k, seed):
    order, labels = (np.array(column) for column in zip(*rows))
    assume(k <= len(set(order.tolist())))
    folds = random_k_fold(labels, order, k, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(rows)))
    heard = [set(order[test].tolist()) for _, test in folds]
    assert all(heard)
    assert sum(map(len, heard)) == len(set(order.tolist()))


@settings(max_examples=25, deadline=None)
@given(
    dev=st.sampled_from(["speakers", "random", "none"]),
    k=st.integers(2, 8),
    seed=st.integers(0, 5),
    shuffle=st.integers(0, 100),
)
def test_folds_depend_on_the_seed_alone_not_on_the_order_of_rows_nor_on_the_folder(dev, k, seed, shuffle):
    options = {"k": k, "dev": dev, "seed": seed}
    split = build(corpus(), "random-k-fold", **options)
    moved = corpus(root="/elsewhere").sample(frac=1, random_state=shuffle)
    again = build(moved, "random-k", **options)
    assert content(split) == content(again)
    assert split.protocol == again.protocol
    assert content(split) != content(build(corpus(), "random-k", **{**options, "seed": seed + 1}))
    for fold in split.folds:
        together = np.concatenate([fold.train, fold.dev, fold.test])
        assert sorted(together) == list(range(len(split.table)))
        assert (len(fold.dev) == 0) == (dev == "none")


@pytest.mark.parametrize("dev", ["random", "none"])
def test_recordings_of_several_clips_are_on_one_side_and_speakers_need_not_be_known(dev):
    split = build(dialogues(), "random-k-fold", k=3, dev=dev)
    files = split.table.index.get_level_values("file").to_numpy()
    for fold in split.folds:
        sides = [set(files[rows]) for rows in (fold.train, fold.dev, fold.test)]
        assert sum(map(len, sides)) == 12
        assert len(sides[2]) == 4
    shuffled = build(dialogues().sample(frac=1, random_state=1), "random-k-fold", k=3, dev=dev)
    assert content(split) == content(shuffled)
    assert "speakers unknown" in split.protocol.describe()


def test_random_development_clips_are_a_share_of_each_class_of_the_training_clips():
    split = build(corpus(takes=10), "random-k-fold", k=4, dev="random", dev_share=0.2)
    emotions = split.table["emotion"].to_numpy()
    for fold in split.folds:
        assert np.unique(emotions[fold.dev], return_counts=True)[1].tolist() == [6, 6, 6]


@settings(max_examples=50, deadline=None)
@given(labels=LABELS, share=st.floats(0.05, 0.95))
def test_whole_recordings_of_one_clip_are_held_back_in_the_numbers_of_single_clips(labels, share):
    codes = np.array(labels)
    assume(np.bincount(codes).max() > 1)
    given_ = {"share": share, "fold": "fold_1", "seed": 0}
    whole = dev_recordings(codes, np.arange(len(codes)), **given_)
    single = dev_random(codes, np.arange(len(codes)), **given_)
    assert np.bincount(codes[whole]).tolist() == np.bincount(codes[single]).tolist()


def test_the_line_marks_it_once_and_the_shared_speakers_are_not_listed_as_unchecked():
    protocol = build(corpus(), "random-k-fold", k=10, dev="random").protocol
    assert protocol.describe() == (
        "toy · 3 classes (anger, neutral, sadness) · "
        f"10 folds of clips at random, stratified, seed 0 — {MARK} · "
        "dev: 20 % of training clips at random (speaker-dependent) · 60 clips, 4 speakers · "
        f"leaks not checked: audio · sha256 {protocol.checksum[:8]}"
    )
    assert protocol.leaks == ()  # no file is there, so audio was not compared


def test_audio_is_compared_still():
    twins = {file: file for file in corpus().index}
    assert build(corpus(), "random-k-fold", k=2, dev="none", digests=twins).protocol.leaks == ("audio",)
    split = build(corpus(), "random-k-fold", k=2, dev="none", leaks=())
    first, second = (split.table.index.get_level_values("file")[fold.test[0]] for fold in split.folds)
    with pytest.raises(LeakError, match="identical audio"):
        build(corpus(), "random-k-fold", k=2, dev="none", digests={**twins, first: second})


def test_records_say_it_and_are_read_with_or_without_it():
    for folds, dependent in (("random-k-fold", True), ("group-k-fold", False)):
        protocol = build(corpus(), folds, k=3).protocol
        record = json.loads(json.dumps(protocol.to_dict()))
        assert record["speaker_dependent"] is protocol.speaker_dependent is dependent
        assert Protocol.from_dict(record) == protocol
        del record["speaker_dependent"]
        assert Protocol.from_dict(record) == protocol


@pytest.mark.parametrize(
    ("folds", "several", "marked"),
    [
        ("random-k-fold", False, True),
        ("random-k-fold", True, True),
        ("group-k-fold", False, False),
        ("group-k-fold", True, False),
    ],
)
def test_the_page_of_results_warns(folds, several, marked, tmp_path):
    split = build(corpus(), folds, k=3)
    truth = split.table["emotion"].to_numpy()
    scored = evaluate(truth, truth, split.protocol.classes, split.table["speaker"].to_numpy(), resamples=100)
    record = split.protocol.to_dict()
    if several:
        record = {"description": record["description"], "corpora": {"toy": record}}
    page = (
        write_results(tmp_path / "out", protocol=record, systems={"one": scored}) / "README.md"
    ).read_text()
    warnings = [line for line in page.splitlines() if line.startswith("> **Speaker-dependent split**")]
    assert len(warnings) == int(marked)
    assert all("not comparable with speaker-disjoint ones" in line for line in warnings)
    assert (MARK in page) is marked


def test_pre_training_for_a_fold_leaves_its_test_clips_out_since_it_cannot_leave_out_their_speakers():
    split = build(corpus(), "random-k-fold", k=3)
    files = split.table.index.get_level_values("file")
    one = Downstream("toy", "", split.table, split)
    assert one.files_of_test(1) == set(files[split.folds[1].test])


def test_a_card_does_not_speak_of_new_speakers():
    for folds, heading in (("random-k-fold", "clips"), ("group-k-fold", "speakers")):
        split = build(corpus(), folds, k=3)
        truth = split.table["emotion"].to_numpy()
        scored = evaluate(
            truth, truth, split.protocol.classes, split.table["speaker"].to_numpy(), resamples=100
        )
        card = write_card("Model", protocol=split.protocol, evaluation=scored, calibration_error=0.0)
        assert f"reached on {heading} that it had not heard" in card


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        (corpus(), {"k": 1}, "random-k-fold: k = 1; it must be 2 or more"),
        (corpus(), {"k": 61}, "has 60 recordings; take k <= 60"),
        (dialogues(), {"k": 13, "dev": "none"}, "has 12 recordings; take k <= 12"),
        (corpus(), {"dev": "session"}, "dev='session' goes by the tested session"),
        (corpus(), {"dev": "other speaker of the session"}, "take dev='random'"),
        (corpus().drop(columns="speaker"), {}, "rows have no speaker .* dev='random' or dev='none'"),
        (dialogues(4), {"k": 2, "dev": "random", "dev_share": 0.1}, "none of the 2 training recordings"),
        (corpus(), {"lists": {"s0_anger_0": "test"}}, "lists= goes with"),
    ],
)
def test_what_random_folds_cannot_do_is_said_with_the_way_out(table, options, says):
    with pytest.raises(ProtocolError, match=says):
        build(table, "random-k-fold", **options)
