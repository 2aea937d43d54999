"""Prediction around any model: what is scored, what is said instead, and how answers are told."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import audformat
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.audio import load_audio
from subtone.errors import UsageError
from subtone.inference import LONGEST_CLIP_S, Failure, FileResult, Prediction, Scores, iterate, run
from subtone.speech import EnergyDetector, SileroDetector, SpeechSegments
from tests.plain_scorer import RATE, PlainScorer, speak

WORD = speak((0.5, 1.5, 0.4), seconds=2.0)
CALL = speak((1.0, 3.0, 0.5), (6.0, 7.0, 0.1), (8.0, 9.5, 0.3), seconds=10.0)
LABELS = PlainScorer.labels


def save(path: Path, wave: npt.NDArray[np.float32], rate: int = RATE) -> Path:
    soundfile.write(path, wave, rate, "FLOAT" if path.suffix == ".wav" else None)
    return path


@pytest.mark.parametrize("per", ["file", "segment", "window"])
def test_scores_sum_to_one_and_the_label_is_the_likeliest(per: str) -> None:
    table = run(PlainScorer(), [CALL, WORD], per=per).table
    answered = table[table["label"].notna()]
    assert len(answered) >= 2
    assert np.allclose(answered[list(LABELS)].sum(axis=1), 1, atol=1e-12)
    assert (answered[list(LABELS)].idxmax(axis=1) == answered["label"]).all()
    assert table["speech"].between(0, 1).all()


def test_the_table_is_audformats() -> None:
    table = run(PlainScorer(), [CALL, WORD], per="window").table
    audformat.assert_index(table.index)
    assert audformat.is_segmented_index(table.index)
    assert list(table.columns) == ["label", *LABELS, "speech", "note"]
    assert table.dtypes[["label", "note"]].astype(str).tolist() == ["string", "string"]


def test_all_ways_to_hand_over_a_recording_give_the_same_answer(tmp_path: Path) -> None:
    path = save(tmp_path / "word.wav", WORD)
    whole = path.read_bytes()
    forms = [path, str(path), whole, bytearray(whole), io.BytesIO(whole), WORD, (WORD, RATE), WORD[None]]
    alone = [run(PlainScorer(), form).table.to_numpy().tolist() for form in forms]
    assert all(answer == alone[0] for answer in alone)
    with path.open("rb") as stream:
        assert run(PlainScorer(), stream).table.to_numpy().tolist() == alone[0]
    in_memory = run(PlainScorer(), [WORD, whole, (WORD, RATE)])
    assert in_memory.table.index.get_level_values("file").tolist() == ["<array 0>", "<bytes 1>", "<array 2>"]
    assert in_memory.table.to_numpy().tolist() == alone[0] * 3


def test_a_pipe_is_read_although_it_cannot_go_back() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError("Illegal seek")

    content = io.BytesIO()
    soundfile.write(content, CALL, RATE, "PCM_16", format="WAV")
    piped = run(PlainScorer(), Pipe(content.getvalue()), per="window")
    assert not piped.failed
    assert (
        piped.to_csv().replace("<stream 0>", "<bytes 0>")
        == run(PlainScorer(), content.getvalue(), per="window").to_csv()
    )


def test_folders_and_patterns_stand_for_their_recordings_each_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    paths = [save(tmp_path / "a.wav", WORD), save(tmp_path / "deep" / "b.flac", WORD)]
    (tmp_path / "notes.txt").write_text("none of these")
    prediction = run(PlainScorer(), [tmp_path, f"{tmp_path}/*.wav", paths[0]])
    assert prediction.table.index.get_level_values("file").tolist() == [str(path) for path in paths]
    assert not prediction.failed


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    good = save(tmp_path / "good.wav", WORD)
    flac = save(tmp_path / "cut.flac", CALL)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound\n" * 40)
    (tmp_path / "void").mkdir()
    save(tmp_path / "none.wav", np.zeros(0, np.float32))
    save(tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32))
    (tmp_path / "dead.wav").symlink_to(tmp_path / "nowhere.wav")
    names = ["cut.flac", "empty.wav", "text.wav", "none.wav", "nan.wav", "void", "gone.wav", "dead.wav"]
    bad: list[object] = [tmp_path / name for name in names]
    bad += [str(tmp_path / "*.ogg"), "", "a\0b", b"", b"RIFF", np.zeros(0, np.float32), (WORD, 0), 3.5, None]
    prediction = run(PlainScorer(), [*bad, good])
    assert prediction.table.index.get_level_values("file").tolist() == [str(good)]
    assert [failure.position for failure in prediction.failed] == list(range(len(bad)))
    for failure, source in zip(prediction.failed, bad, strict=True):
        assert failure.file in failure.message or repr(source) in failure.message
        assert "\n" not in failure.message
        assert len(failure.message) > len(failure.file) + 10
    assert prediction.positions.tolist() == [len(bad)]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "locked.wav", WORD)
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        (failure,) = run(PlainScorer(), [path]).failed
        assert str(path) in failure.message
        assert "permission" in failure.message
    else:
        pytest.skip("this user may read everything")


def test_when_all_fail_the_result_is_empty_and_says_why(tmp_path: Path) -> None:
    prediction = run(PlainScorer(), [tmp_path / "a.wav", tmp_path / "b.wav"], embeddings=True)
    assert (len(prediction), len(prediction.failed), prediction.embeddings) == (0, 2, None)
    assert list(prediction.table.columns) == ["label", *LABELS, "speech", "note"]
    assert (prediction.to_json_lines(), prediction.to_csv().count("\n")) == ("", 1)
    with pytest.raises(UsageError, match=r"a\.wav: no such file"):
        prediction.result()


@pytest.mark.parametrize(
    ("wave", "note"),
    [
        (np.ones(1, np.float32), "too short"),
        (WORD[RATE // 2 : RATE // 2 + 3199], "too short"),
        (np.zeros(3 * RATE, np.float32), "silent"),
        (np.full(RATE, 0.7, np.float32), "silent"),
        (np.random.default_rng(0).normal(0, 3e-5, RATE).astype(np.float32), "silent"),
        (np.random.default_rng(0).normal(0, 0.05, 2 * RATE).astype(np.float32), "no speech"),
        (np.zeros(100 * RATE, np.float32), "silent"),
    ],
)
@pytest.mark.parametrize("per", ["file", "segment", "window"])
def test_too_short_silent_and_not_speech_are_said_not_guessed(
    wave: npt.NDArray[np.float32], note: str, per: str
) -> None:
    prediction = run(PlainScorer(SileroDetector()), wave, per=per, embeddings=True)
    assert set(prediction.table["note"]) == {note}
    assert prediction.table["label"].isna().all()
    assert prediction.table[list(LABELS)].isna().all(axis=None)
    assert (prediction.table["speech"] == 0).all()
    for line in prediction.to_json_lines().splitlines():
        record = json.loads(line)
        assert (record["label"], record["scores"], record["speech"], record["note"]) == (None, {}, 0, note)


def test_whoever_wants_an_answer_to_everything_gets_one() -> None:
    sources = [np.ones(1, np.float32), np.zeros(RATE, np.float32), np.zeros(70 * RATE, np.float32), WORD]
    table = run(PlainScorer(), sources, abstain=False).table
    assert table["label"].notna().all()
    assert table["note"].tolist() == ["too short", "silent", "silent", ""]


def test_odd_recordings_are_answered(tmp_path: Path) -> None:
    clipped = np.clip(20 * CALL, -1, 1)
    low = save(tmp_path / "low.wav", CALL[::2].copy(), 8_000)
    high = save(tmp_path / "high.wav", np.repeat(CALL, 12), 192_000)
    wide = tmp_path / "wide.wav"
    soundfile.write(wide, np.repeat(CALL[:, None], 8, axis=1), RATE, "PCM_16")
    prediction = run(PlainScorer(), [clipped, low, high, wide])
    assert not prediction.failed
    assert prediction.table["label"].notna().all()
    assert np.allclose(prediction.table.index.get_level_values("end").total_seconds(), 10.0, atol=1e-3)


def test_one_channel_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    soundfile.write(path, np.stack([WORD, np.zeros_like(WORD)], axis=1), RATE, "FLOAT")
    assert run(PlainScorer(), path, channel=0).table["note"].tolist() == [""]
    assert run(PlainScorer(), path, channel=1).table["note"].tolist() == ["silent"]
    (failure,) = run(PlainScorer(), path, channel=2).failed
    assert "channel 2" in failure.message


@given(st.lists(st.sampled_from(LABELS), min_size=1, unique=True))
@settings(max_examples=20, deadline=None)
def test_labels_restrict_and_renormalise(chosen: list[str]) -> None:
    full = run(PlainScorer(), WORD).table.iloc[0]
    part = run(PlainScorer(), WORD, labels=chosen).table
    expected = np.array([full[label] for label in chosen]) / sum(full[label] for label in chosen)
    assert list(part.columns) == ["label", *chosen, "speech", "note"]
    assert np.allclose(part[chosen].to_numpy()[0], expected, atol=1e-12)
    assert part["label"].iloc[0] == chosen[int(expected.argmax())]


def test_labels_that_the_model_rules_out_entirely_are_even() -> None:
    class Sure(PlainScorer):
        def score(self, waves: Sequence[npt.NDArray[np.float32]], speech: Sequence[SpeechSegments]) -> Scores:
            scores = super().score(waves, speech)
            return Scores(np.tile([1.0, 0, 0, 0], (len(waves), 1)), scores.embeddings)

    table = run(Sure(), WORD, labels=["neutral", "sadness"]).table
    assert table[["neutral", "sadness"]].to_numpy().tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": ["angr"]}, "did you mean 'anger'"),
        ({"labels": ["anger", "joy"]}, "'joy'"),
        ({"labels": []}, "at least one"),
        ({"per": "windows"}, "did you mean 'window'"),
        ({"hop_s": 0}, "hop_s"),
        ({"hop_s": -1.0}, "hop_s"),
        ({"hop_s": float("nan")}, "hop_s"),
        ({"window_s": 0.05}, "window_s must be at least 0.2"),
        ({"window_s": float("inf")}, "window_s"),
        ({"window_s": "4"}, "window_s"),
        ({"channel": -1}, "channel"),
        ({"channel": "left"}, "channel"),
    ],
)
def test_arguments_that_cannot_be_honoured_are_refused_at_once(options: dict[str, object], says: str) -> None:
    for call in (run, iterate):
        with pytest.raises(UsageError, match=says):
            call(PlainScorer(), WORD, **options)


@pytest.mark.parametrize(
    "nothing", [[], pd.DataFrame(index=audformat.segmented_index()), 7, object(), [0.1, 0.2]]
)
def test_no_recordings_is_wrong_usage(nothing: object) -> None:
    with pytest.raises(UsageError):
        run(PlainScorer(), nothing)


def test_a_model_that_gives_no_probabilities_is_not_believed() -> None:
    class Broken(PlainScorer):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def score(self, waves: Sequence[npt.NDArray[np.float32]], speech: Sequence[SpeechSegments]) -> Scores:
            scores = super().score(waves, speech)
            return Scores(np.full_like(scores.probabilities, self.value), scores.embeddings)

    for value in (np.nan, -0.25, 0.0, np.inf):
        (failure,) = run(Broken(value), WORD).failed
        assert "no probabilities" in failure.message


def test_a_long_file_is_the_mean_of_equal_parts_weighted_by_their_speech() -> None:
    wave = speak((3, 10, 0.5), (40, 42, 0.1), (60, 60.1, 0.5), (75, 80, 0.2), seconds=95)
    scorer = PlainScorer()
    found = scorer.detector.detect(wave)
    bounds = [round(index * len(wave) / 4) for index in range(5)]
    total, weight = np.zeros(4), 0.0
    for start, end in pairwise(bounds):
        speech = found.clip(start, end)
        if speech.speech_samples >= 0.2 * RATE:
            total += speech.speech_samples * scorer.score([wave[start:end]], [speech]).probabilities[0]
            weight += speech.speech_samples
    row = run(PlainScorer(), wave).table.iloc[0]
    assert np.allclose(row[list(LABELS)].astype(float), total / weight, atol=1e-9)
    assert row["speech"] == pytest.approx(found.share)


def test_a_file_at_the_limit_is_one_clip() -> None:
    scorer = PlainScorer()
    limit = round(LONGEST_CLIP_S * RATE)
    run(scorer, [np.tile(CALL, 3)[:limit], np.tile(CALL, 4)[: limit + 1]])
    assert [sum(batch) for batch in scorer.batches] == [limit, limit + 1]
    assert [len(batch) for batch in scorer.batches] == [1, 2]


def test_segments_are_the_speech_that_the_detector_finds() -> None:
    found = EnergyDetector().detect(CALL)
    prediction = run(PlainScorer(), CALL, per="segment")
    assert prediction.timeline()[["start", "end"]].to_numpy().tolist() == found.seconds.tolist()
    assert (prediction.table["speech"] == 1).all()


def test_a_long_segment_is_cut_into_equal_parts() -> None:
    timeline = run(PlainScorer(), speak((1, 26, 0.4), seconds=27), per="segment").timeline()
    lengths = (timeline["end"] - timeline["start"]).to_numpy()
    assert len(timeline) == 3
    assert lengths.max() <= 10
    assert np.ptp(lengths) < 1e-3
    assert (timeline["start"].to_numpy()[1:] == timeline["end"].to_numpy()[:-1]).all()


def test_windows_of_a_batch_are_scored_as_if_alone() -> None:
    many = run(PlainScorer(), CALL, per="window", window_s=1.0, hop_s=0.25, embeddings=True)
    found = EnergyDetector().detect(CALL)
    for result in many.results:
        for row, (start, end) in enumerate(zip(result.starts, result.ends, strict=True)):
            if result.notes[row]:
                continue
            alone = PlainScorer().score([CALL[start:end]], [found.clip(start, end)])
            assert np.allclose(result.probabilities[row], alone.probabilities[0], atol=1e-12)
            assert result.embeddings is not None
            assert np.allclose(result.embeddings[row], alone.embeddings[0])


def test_embeddings_come_with_the_scores_row_by_row() -> None:
    prediction = run(PlainScorer(), [np.zeros(RATE, np.float32), WORD, CALL], embeddings=True)
    assert prediction.embeddings is not None
    assert prediction.embeddings.shape == (3, 3)
    assert np.isnan(prediction.embeddings[0]).all()
    assert np.isfinite(prediction.embeddings[1:]).all()
    assert run(PlainScorer(), WORD).embeddings is None


def test_a_corpus_table_gives_its_rows_and_keeps_their_places(tmp_path: Path) -> None:
    path = save(tmp_path / "call.wav", CALL)
    index = audformat.segmented_index(
        [str(path), str(tmp_path / "gone.wav"), str(path), str(path), str(path)],
        pd.to_timedelta([8.0, 0.0, 1.0, 11.0, 0.5], unit="s"),
        pd.to_timedelta([None, 1.0, 3.0, None, 0.7], unit="s"),
    )
    prediction = run(PlainScorer(), pd.DataFrame({"emotion": "anger"}, index=index))
    assert prediction.positions.tolist() == [0, 2, 4]
    assert [failure.position for failure in prediction.failed] == [1, 3]
    assert "behind the recording's end" in prediction.failed[1].message
    times = prediction.table.reset_index()[["start", "end"]].map(lambda time: time.total_seconds())
    assert times.to_numpy().tolist() == [[8.0, 10.0], [1.0, 3.0], [0.5, 0.7]]
    part = run(PlainScorer(), load_audio(path, start_s=1.0, end_s=3.0)).table
    assert np.array_equal(part[list(LABELS)].to_numpy()[0], prediction.table[list(LABELS)].to_numpy()[1])
    whole = run(PlainScorer(), audformat.filewise_index([str(path)])).table
    assert whole.index.get_level_values("end")[0].total_seconds() == 10.0
    inner = run(PlainScorer(), index[:1], per="window", window_s=1.0, hop_s=0.5).timeline()
    assert inner["start"].tolist() == [8.0, 8.5, 9.0]


def test_an_index_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="audformat"):
        run(PlainScorer(), pd.MultiIndex.from_tuples([("a.wav", 1)], names=["file", "take"]))


def test_json_lines_hold_the_fields_and_read_back() -> None:
    prediction = run(PlainScorer(), [CALL, np.zeros(RATE, np.float32)], per="window")
    records = [
        json.loads(line, parse_constant=pytest.fail) for line in prediction.to_json_lines().splitlines()
    ]
    assert len(records) == len(prediction)
    for record, (index, row) in zip(records, prediction.table.iterrows(), strict=True):
        assert list(record) == ["file", "start", "end", "label", "scores", "speech", "note"]
        assert (record["file"], record["start"], record["end"]) == (
            index[0], index[1].total_seconds(), index[2].total_seconds())  # fmt: skip
        assert record["label"] == (None if pd.isna(row["label"]) else row["label"])
        assert record["speech"] == row["speech"]
        if record["label"] is not None:
            assert list(record["scores"]) == list(LABELS)
            assert sum(record["scores"].values()) == pytest.approx(1, abs=1e-12)


def test_a_file_name_that_is_no_utf_8_can_still_be_written(tmp_path: Path) -> None:
    try:
        path = save(tmp_path / "a.wav", WORD).rename(tmp_path / "caf\udce9.wav")
    except (OSError, UnicodeError):
        pytest.skip("this file system knows UTF-8 only")
    prediction = run(PlainScorer(), [path, tmp_path / "gone\udce9.wav"])
    assert json.loads(prediction.to_json_lines().encode())["file"] == f"{tmp_path}/caf\\xe9.wav"
    assert (
        prediction.failed[0].message.encode().startswith(f"{tmp_path}/gone\\xe9.wav: no such file".encode())
    )


def test_csv_reads_back() -> None:
    prediction = run(PlainScorer(), [CALL, np.zeros(RATE, np.float32)])
    back = pd.read_csv(io.StringIO(prediction.to_csv()), keep_default_na=False, na_values={"label": [""]})
    assert list(back.columns) == ["file", "start", "end", "label", *LABELS, "speech", "note"]
    assert back["end"].tolist() == [10.0, 1.0]
    assert back["note"].tolist() == ["", "silent"]


def test_outcomes_come_one_by_one_and_progress_is_told(tmp_path: Path) -> None:
    files: list[tuple[int, int, str]] = []
    audio: list[tuple[str, float, float]] = []
    outcomes = iterate(
        PlainScorer(), [WORD, tmp_path / "gone.wav", CALL],
        on_file=lambda done, total, outcome: files.append((done, total, type(outcome).__name__)),
        on_audio=lambda *told: audio.append(told),
    )  # fmt: skip
    first = next(outcomes)
    assert isinstance(first, FileResult)
    assert files == [(1, 3, "FileResult")]
    rest = list(outcomes)
    assert isinstance(rest[0], Failure)
    assert files[1:] == [(2, 3, "Failure"), (3, 3, "FileResult")]
    assert audio == [("<array 0>", 2.0, 2.0), ("<array 2>", 10.0, 10.0)]
    joined = Prediction.collect([first, *rest], LABELS)
    assert joined.to_csv() == run(PlainScorer(), [WORD, tmp_path / "gone.wav", CALL]).to_csv()


def test_leaving_early_stops_the_reading_ahead() -> None:
    outcomes = iterate(PlainScorer(), [WORD] * 50)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(outcomes)


def test_an_interrupt_passes() -> None:
    class Interrupted(PlainScorer):
        def score(self, *_: object) -> Scores:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(), [WORD, CALL])


def test_a_recording_that_shrinks_between_its_two_readings_is_named(tmp_path: Path) -> None:
    path = tmp_path / "live.wav"
    soundfile.write(path, np.tile(CALL, 70), RATE, "PCM_16")  # longer than is held in memory

    class Cutting(PlainScorer):
        def score(self, waves: Sequence[npt.NDArray[np.float32]], speech: Sequence[SpeechSegments]) -> Scores:
            if len(self.batches) == 0:
                save(path, WORD)
            return super().score(waves, speech)

    prediction = run(Cutting(), [path, WORD])
    assert [failure.file for failure in prediction.failed] == [str(path)]
    assert str(path) in prediction.failed[0].message
    assert len(prediction) == 1


def test_a_result_is_found_by_its_file() -> None:
    prediction = run(PlainScorer(), [WORD, CALL])
    assert prediction.result("<array 1>").duration_s == 10.0
    with pytest.raises(UsageError, match="name one"):
        prediction.result()
    with pytest.raises(UsageError, match="did you mean"):
        prediction.timeline("<aray 1>")


def test_speech_is_answered_and_other_sounds_are_not(shared: Path) -> None:
    speech = sorted((shared / "data" / "emodb-4class").rglob("*.opus"))[::60]
    table = run(PlainScorer(SileroDetector()), speech).table
    assert (table["note"] == "").all()
    assert (table["speech"] > 0.5).all()
