"""The committed study keeps to its clips, its training rows and one protocol a table."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.base import BaseEstimator, ClassifierMixin

from subtone.protocols import Split, build

STUDY = Path(__file__).parents[1] / "studies" / "sap"
MODULES = ("classical", "egemaps", "protocols", "table")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    pytest.importorskip("opensmile")
    monkeypatch.syspath_prepend(str(STUDY))
    return {name: importlib.import_module(name) for name in MODULES}


def toy_split(seed: int = 0) -> Split:
    rows = [(f"{s}-{e}-{n}.wav", s, e) for s in "abcdef" for e in ("anger", "sadness") for n in range(3)]
    files, speakers, emotions = zip(*rows)
    frame = {"corpus": "toy", "speaker": speakers, "emotion": emotions}
    table = pd.DataFrame(frame, index=pd.Index(files, name="file"))
    return build(table, "group-k-fold", k=3, seed=seed)


def test_sentences_06_and_07_alone_are_kept_and_linked_anew_when_the_corpus_moves(
    study: dict[str, ModuleType], tmp_path: Path
) -> None:
    wanted = next(one for one in study["protocols"].STUDIES if one.name == "ased-06-07")
    corpus = tmp_path / "ased"
    (corpus / "01Neutral").mkdir(parents=True)
    for number in range(1, 8):
        soundfile.write(corpus / "01Neutral" / f"n1-{number:02d}-01-01-03.wav", np.zeros(160), 16_000)
    links = wanted.folder(corpus, tmp_path / "out")
    assert sorted(path.stem[3:5] for path in links.rglob("*.wav")) == ["06", "07"]
    moved = corpus.rename(tmp_path / "elsewhere")
    links = wanted.folder(moved, tmp_path / "out")
    assert all(path.exists() for path in links.rglob("*.wav"))
    assert sorted(wanted.table(moved, tmp_path / "out")["sentence"]) == ["06", "07"]


def test_a_rival_is_fitted_on_training_and_development_rows_and_on_no_test_row(
    study: dict[str, ModuleType], tmp_path: Path
) -> None:
    split = toy_split()
    fitted: list[set[int]] = []

    class Spy(ClassifierMixin, BaseEstimator):
        def fit(self, x: np.ndarray, y: np.ndarray) -> Spy:
            fitted.append(set(x[:, 0].astype(int)))
            self.first = y[0]
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return np.full(len(x), self.first)

    system = study["classical"].System(np.arange(len(split.table))[:, None], Spy)
    study["classical"].run(split, {"spy": system}, tmp_path / "toy", command="", extra={})
    assert fitted == [set(range(len(split.table))) - set(fold.test) for fold in split.folds]
    record = pd.read_parquet(tmp_path / "toy" / "predictions.parquet")
    assert len(record) == len(split.table)
    assert set(record["spy"]) <= {"anger", "sadness"}


def test_results_of_other_folds_are_not_put_side_by_side(
    study: dict[str, ModuleType], tmp_path: Path
) -> None:
    from sklearn.dummy import DummyClassifier

    wanted = study["protocols"].STUDIES[0]
    places = {tmp_path / "rivals" / wanted.name: 0, tmp_path / "anchors" / wanted.name / "fbank": 0}
    for folder in places:
        split = toy_split()
        system = study["classical"].System(np.zeros((len(split.table), 1)), DummyClassifier)
        study["classical"].run(split, {"a": system}, folder, command="", extra={})
    assert [part.kind for part in study["table"].parts_of(wanted, tmp_path)] == ["anchors", "rivals"]

    smaller = build(toy_split().table.iloc[:-1], "group-k-fold", k=3)
    system = study["classical"].System(np.zeros((len(smaller.table), 1)), DummyClassifier)
    study["classical"].run(smaller, {"a": system}, folder, command="", extra={})
    with pytest.raises(SystemExit, match="not tested on the same clips"):
        study["table"].parts_of(wanted, tmp_path)


def test_functionals_are_computed_once_a_content_and_come_in_the_order_asked_for(
    study: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for number in range(4):
        wave = 0.1 * np.random.default_rng(min(number, 2)).standard_normal(8000)  # the last two are the same
        files.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(files[-1], wave, 16_000)
    functionals, cache = study["egemaps"].functionals, tmp_path / "cache.parquet"
    first, _ = functionals(files[:2], cache)
    everything, _ = functionals(files, cache)
    assert everything.shape == (4, 88)
    np.testing.assert_array_equal(everything[:2], first)
    np.testing.assert_array_equal(everything[2], everything[3])
    assert len(pd.read_parquet(cache)) == 3

    monkeypatch.setattr(study["egemaps"], "load_audio", lambda _: pytest.fail("computed twice"))
    again, _ = functionals(files[::-1], cache)
    np.testing.assert_array_equal(again, everything[::-1])
