"""Protocols: every clip tested as promised, nobody on two sides, the same folds for everybody."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.errors import ProtocolError
from subtone.protocols import Protocol, Split, build, speaker_ids
from subtone.protocols.labels import merge_pairs

KINDS = ("speaker", "session", "group-k-fold")


def corpus(
    speakers: int = 10,
    emotions: tuple[str, ...] = ("anger", "neutral", "sadness"),
    takes: int = 3,
    *,
    name: str = "toy",
    root: str = "/data/toy",
    suffix: str = ".wav",
) -> pd.DataFrame:
    """A table in which every speaker says every emotion; two speakers a session."""
    rows = []
    for speaker in range(speakers):
        for emotion in emotions:
            for take in range(takes):
                rows.append(
                    (f"{root}/s{speaker}/s{speaker}_{emotion}_{take}{suffix}", speaker, emotion, take)
                )
    index = pd.MultiIndex.from_arrays(
        [
            pd.array([row[0] for row in rows], dtype="string"),
            pd.to_timedelta([0] * len(rows), unit="s"),
            pd.to_timedelta([None] * len(rows)),
        ],
        names=["file", "start", "end"],
    )
    columns = {
        "corpus": [name] * len(rows),
        "emotion": [row[2] for row in rows],
        "speaker": [f"{row[1]}" for row in rows],
        "session": [f"Ses{row[1] // 2}" for row in rows],
        "sentence": [f"t{row[3]}" for row in rows],
    }
    return pd.DataFrame({key: pd.array(value, dtype="string") for key, value in columns.items()}, index=index)


def people(split: Split, rows: np.ndarray) -> set[str]:
    return set(split.table["speaker"].iloc[rows])


def content(split: Split) -> list[tuple[str, str, tuple[str, ...]]]:
    """Folds as names of files, comparable over row orders and folders."""
    stems = [file.rsplit("/", 1)[1].split(".")[0] for file in split.table.index.get_level_values("file")]
    return [
        (fold.name, side, tuple(sorted(stems[row] for row in getattr(fold, side))))
        for fold in split.folds
        for side in ("train", "dev", "test")
    ]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dev=st.sampled_from(["speakers", "random", "session", "none"]),
    speakers=st.integers(6, 13),
    seed=st.integers(0, 5),
    drop=st.integers(0, 3),
)
def test_folds_partition_the_clips_and_keep_speakers_apart(kind, dev, speakers, seed, drop):
    table = corpus(speakers).iloc[drop:]
    split = build(table, kind, k=4, dev=dev, seed=seed)
    tested = np.concatenate([fold.test for fold in split.folds])
    assert sorted(tested) == list(range(len(table)))
    for fold in split.folds:
        together = np.concatenate([fold.train, fold.dev, fold.test])
        assert sorted(together) == list(range(len(table)))
        assert not people(split, fold.test) & people(split, np.concatenate([fold.train, fold.dev]))
        if dev != "random":
            assert not people(split, fold.train) & people(split, fold.dev)
        assert (len(fold.dev) == 0) == (dev == "none")
        assert fold.train.dtype == fold.dev.dtype == fold.test.dtype == np.int64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dev", ["speakers", "random"])
def test_folds_and_checksum_depend_neither_on_row_order_nor_on_folder_nor_on_extension(kind, dev):
    table = corpus()
    shuffled = corpus(root="/elsewhere/deep/copy", suffix=".opus").sample(frac=1, random_state=3)
    first, second = build(table, kind, k=4, dev=dev), build(shuffled, kind, k=4, dev=dev)
    assert content(first) == content(second)
    assert first.protocol == second.protocol
    assert first.protocol.describe() == second.protocol.describe()


def test_checksum_changes_with_a_label_a_speaker_a_time_or_a_missing_clip():
    table = corpus()
    found = {build(table).protocol.checksum}
    for column, value in (("emotion", "sadness"), ("speaker", "1")):
        changed = table.copy()
        changed.iloc[0, changed.columns.get_loc(column)] = value
        found.add(build(changed).protocol.checksum)
    found.add(build(table.iloc[1:]).protocol.checksum)
    later = table.reset_index()
    later.loc[0, "start"] = pd.Timedelta("0.5s")
    found.add(build(later.set_index(["file", "start", "end"])).protocol.checksum)
    assert len(found) == 5


def test_checksum_tells_apart_clips_that_share_a_stem_in_two_folders():
    index = pd.Index([f"/c/{folder}/{n}.wav" for folder in "ab" for n in range(4)], name="file")
    emotions = ["anger", "anger", "sadness", "sadness", "sadness", "sadness", "anger", "anger"]
    table = pd.DataFrame({"emotion": emotions, "speaker": list("xyxyxyxy")}, index=index)
    swapped = table.assign(emotion=emotions[4:] + emotions[:4])
    sums = {build(each, dev="none").protocol.checksum for each in (table, swapped)}
    assert len(sums) == 2


def test_protocol_names_itself():
    table = corpus(emotions=("anger", "happiness", "excitement", "neutral", "fear"), name="iemocap")
    split = build(
        table,
        "session",
        classes=["anger", "happiness", "neutral"],
        merges={"excitement": "happiness"},
        leaks=["speaker"],
    )
    line = split.protocol.describe()
    assert line == (
        "iemocap · 3 classes (anger, happiness←happiness+excitement, neutral) · "
        "leave-one-session-out, 5 folds · dev: 20 % of training speakers · "
        "120 of 150 clips, 10 speakers · leaks not checked: audio · "
        f"sha256 {split.protocol.checksum[:8]}"
    )
    assert str(split.protocol) == line
    assert split.protocol.per_class == (30, 60, 30)
    assert set(split.table["emotion"]) == {"anger", "happiness", "neutral"}


@pytest.mark.parametrize("dev_speakers", [None, 2])
def test_protocol_survives_json(dev_speakers):
    table = corpus(emotions=("anger", "happiness", "excitement"))
    merges = {"happiness": ["excitement"]}
    protocol = build(table, "group-k-fold", k=3, merges=merges, dev_speakers=dev_speakers).protocol
    assert Protocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


def test_merges_read_the_same_both_ways():
    assert merge_pairs({"excitement": "happiness"}) == merge_pairs({"happiness": ["happiness", "excitement"]})
    with pytest.raises(ProtocolError, match="both"):
        merge_pairs({"happiness": ["excitement"], "surprise": ["excitement"]})
    with pytest.raises(ProtocolError, match="directly"):
        merge_pairs({"calm": "neutral", "neutral": "other"})


def test_k_folds_follow_the_seed_and_differ_between_seeds():
    table = corpus(12)
    assert content(build(table, "group-k-fold", k=4, seed=7)) == content(
        build(table, "group-k-fold", k=4, seed=7)
    )
    assert len({str(content(build(table, "group-k-fold", k=4, seed=seed))) for seed in range(6)}) > 1
    assert len({str(content(build(table, "speaker", seed=seed))) for seed in range(6)}) > 1


def test_k_folds_are_alike_in_size_and_classes_even_where_speakers_are_not():
    rng = np.random.default_rng(0)
    rows = []
    for speaker in range(30):
        for emotion, clips in zip(("anger", "neutral", "sadness"), rng.integers(1, 40, 3)):
            rows += [(f"{speaker}_{emotion}_{n}.wav", f"{speaker}", emotion) for n in range(clips)]
    table = pd.DataFrame(rows, columns=["file", "speaker", "emotion"]).set_index("file")
    split = build(table, "group-k-fold", k=5)
    sizes = np.array([len(fold.test) for fold in split.folds])
    assert sizes.max() / sizes.min() < 1.08
    emotions = split.table["emotion"].to_numpy()
    for emotion in split.protocol.classes:
        counts = np.array([(emotions[fold.test] == emotion).sum() for fold in split.folds])
        assert counts.max() / counts.min() < 1.25


def test_k_folds_are_never_empty_when_speakers_differ_in_classes():
    rows = [(f"a{n}.wav", "a", "anger") for n in range(5)] + [(f"b{n}.wav", "b", "sadness") for n in range(5)]
    rows += [(f"c{n}.wav", "c", ("anger", "sadness")[n % 2]) for n in range(4)]
    table = pd.DataFrame(rows, columns=["file", "speaker", "emotion"]).set_index("file")
    split = build(table, "group-k-fold", k=3, dev="none")
    assert [len(people(split, fold.test)) for fold in split.folds] == [1, 1, 1]


def test_development_speakers_cover_the_classes_where_they_can():
    table = corpus(10)
    keep = (table["emotion"] != "sadness") | table["speaker"].isin(["3", "7", "8"])
    split = build(table[keep], "speaker")
    emotions = split.table["emotion"].to_numpy()
    for fold in split.folds:
        assert set(emotions[fold.dev]) == set(emotions[fold.train]) == {"anger", "neutral", "sadness"}
        assert len(people(split, fold.dev)) == 2


def test_number_of_development_speakers_can_be_set():
    split = build(corpus(8), "speaker", dev_speakers=3)
    assert {len(people(split, fold.dev)) for fold in split.folds} == {3}
    assert "dev: 3 training speakers" in split.protocol.describe()


def test_random_development_is_a_share_of_each_class_and_says_that_it_is_speaker_dependent():
    split = build(corpus(takes=5), "session", dev="random")
    emotions = split.table["emotion"].to_numpy()
    for fold in split.folds:
        assert len(fold.dev) == 24
        assert np.unique(emotions[fold.dev], return_counts=True)[1].tolist() == [8, 8, 8]
    assert "speaker-dependent" in split.protocol.describe()


def test_partner_development_is_the_other_speaker_of_the_session():
    split = build(corpus(10), "speaker", dev="other speaker of the session")
    assert people(split, split.folds[4].dev) == {"5"}
    assert people(split, split.folds[4].test) == {"4"}
    assert "dev: other speaker of the session" in split.protocol.describe()
    with pytest.raises(ProtocolError, match="partner"):
        build(corpus(10), "session", dev="partner")


def test_session_development_is_one_whole_training_session():
    split = build(corpus(10), "session", dev="session")
    for number, fold in enumerate(split.folds):
        assert set(split.table["session"].iloc[fold.dev]) == {f"Ses{(number + 1) % 5}"}


def test_speakers_of_two_corpora_are_two_people():
    table = pd.concat([corpus(3, name="one", root="/one"), corpus(3, name="two", root="/two")])
    split = build(table, "speaker")
    assert [fold.name for fold in split.folds] == [f"{name}/{n}" for name in ("one", "two") for n in range(3)]
    assert split.protocol.corpus == "one+two"
    assert split.protocol.speakers == 6
    assert speaker_ids(table)[0] == "one/0"
    by_corpus = build(table, "corpus")
    assert [fold.name for fold in by_corpus.folds] == ["one", "two"]
    assert set(by_corpus.table["corpus"].iloc[by_corpus.folds[0].test]) == {"one"}


def test_folds_are_named_in_natural_order():
    assert [fold.name for fold in build(corpus(12)).folds] == [str(n) for n in range(12)]


def test_split_column_gives_fixed_folds_and_unmarked_rows_are_left_out():
    table = corpus(6)
    sides = {"0": "test", "1": "dev", "2": "train", "3": "train", "4": "train"}
    table["split"] = table["speaker"].map(sides).astype("string")
    split = build(table, "fixed")
    assert people(split, split.folds[0].test) == {"0"}
    assert people(split, split.folds[0].dev) == {"1"}
    assert split.protocol.clips == 45
    assert "fixed lists · dev: as listed · 45 of 54 clips" in split.protocol.describe()


def test_fixed_lists_can_be_a_mapping_from_clip_to_side():
    table = corpus(4)
    stems = [file.rsplit("/", 1)[1][:-4] for file in table.index.get_level_values("file")]
    sides = {stem: "test" if stem.startswith("s0") else "train" for stem in stems}
    split = build(table, "fixed", lists={**sides, "s9_anger_0": "train"}, dev_speakers=1)
    assert people(split, split.folds[0].test) == {"0"}
    assert split.protocol.clips_absent == 1
    assert "(1 listed clips absent)" in split.protocol.describe()


def test_lists_name_clips_by_folder_where_stems_repeat():
    index = pd.Index([f"/c/{folder}/{n}.wav" for folder in ("DC", "JE", "KL") for n in range(4)], name="file")
    table = pd.DataFrame(
        {"emotion": ["anger", "sadness"] * 6, "speaker": [folder for folder in "djk" for _ in range(4)]},
        index=index,
    )
    lists = {f"DC/{n}": "test" for n in range(4)} | {
        f"{d}/{n}": "train" for d in ("JE", "KL") for n in range(4)
    }
    assert people(build(table, "fixed", lists=lists), np.arange(4)) == {"d"}
    with pytest.raises(ProtocolError, match="two files"):
        build(table, "fixed", lists={"0": "test", "1": "train"})


def test_emobox_folds_are_taken_as_listed():
    table = corpus(6)
    stems = [file.rsplit("/", 1)[1][:-4] for file in table.index.get_level_values("file")]
    lists = pd.DataFrame(
        {
            f"fold_{k}": ["test" if stem[1] in f"{2 * k - 2}{2 * k - 1}" else "train" for stem in stems]
            for k in (1, 2, 3)
        },
        index=stems,
    )
    lists["fold_3"] = lists["fold_3"].replace("train", "")  # some lists name the test clips only
    split = build(table, "emobox", lists=lists)
    assert [people(split, fold.test) for fold in split.folds] == [{"0", "1"}, {"2", "3"}, {"4", "5"}]
    assert "EmoBox lists, 3 folds" in split.protocol.describe()


def test_emobox_folds_of_the_shared_lists_fit_their_clips(shared):
    from subtone.corpora.emobox import read_folds

    lists = read_folds(shared / "data" / "emobox" / "ravdess.csv.gz")
    stems = [str(clip) for clip in lists.index]
    names = {"01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear"}
    table = pd.DataFrame(
        {
            "corpus": "ravdess",
            "speaker": [stem.split("-")[6] for stem in stems],
            "emotion": [names.get(stem.split("-")[2], "other") for stem in stems],
        },
        index=pd.Index([f"/r/Actor_{stem[-2:]}/{stem}.opus" for stem in stems], name="file"),
    )
    split = build(
        table, "emobox", lists=lists
    )  # RAVDESS's are speaker-disjoint, which the leak check confirms
    assert [len(fold.test) for fold in split.folds] == [240] * 6
    assert sorted(np.concatenate([fold.test for fold in split.folds])) == list(range(1440))


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda t: t.iloc[:0], {}, "no rows"),
        (lambda t: t.drop(columns="emotion"), {}, "no column 'emotion'"),
        (lambda t: t.assign(emotion=pd.NA), {}, "none of the 90 rows has an emotion"),
        (lambda t: pd.concat([t, t.iloc[:2]]), {}, "2 rows repeat a clip"),
        (lambda t: t.reset_index(drop=True), {}, "index"),
        (lambda t: t, {"classes": ["anger", "sadnes"]}, "did you mean 'sadness'"),
        (lambda t: t, {"classes": ["anger", "anger"]}, "twice"),
        (lambda t: t, {"classes": ["anger"]}, "two classes"),
        (lambda t: t, {"classes": "anger"}, "list of labels"),
        (lambda t: t, {"merges": {"excitment": "anger"}}, "no emotion 'excitment'"),
        (lambda t: t, {"folds": "leave-one-speeker-out"}, "did you mean 'leave-one-speaker-out'"),
        (lambda t: t, {"dev": "speeker"}, "did you mean 'speakers'"),
        (lambda t: t, {"dev_share": 0.0}, "between 0 and 1"),
        (lambda t: t, {"dev_speakers": 0}, "1 or more"),
        (lambda t: t, {"dev_speakers": 9}, "leave none to train"),
        (lambda t: t, {"leaks": ("speakers",)}, "did you mean 'speaker'"),
        (lambda t: t, {"folds": "group-k-fold", "k": 11}, "has 10 speakers; take k <= 10"),
        (lambda t: t, {"folds": "group-k-fold", "k": 1}, "2 or more"),
        (lambda t: t, {"folds": "emobox"}, "needs lists"),
        (lambda t: t, {"folds": "fixed"}, "column 'split'"),
        (lambda t: t, {"folds": "fixed", "lists": {"nobody": "test"}}, "none of the 1 listed clips"),
        (lambda t: t, {"lists": {"s0_anger_0": "test"}}, "lists= goes with"),
        (lambda t: t, {"folds": "fixed", "lists": {"s0_anger_0": "tset"}}, "unknown side 'tset'"),
        (
            lambda t: t,
            {"folds": "fixed", "lists": {"s0_anger_0": "test", "s1_anger_0": "train"}},
            "the lists name no clip of class 'neutral'",
        ),
        (
            lambda t: t.assign(speaker=t["speaker"].mask(t["speaker"] == "3")),
            {},
            "9 of 90 rows have no speaker",
        ),
        (lambda t: t.assign(session=pd.NA), {"folds": "session"}, "90 of 90 rows have no session"),
        (lambda t: t.assign(speaker="me"), {}, "two speakers or more"),
        (lambda t: t[t["speaker"].isin(["1", "2"])], {}, "leave none to train"),
        (
            lambda t: t[(t["emotion"] != "sadness") | (t["speaker"] == "4")],
            {},
            "class 'sadness' has no clip to train on",
        ),
    ],
)
def test_what_cannot_be_built_is_said_with_the_way_out(change, options, says):
    with pytest.raises(ProtocolError, match=says):
        build(change(corpus()), **options)
