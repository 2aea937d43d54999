"""The study across corpora: who may teach whom, no look at test labels but the oracle's, and a whole small study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from subtone.errors import UsageError
from subtone.evaluation.findings import HeatMap, Measure, Table, read_findings
from subtone.protocols import Fold
from subtone.studies import run as study
from subtone.studies.cells import Cell, Earlier, Outcome, write_outcome
from subtone.studies.cross_cells import Source, cross_fold, standardised, taught_shares, teach_and_test
from subtone.studies.cross_figures import Answers, Scores, System
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.training.options import FrozenOptions
from tests.synthetic import VOICES, hash_of, manifest, utterance, write

Codes = npt.NDArray[np.int64]
OPTIONS = FrozenOptions(steps=40, hidden=8, dropout=0.0, learning_rate=0.02, components=None)
SETTINGS = [
    "k=2",
    "seeds=[0]",
    "resamples=100",
    "permutations=100",
    "detector.name=energy",
    "training.steps=15",
    "training.components=8",
    "training.hidden=16",
]


def emodb(folder: Path, speakers: Sequence[str] = ("03", "08", "09", "10")) -> Path:
    """Write a corpus that is named as EmoDB, and louder than the manifest."""
    letters = {"anger": "W", "sadness": "T", "happiness": "F"}
    for number, speaker in enumerate(speakers):
        for emotion, (pitch, level) in VOICES.items():
            for take, version in enumerate("ab"):
                wave = utterance(0.5, pitch * 1.03, 1.5 * level, 10_000 + hash_of(number, emotion, take))
                write(folder / f"{speaker}a01{letters[emotion]}{version}.wav", wave)
    return folder


def emotiontts(folder: Path, speakers: Sequence[str] = ("nea", "neb", "nec", "ned")) -> Path:
    """Write a corpus that is named as emotiontts_open_db, quieter, with an emotion of its own and more clips."""
    hundreds = {"happiness": 100, "anger": 200, "sadness": 300, "neutral": 0}
    for number, speaker in enumerate(speakers):
        for emotion, first in hundreds.items():
            pitch, level = VOICES.get(emotion, (300.0, 0.1))
            for take in range(3):
                seed = 20_000 + 400 * number + first + take
                wave = utterance(0.5, pitch * 0.97, 0.7 * level, seed)
                write(folder / f"{speaker}{first + take + 1:05d}.wav", wave)
    return folder


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {
        "manifest": manifest(root / "manifest"),
        "emodb": emodb(root / "emodb"),
        "emotiontts-ko": emotiontts(root / "emotiontts"),
    }


def run(corpora: Mapping[str, Path], out: Path, *more: str, overwrite: bool = False) -> tuple[Any, Any]:
    _, failed = study.run(
        "cross-corpus",
        corpora,
        out=out,
        upstream="fbank",
        settings=[*SETTINGS, *more],
        jobs=1,
        overwrite=overwrite,
    )
    return read_findings(out), failed


@pytest.fixture(scope="module")
def finished(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    _, failed = run(corpora, out)
    assert not failed
    return out


def heat_map(found: Any, name: str) -> HeatMap:
    return cast(HeatMap, next(one for one in found.heat_maps if one.name == name))


def table(found: Any, name: str) -> Table:
    return cast(Table, next(one for one in found.tables if one.name == name))


def test_what_is_learned_on_one_corpus_is_known_on_others(finished: Path) -> None:
    found = read_findings(finished)
    names = ("manifest", "emodb", "emotiontts-ko")
    ua = heat_map(found, "ua")
    assert ua.columns == names
    assert ua.rows == (*names, "all others")
    values = [cell.value for row in ua.values for cell in row if cell is not None]
    assert len(values) == 12
    assert np.mean(values) > 80  # emotions are tones; chance is 33
    assert (finished / "README.md").read_text().count("oracle") > 2
    assert {"ua.png", "gain-em.png", "gain-standardised.png"} <= {one.name for one in finished.iterdir()}
    for pooling in ("gap", "gap+sap"):
        for variant in ("raw", "standardised"):
            for metric in ("ua", "wa"):
                assert len(table(found, f"{metric}-{pooling}-{variant}").rows) == 12


def test_one_set_of_emotions_serves_all_corpora(finished: Path) -> None:
    found = read_findings(finished)
    assert found.settings["classes"] == ["anger", "happiness", "sadness"]  # neutral is in one corpus alone
    assert "anger, happiness, sadness" in found.protocol


def test_all_tests_are_corrected_together(finished: Path) -> None:
    found = read_findings(finished)
    rows = table(found, "tests").rows
    assert len(rows) == 10
    plain, corrected = ([float(str(row[column]).strip("< ")) for row in rows] for column in (4, 5))
    assert min(corrected) == pytest.approx(min(1.0, 10 * min(plain)), abs=0.01)
    assert any("of 10 paired tests" in one for one in found.conclusions)


def test_a_study_that_is_done_is_not_computed_anew_and_says_the_same(
    corpora: dict[str, Path], finished: Path
) -> None:
    work = finished.with_name("out.work")
    before = {file: file.stat().st_mtime_ns for file in work.rglob("*.safetensors")}
    first = read_findings(finished)
    lost = work / "emodb/to-others/gap+sap-raw.safetensors"
    lost.unlink()  # as if killed before it
    again, _ = run(corpora, finished, overwrite=True)
    assert again == first
    after = {file: file.stat().st_mtime_ns for file in work.rglob("*.safetensors")}
    assert {file for file in before if before[file] != after[file]} == {lost}


def test_of_two_corpora_all_others_are_the_other(corpora: dict[str, Path], tmp_path: Path) -> None:
    two = {name: corpora[name] for name in ("manifest", "emodb")}
    found, _ = run(two, tmp_path / "out", "classes=[anger, sadness]")
    assert heat_map(found, "ua").rows == ("manifest", "emodb")
    assert not any("all others" in head for head in table(found, "means").columns)


def test_corpora_that_do_not_fit_are_refused_before_anything_is_computed(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="two or more corpora"):
        run({"emodb": corpora["emodb"]}, tmp_path / "a")
    with pytest.raises(UsageError, match="corpus 'manifest' has no 'neutral'"):
        run(corpora, tmp_path / "b", "classes=[anger, neutral]")
    lone = manifest(tmp_path / "lone", emotions=["anger"])
    with pytest.raises(UsageError, match="1 emotions in common"):
        run({**corpora, "manifest": lone}, tmp_path / "c")
    assert not list(tmp_path.glob("*.work"))


def made_up(name: str, speakers: int, counts: Sequence[int]) -> Source:
    """A corpus in which each speaker says so many clips of each class; the last speaker is held back."""
    each = np.repeat(np.arange(len(counts)), counts)
    targets = np.tile(each, speakers)
    people = np.repeat(np.arange(speakers), len(each))
    material = SimpleNamespace(
        name=name,
        targets=targets,
        classes=tuple("xyz"[: len(counts)]),
        speakers=[f"{one}" for one in people],
    )
    cell = Cell(f"{name}/heard", teach_and_test, {})
    return Source(cast(Material, material), cell, people == speakers - 1)


def test_each_corpus_weighs_alike_in_each_class() -> None:
    sources = [made_up("a", 3, [5, 1]), made_up("b", 3, [2, 2]), made_up("c", 6, [10, 3])]
    fold = cross_fold(sources, [0, 2], seed=0)
    corpus = np.repeat([0, 1, 2], [len(one.held) for one in sources])
    targets = np.concatenate([one.material.targets for one in sources])
    held = np.concatenate([one.held for one in sources])
    for rows, size in ((fold.train, 50), (fold.dev, 10)):
        pairs, counts = np.unique(np.stack([corpus[rows], targets[rows]]), axis=1, return_counts=True)
        assert pairs.T.tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]
        assert counts.tolist() == [size] * 4
    assert set(fold.train) == set(np.flatnonzero((corpus != 1) & ~held))  # nobody is lost
    assert set(fold.dev) == set(np.flatnonzero((corpus != 1) & held))
    assert fold.test.tolist() == np.flatnonzero(corpus == 1).tolist()


def test_one_teacher_is_taken_as_she_is() -> None:
    sources = [made_up("a", 3, [5, 1]), made_up("b", 3, [2, 2])]
    fold = cross_fold(sources, [1], seed=0)
    assert fold.train.tolist() == list(range(18, 26))
    assert fold.dev.tolist() == list(range(26, 30))
    assert fold.test.tolist() == list(range(18))


def features(rng: np.random.Generator, targets: Codes) -> npt.NDArray[np.float32]:
    centres = 2.0 * np.eye(3)[targets]
    return (centres + rng.normal(size=(len(targets), 3))).astype(np.float32)[:, None]


def taught(
    folder: Path, targets: Sequence[Codes], fold: Fold, variant: str, options: FrozenOptions = OPTIONS
) -> Outcome:
    """Run a cell on features that are made up; the labels given need not be those that made the features."""
    rng = np.random.default_rng(5)
    made = [rng.permutation(np.repeat(np.arange(3), [30, 30, 30])), np.repeat(np.arange(3), [60, 20, 10])]
    paths = {}
    for number, one in enumerate(made):
        paths[str(number)] = folder / f"{number}.safetensors"
        write_outcome(paths[str(number)], Outcome({}, {"own/x": features(rng, one)}), "", 0.0)
    given = {
        "corpora": [
            {
                "name": name,
                "features": {"cell": str(number), "detector": "own", "statistics": ["x"]},
                "targets": (targets[number] if number < len(targets) else made[number]).tolist(),
            }
            for number, name in enumerate("ab")
        ],
        "folds": [{"name": "a", **{part: getattr(fold, part).tolist() for part in ("train", "dev", "test")}}],
        "variant": variant,
        "classes": 3,
        "seeds": [0, 1],
        "options": asdict(options),
    }
    return teach_and_test(given, Earlier(paths))


@pytest.mark.parametrize("variant", ["raw", "standardised"])
def test_only_the_oracle_looks_at_test_labels(tmp_path: Path, variant: str) -> None:
    fold = Fold("a", np.arange(70), np.arange(70, 90), np.arange(90, 180))
    first = np.random.default_rng(5).permutation(np.repeat(np.arange(3), [30, 30, 30]))
    true = taught(tmp_path, [first], fold, variant)
    false = taught(tmp_path, [first, np.repeat([2, 1, 0], [80, 5, 5])], fold, variant)
    for adjustment in ("plain", "em", "bbse"):
        answers = true.arrays[f"b/{adjustment}"]
        assert answers.shape == (2, 90)
        np.testing.assert_array_equal(answers, false.arrays[f"b/{adjustment}"])
    assert (true.arrays["b/oracle"] != false.arrays["b/oracle"]).any()
    assert "a/plain" not in true.arrays


def test_shares_that_only_shifted_are_found_and_used(tmp_path: Path) -> None:
    fold = Fold("a", np.arange(70), np.arange(70, 90), np.arange(90, 180))
    first = np.random.default_rng(5).permutation(np.repeat(np.arange(3), [30, 30, 30]))
    truth = np.repeat(np.arange(3), [60, 20, 10])
    found = taught(tmp_path, [first], fold, "raw").arrays
    right = {name: (found[f"b/{name}"] == truth).mean() for name in ("plain", "em", "oracle")}
    assert right["em"] > right["plain"]
    assert right["oracle"] > right["plain"]
    assert found["b/off-em"].mean() < found["b/off-taught"].mean()
    np.testing.assert_allclose(found["b/off-taught"], 1 / 3)  # even shares against 60, 20 and 10 of 90


def test_shares_taught_are_even_under_balanced_weights_alone() -> None:
    targets = np.array([0, 0, 0, 1, 0, 1])
    fold = Fold("x", np.arange(3), np.array([3]), np.array([4, 5]))
    np.testing.assert_allclose(taught_shares(targets, fold, 2, FrozenOptions()), [0.5, 0.5])
    plain = FrozenOptions(class_weights="none")
    np.testing.assert_allclose(taught_shares(targets, fold, 2, plain), [0.75, 0.25])
    unseen = FrozenOptions(class_weights="none", refit=False)
    assert (taught_shares(targets, fold, 2, unseen) > 0).all()  # a class without a clip keeps a share


def test_standardised_corpora_differ_no_more_by_place_and_scale() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(50, 2, 3)).astype(np.float32)
    one[:, 0, 0] = 7.0  # never varies
    np.testing.assert_allclose(standardised(one * 40 + 1000), standardised(one), atol=2e-3)
    np.testing.assert_allclose(standardised(one).std(0)[1], 1.0, rtol=1e-4)
    assert (standardised(one)[:, 0, 0] == 0).all()


def test_a_small_corpus_is_in_every_resample_of_a_test_over_all() -> None:
    materials = [made_up("small", 2, [3, 3]).material, made_up("large", 10, [2, 2]).material]
    given: dict[str, dict[str, Codes]] = {}
    for one in materials:
        wrong = 1 - one.targets if one.name == "small" else one.targets
        answers = {"gap": wrong, "gap+sap": one.targets}
        given[one.name] = {System(name).key(one.name): each[None] for name, each in answers.items()}
    comparison = Answers(materials, given, StudyOptions(resamples=200, permutations=100)).compare(
        "within", System("gap"), System("gap+sap"), ("gap", "both")
    )
    assert comparison is not None
    assert comparison.ci == pytest.approx((0.5, 0.5))  # all of the small one, nothing of the large


def test_figures_over_corpora_are_means_of_each_corpus() -> None:
    rng = np.random.default_rng(0)
    sources = [made_up("a", 4, [5, 2]), made_up("b", 3, [1, 3]), made_up("c", 5, [2, 2])]
    materials = [one.material for one in sources]
    given: dict[str, dict[str, Codes]] = {one.name: {} for one in sources}
    for one in sources:
        for system in (System("gap"), System("gap+sap")):
            for teacher in ("a", "b", "c"):
                right = rng.random((2, len(one.held))) < 0.7
                given[one.name][system.key(teacher)] = np.where(
                    right, one.material.targets, 1 - one.material.targets
                )
    answers = Answers(materials, given, StudyOptions(resamples=100, permutations=100))

    def slow(metric: str, tested: Source, key: str) -> float:
        truth, hits = tested.material.targets, given[tested.name][key] == tested.material.targets
        if metric == "wa":
            return float(100 * hits.mean())
        return float(100 * np.mean([hits[:, truth == code].mean() for code in (0, 1)]))

    by_metric = {
        metric: Scores.of(answers, metric, ["gap", "gap+sap"], ["raw"])  # type: ignore[arg-type]
        for metric in ("ua", "wa")
    }
    for metric, scores in by_metric.items():
        cross = []
        for one in sources:
            for teacher in ("a", "b", "c"):
                measure = scores.pair(one.name, teacher, System("gap"))
                assert measure is not None
                assert measure.value == pytest.approx(slow(metric, one, System("gap").key(teacher)))
                if teacher != one.name:
                    cross.append(measure.value)
        mean = scores.mean("one other", System("gap"))
        assert mean is not None
        assert mean.value == pytest.approx(np.mean(cross))
    comparison = answers.compare("one other", System("gap"), System("gap+sap"), ("gap", "both"))
    gain = by_metric["ua"].mean_gain("one other", System("gap"), System("gap+sap"))
    assert comparison is not None
    assert isinstance(gain, Measure)
    assert 100 * comparison.difference == pytest.approx(gain.value)
    assert comparison.units == 12  # a speaker is one of her corpus
    one_seed = {name: {key: each[:1] for key, each in given[name].items()} for name in given}
    same = Answers(materials, one_seed, answers.options).compare(
        "one other", System("gap"), System("gap"), ("gap", "gap")
    )
    assert same is not None
    assert same.ci == (0.0, 0.0)  # the same corpora taught both
    assert by_metric["ua"].mean("all others", System("gap")) is None  # nobody taught so
    assert answers.compare("all others", System("gap"), System("gap+sap"), ("gap", "both")) is None
