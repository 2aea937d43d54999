"""A model judged on a corpus: the corpus's labels against the model's answers, nothing left out in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from subtone import corpora, load_audio
from subtone.assessment import assess
from subtone.errors import CorpusError, StoreError, UsageError
from subtone.extraction import clips_of
from tests import synthetic
from tests.small_models import model

MODEL = model()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return corpora.read("manifest", synthetic.manifest(tmp_path_factory.mktemp("tones"), speakers=3))


def relabelled(table: pd.DataFrame, emotions: dict[int, object]) -> pd.DataFrame:
    table = table.copy()
    for row, emotion in emotions.items():
        table.iloc[row, table.columns.get_loc("emotion")] = emotion  # type: ignore[index]
    return table


def test_figures_are_those_of_the_answers_and_the_labels(table: pd.DataFrame) -> None:
    told: list[int] = []
    found = assess(MODEL, table, on_progress=lambda state: told.append(state.done))
    truth = table["emotion"].to_numpy()
    scores = MODEL.score([load_audio(clip.file) for clip in clips_of(table)]).probabilities
    answers = np.array(MODEL.labels)[scores.argmax(1)]
    assert found.evaluation.n == len(table) == 18
    assert found.evaluation.ua == pytest.approx(balanced_accuracy_score(truth, answers))
    assert found.evaluation.wa == pytest.approx(accuracy_score(truth, answers))
    assert found.evaluation.ci_units == 3
    assert found.evaluation.seconds is not None
    assert found.predictions.index.equals(table.index)
    assert list(found.predictions.columns) == [
        "truth",
        "label",
        "speaker",
        "anger",
        "happiness",
        "sadness",
    ]
    assert found.predictions["truth"].tolist() == truth.tolist()
    assert found.predictions["label"].tolist() == answers.tolist()
    np.testing.assert_allclose(found.predictions[list(MODEL.labels)], scores, rtol=1e-5)
    assert told == list(range(1, 19))
    assert (found.failed, found.left_out) == ((), {})


def test_the_json_object_has_the_documented_keys(table: pd.DataFrame) -> None:
    assert list(assess(MODEL, table).evaluation.to_dict()) == [
        "n",
        "ua",
        "ua_ci",
        "wa",
        "wa_ci",
        "macro_f1",
        "per_class_recall",
        "confusion",
        "labels",
        "seconds",
    ]


def test_labels_that_the_model_does_not_know_are_counted_not_scored(table: pd.DataFrame) -> None:
    odd = relabelled(table, {0: "fear", 1: "fear", 2: "boredom", 3: pd.NA})
    found = assess(MODEL, odd)
    assert found.left_out == {"fear": 2, "boredom": 1, "no label": 1}
    assert found.evaluation.n == 14
    assert found.predictions.index.equals(table.index[4:])
    merged = assess(MODEL, odd, merges={"fear": "sadness"})
    assert merged.left_out == {"boredom": 1, "no label": 1}
    assert merged.predictions["truth"].tolist()[:2] == ["sadness", "sadness"]


def test_a_merge_that_would_do_nothing_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="the corpus has no emotion 'angr'; did you mean 'anger'"):
        assess(MODEL, table, merges={"angr": "sadness"})
    with pytest.raises(UsageError, match="the model has no label 'sadnes'; did you mean 'sadness'"):
        assess(MODEL, table, merges={"anger": "sadnes"})


def test_a_corpus_without_a_label_that_the_model_knows_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(CorpusError, match=r"knows \(anger, happiness, sadness\); the corpus has: boredom"):
        assess(MODEL, table.assign(emotion=pd.array(["boredom"] * len(table), "string")))
    with pytest.raises(CorpusError, match="the corpus has: no label"):
        assess(MODEL, table.assign(emotion=pd.array([pd.NA] * len(table), "string")))


def test_clips_that_cannot_be_read_are_named_and_the_others_judged(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    files = list(table.index.get_level_values("file"))
    files[5] = str(tmp_path / "gone.wav")
    broken = table.copy()
    broken.index = pd.MultiIndex.from_arrays(
        [
            pd.array(files, "string"),
            table.index.get_level_values("start"),
            table.index.get_level_values("end"),
        ],
        names=table.index.names,
    )
    found = assess(MODEL, broken)
    whole = assess(MODEL, table)
    assert [Path(one.file).name for one in found.failed] == ["gone.wav"]
    assert found.evaluation.n == 17
    kept = np.arange(18) != 5
    for column in ("truth", "label", "speaker"):
        assert found.predictions[column].tolist() == whole.predictions[column][kept].tolist()
    with pytest.raises(StoreError, match="none of 1 clips could be used"):
        assess(MODEL, broken.iloc[[5]])


def test_a_store_changes_no_figure_and_serves_the_next_time(table: pd.DataFrame, tmp_path: Path) -> None:
    plain = assess(MODEL, table)
    for _ in range(2):
        stored = assess(MODEL, table, store=tmp_path / "store")
        assert stored.predictions.equals(plain.predictions)


def test_a_clip_without_speech_is_answered_all_the_same(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "silence.wav", np.zeros(8000, np.float32))
    synthetic.write(tmp_path / "tone.wav", synthetic.utterance())
    (tmp_path / "m.csv").write_text("file,emotion\nsilence.wav,anger\ntone.wav,sadness\n")
    found = assess(MODEL, corpora.read("manifest", tmp_path / "m.csv"))
    assert found.evaluation.n == 2
    assert found.predictions["label"].notna().all()
    assert found.evaluation.ci_unit == "clip"
