"""Studies of dilution, detectors and robustness: on tones, from corpora to a folder that answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from subtone.errors import UsageError
from subtone.evaluation.findings import read_findings
from subtone.speech import SpeechSegments
from subtone.studies import run as studies
from subtone.studies.conditions import Condition, Heard, dilutions, drawn, hear
from subtone.studies.dilution_findings import CONTESTS
from subtone.studies.encode import quality
from subtone.studies.figures import resampled_ua
from tests import synthetic

QUICK = (
    "detector={name: energy, options: {min_speech_s: 0.03, min_silence_s: 0.03, speech_pad_s: 0.0}}",
    "training={components: 8, hidden: 8, steps: 20}",
    "seeds=[0]",
    "k=2",
    "resamples=100",
    "permutations=100",
)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.manifest(tmp_path_factory.mktemp("tones"), speakers=4, takes=1)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(4):
        wave = synthetic.utterance(0.5, 400.0 + 100 * number, 0.2, seed=number)
        synthetic.write(folder / f"laugh/{number}.wav", wave)
    return folder


def make(study: str, tones: Path, out: Path, *settings: str) -> Path:
    folder, failed = studies.run(
        study, {"manifest": tones}, out=out, upstream="fbank:20", settings=[*QUICK, *settings], jobs=1
    )
    assert failed == ()
    return folder


@pytest.fixture(scope="module")
def dilution(tones: Path, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("dilution", tones, tmp_path_factory.mktemp("d") / "out", f"sounds={sounds}")


def test_dilution_measures_every_system_under_every_condition(dilution: Path) -> None:
    found = read_findings(dilution)
    table = next(one for one in found.tables if one.name == "ua-clean-manifest")
    assert table.columns[1:] == (
        *("gap", "sap", "sap-segment", "gap+sap", "gap+sap-segment", "gap-cut", "gap+sap-cut"),
        *("attentive", "sap-attention"),
    )
    assert (
        len(table.rows) == 1 + 3 + 4 + 12 + 9
    )  # all speech; silence, room; noise and sounds at three levels
    assert all(0 <= cell.value <= 100 for row in table.rows for cell in row[1:])
    assert len(found.conclusions) == 2 + len(CONTESTS)
    assert (dilution / "README.md").read_text().startswith("# Dilution")


def test_a_study_is_taken_up_where_it_was(dilution: Path, tones: Path, sounds: Path) -> None:
    work = dilution.with_name("out.work")
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    page = (dilution / "study.json").read_text()
    folder, _ = studies.run(
        "dilution",
        {"manifest": tones},
        out=dilution,
        upstream="fbank:20",
        settings=[*QUICK, f"sounds={sounds}"],
        jobs=1,
        overwrite=True,
    )
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")} == before
    again = json.loads((folder / "study.json").read_text())
    assert again["findings"] == json.loads(page)["findings"]


def test_detectors_are_held_against_where_speech_was_put(tones: Path, sounds: Path, tmp_path: Path) -> None:
    found = read_findings(make("detectors", tones, tmp_path / "out", f"sounds={sounds}"))
    table = found.tables[0]
    names = [row[0] for row in table.rows]
    assert "silero 0.5, 0.25 s" in names
    assert len(names) == 27
    for row in table.rows:
        speech, false, balanced = (cell.value for cell in row[1:4])
        assert balanced == pytest.approx((speech + 100 - false) / 2)


def test_robustness_loses_nothing_to_nothing(tones: Path, tmp_path: Path) -> None:
    folder = make("robustness", tones, tmp_path / "out", "conditions=[gain-20db, g711-alaw, speed-1.25]")
    table = read_findings(folder).tables[0]
    assert table.rows[0][1] == "As it is"
    assert len(table.rows) == 4
    for row in table.rows[1:]:
        clean, changed, lost = table.rows[0][2].value, row[2].value, row[5].value
        assert lost == pytest.approx(clean - changed)


@pytest.mark.parametrize(
    ("study", "settings", "message"),
    [
        ("dilutoin", (), "did you mean 'dilution'"),
        ("dilution", ("evry.nemo=4",), "did you mean 'every'"),
        ("dilution", ("k=1",), "k: "),
        ("robustness", ("conditions=[opus]",), "no condition 'opus'"),
        ("robustness", ("k",), "must be KEY=VALUE"),
        ("dilution", ("every={ravdess: 2}",), "is not among those given"),
        ("dilution", ("classes=[anger, joy]",), "joy"),
    ],
)
def test_a_mistake_is_told_before_any_work(
    study: str, settings: tuple[str, ...], message: str, tones: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        studies.run(
            study, {"manifest": tones}, out=tmp_path / "out", upstream="fbank", settings=settings, jobs=1
        )


def test_a_clip_that_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    table = synthetic.manifest(tmp_path / "tones", speakers=4, takes=1)
    (tmp_path / "tones" / "s1" / "anger_0.wav").write_text("no audio")
    folder, failed = studies.run(
        "robustness",
        {"manifest": table},
        out=tmp_path / "out",
        upstream="fbank:20",
        settings=[*QUICK, "conditions=[gain-20db]"],
        jobs=1,
    )
    assert [name for name, _ in failed] == ["manifest/anger_0.wav"]
    assert (folder / "study.json").exists()


def test_a_clip_lies_at_the_same_place_whatever_is_around_it() -> None:
    clip = synthetic.utterance(0.8, 300.0, 0.3)
    noise = [synthetic.utterance(0.5, 500.0, 0.2, seed=n) for n in range(2)]
    places = [
        hear(clip, one, (0, 5, 0), noise).placed for one in dilutions() if one.share == 0.5 and one.filler
    ]
    assert len({(int(one.starts[0]), int(one.ends[0])) for one in places if one is not None}) == 1


def test_mixed_dilutions_come_in_all_kinds() -> None:
    kinds = {drawn((0, row, 1)).label for row in range(400)}
    assert {one.filler for one in map(drawn, ((0, row, 1) for row in range(50)))} == {
        *("silence", "room", "noise", "sounds")
    }
    assert len(kinds) > 20
    assert drawn((0, 3, 1)) == drawn((0, 3, 1))


def test_quality_counts_loud_speech_and_what_was_added() -> None:
    wave = np.zeros(16_000, np.float32)
    loud = SpeechSegments(np.array([4000]), np.array([6000]), 16_000)
    placed = SpeechSegments(np.array([3200]), np.array([8000]), 16_000)
    heard = Heard(wave, loud, placed)
    everything = quality(heard, SpeechSegments.whole(16_000))
    assert everything == pytest.approx([0.12, 0, 0.7, 0], abs=0.011)
    nothing = quality(heard, SpeechSegments.none(16_000))
    assert nothing == pytest.approx([0, 0.12, 0, 0.7], abs=0.011)
    assert quality(heard, placed) == pytest.approx([0.12, 0, 0, 0.7], abs=0.011)
    assert quality(Heard(wave), placed).tolist() == [0, 0, 0, 0]


def test_resampled_ua_is_that_of_the_answers() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    answers = {name: rng.integers(0, 3, (2, 60)) for name in ("a", "b")}
    found = resampled_ua(truth, answers, 3, list(np.arange(60) // 6), resamples=200, seed=0)
    for name, given in answers.items():
        assert found.values[name] == pytest.approx(
            100 * np.mean([balanced_accuracy_score(truth, one) for one in given])
        )
    assert found.of(lambda a: a - a, "a").high == 0


def test_a_condition_reads_back() -> None:
    for one in dilutions():
        assert Condition(**one.to_dict()) == one


def test_a_clip_that_fails_under_a_condition_is_left_out_under_all(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from subtone.studies import encode

    def spoilt(wave: np.ndarray, what: Condition, seed: tuple[int, ...], sounds: list[np.ndarray]) -> Heard:
        if what.name == "gain-20db" and seed[1] == 2:
            raise UsageError("the coder gave up")
        return hear(wave, what, seed, sounds)

    monkeypatch.setattr(encode, "hear", spoilt)
    folder, failed = studies.run(
        "robustness",
        {"manifest": tones},
        out=tmp_path / "out",
        upstream="fbank:20",
        settings=[*QUICK, "conditions=[gain-20db]"],
        jobs=1,
    )
    assert failed == (("manifest/heard/gain-20db: clip 3", "the coder gave up"),)
    assert read_findings(folder).tables[0].rows[1][2].value >= 0


def test_dilution_without_sounds_has_three_fillers(tones: Path, tmp_path: Path) -> None:
    found = read_findings(make("dilution", tones, tmp_path / "out", "networks=false"))
    assert len(found.tables[0].rows) == 1 + 3 + 4 + 12


@pytest.mark.parametrize(
    ("study", "setting", "message"),
    [
        ("dilution", "sounds=no/such/folder", "no such folder"),
        ("detectors", "share=0", "share"),
        ("detectors", "snr_db=.nan", "snr_db"),
    ],
)
def test_settings_are_checked_first(
    study: str, setting: str, message: str, tones: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        studies.run(
            study, {"manifest": tones}, out=tmp_path / "o", upstream="fbank", settings=[setting], jobs=1
        )


def test_a_recording_in_two_corpora_is_refused(tones: Path) -> None:
    from subtone.studies.material import _check_apart, _table
    from subtone.studies.options import StudyOptions

    table = _table("manifest", tones, StudyOptions())
    with pytest.raises(UsageError, match="in both corpus 'a' and corpus 'b'"):
        _check_apart({"a": table, "b": table})


def test_frames_that_would_not_fit_are_refused_before_any_work() -> None:
    from subtone.studies.hearing import check_memory

    check_memory("fbank:20", 3600.0)
    with pytest.raises(UsageError, match="networks=false"):
        check_memory("fbank:80", 2_000_000.0)


@pytest.mark.parametrize("name", studies.names())
def test_every_setting_of_a_study_is_explained_and_reads_back(name: str) -> None:
    import yaml

    shown = studies.show(name)
    fields = studies.get(name).options.model_fields
    for part in shown.split("\n\n"):
        assert part.startswith("# "), part
        assert len(part.splitlines()[0]) > 10, part
    assert list(yaml.safe_load(shown)) == list(fields)
    assert studies.get(name).options(**yaml.safe_load(shown)) == studies.get(name).options()
