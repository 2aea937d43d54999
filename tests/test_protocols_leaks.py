"""The leak guard: what is on two sides is found, named, and refused unless allowed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from subtone.errors import LeakError, ProtocolError
from subtone.protocols import Fold, build, check_leaks


def table_of(rows: list[tuple[str, str, str, float, float | None]]) -> pd.DataFrame:
    """Rows (file, speaker, sentence, start, end in seconds)."""
    index = pd.MultiIndex.from_arrays(
        [
            [row[0] for row in rows],
            pd.to_timedelta([row[3] for row in rows], unit="s"),
            pd.to_timedelta([row[4] for row in rows], unit="s"),
        ],
        names=["file", "start", "end"],
    )
    emotions = [("anger", "sadness")[n % 2] for n in range(len(rows))]
    return pd.DataFrame(
        {"emotion": emotions, "speaker": [r[1] for r in rows], "sentence": [r[2] for r in rows]}, index=index
    )


def fold(train: list[int], dev: list[int], test: list[int]) -> list[Fold]:
    return [Fold("f", *(np.array(side, dtype=np.int64) for side in (train, dev, test)))]


PLAIN = table_of(
    [("a", "x", "1", 0, None), ("b", "y", "2", 0, None), ("c", "z", "3", 0, None), ("d", "x", "1", 0, None)]
)
OWN = {file: file for file in "abcd"}
SIDES = {"train-test": ([0], [1], [3]), "dev-test": ([1], [0], [3]), "train-dev": ([0], [3], [1])}


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("kind", ["speaker", "sentence", "audio"])
def test_a_leak_between_any_two_sides_is_an_error(sides, kind):
    twins = {**OWN, "d": "a"}
    with pytest.raises(LeakError, match=r"fold 'f'.*leaks: \[\]"):
        check_leaks(PLAIN, fold(*sides), on=(kind,), digests=twins)
    check_leaks(PLAIN, fold([0, 3], [1], [2]), on=(kind,), digests=twins)
    others = {"speaker", "sentence", "audio"} - {kind}
    if kind == "audio":
        check_leaks(PLAIN, fold([0], [1], [2]), on=others, digests=twins)


def test_train_and_dev_may_share_where_said_but_not_with_test():
    check_leaks(PLAIN, fold([0], [3], [1]), on=("speaker",), shared_with_dev=("speaker",))
    with pytest.raises(LeakError):
        check_leaks(PLAIN, fold([0], [1], [3]), on=("speaker",), shared_with_dev=("speaker",))


def test_segments_of_one_file_leak_only_where_they_overlap():
    long = table_of(
        [
            ("a", "x", "1", 0, 2),
            ("a", "y", "2", 2, 4),
            ("a", "z", "3", 3, 5),
            ("a", "w", "4", 5, None),
            ("b", "v", "5", 4.5, 6),
        ]
    )
    same = {"a": "one", "b": "one"}
    check_leaks(long, fold([0], [], [1]), on=("audio",), digests=same)  # they touch
    check_leaks(long, fold([0, 1], [], [3]), on=("audio",), digests=same)
    with pytest.raises(LeakError, match="overlapping parts of a"):
        check_leaks(long, fold([1], [], [2]), on=("audio",), digests=same)
    with pytest.raises(LeakError, match=r"a \(train\) and b \(test\)"):
        check_leaks(long, fold([3], [], [4]), on=("audio",), digests=same)


def test_up_to_five_offenders_are_named():
    many = table_of([(f"{n}", f"p{n % 8}", "1", 0, None) for n in range(16)])
    with pytest.raises(LeakError, match=r"8 in all: 'p0'.*'p4' in train and test of fold 'f'; and 3 more"):
        check_leaks(many, fold(list(range(8)), [], list(range(8, 16))), on=("speaker",))


def test_unknown_speakers_cannot_be_checked_silently():
    unknown = PLAIN.assign(speaker=["x", None, "z", "x"])
    with pytest.raises(ProtocolError, match="1 of 4 rows have no speaker"):
        check_leaks(unknown, fold([0], [], [2]), on=("speaker",))


def write(folder, speakers: int = 4, clips: int = 4) -> pd.DataFrame:
    rows = []
    for speaker in range(speakers):
        for clip in range(clips):
            file = folder / f"{speaker}_{clip}.wav"
            file.write_bytes(b"%d %d" % (speaker, clip))
            rows.append((str(file), f"{speaker}", f"{clip}", 0.0, None))
    return table_of(rows)


def test_copies_of_a_recording_are_found_by_content_and_can_be_allowed(tmp_path):
    table = write(tmp_path)
    assert build(table).protocol.leaks == ("speaker", "audio")
    (tmp_path / "3_1.wav").write_bytes((tmp_path / "0_1.wav").read_bytes())
    with pytest.raises(LeakError, match=r"identical audio.*leaks: \[speaker\]"):
        build(table)
    split = build(table, leaks=["speaker"])
    assert "leaks not checked: audio" in split.protocol.describe()


def test_a_missing_file_is_an_error_but_a_table_of_metadata_is_not(tmp_path):
    table = write(tmp_path)
    for file in sorted(tmp_path.glob("*.wav"))[1:]:
        file.unlink()
    with pytest.raises(ProtocolError, match=r"0_1\.wav.*leave 'audio' out"):
        build(table)
    (tmp_path / "0_0.wav").unlink()
    assert build(table).protocol.leaks == ("speaker",)


def test_given_digests_are_used_as_mapping_or_function_and_must_cover_the_table():
    files = list(PLAIN.index.get_level_values("file"))
    for digests in (OWN, lambda file: file):
        check_leaks(PLAIN, fold([0], [1], [2]), digests=digests)
    with pytest.raises(ProtocolError, match=f"no content address for {files[3]}"):
        check_leaks(PLAIN, fold([0], [1], [2]), digests={"a": "1", "b": "2", "c": "3"})


def test_shared_sentences_are_an_error_only_where_asked(tmp_path):
    table = write(tmp_path)
    build(table)
    with pytest.raises(LeakError, match="the same sentence"):
        build(table, leaks=["speaker", "audio", "sentence"])
    by_sentence = build(
        table.assign(emotion=["anger", "sadness"] * 4 + ["sadness", "anger"] * 4),
        "sentence",
        leaks=["audio", "sentence"],
    )
    assert [fold.name for fold in by_sentence.folds] == ["0", "1", "2", "3"]
    assert "sentence-disjoint" in by_sentence.protocol.describe()


def test_speakers_in_two_sessions_are_a_leak():
    table = write_sessions()
    with pytest.raises(LeakError, match="the same speaker"):
        build(table, "session", dev="none")


def write_sessions() -> pd.DataFrame:
    rows = [(f"{n}", f"{n % 3}", "1", 0, None) for n in range(12)]
    return table_of(rows).assign(session=[f"{n // 4}" for n in range(12)])


def test_random_development_shares_speakers_with_training_only(tmp_path):
    assert build(write(tmp_path), dev="random").protocol.leaks == ("speaker", "audio")
