"""The study of layers: speech against the rest from moments, honest picks, and a whole small study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from subtone.errors import UsageError
from subtone.studies import run as studies
from subtone.studies.layer_energy import SUMS, energies, resampled_energies, rest_of
from subtone.studies.layer_findings import effective
from subtone.studies.layers import picked
from tests import tiny_upstreams
from tests.synthetic import manifest

Floats = npt.NDArray[np.float64]


def clips(count: int = 5, dim: int = 4, seed: int = 0) -> list[tuple[Floats, npt.NDArray[np.bool_]]]:
    """Return frames ``(frames, dim)`` and which of them are speech: speech is larger, and one dimension is huge."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        speech = rng.random(20 + 7 * number) < 0.7
        speech[:3], speech[3:6] = True, False
        frames = rng.normal(size=(len(speech), dim)) * (1 + speech[:, None]) + 3 * speech[:, None] + 0.5
        frames[:, 0] *= 100
        made.append((frames, speech))
    return made


def moments(made: list[tuple[Floats, npt.NDArray[np.bool_]]]) -> list[Floats]:
    """Return what extraction stores of such clips: means and deviations of all frames and of speech, and counts."""
    stored = [
        [f.mean(0) for f, _ in made],
        [f.std(0) for f, _ in made],
        [f[s].mean(0) for f, s in made],
        [f[s].std(0) for f, s in made],
    ]
    as_stored = [np.array(one, np.float32) for one in stored]
    counts = [np.array([len(s) for _, s in made]), np.array([s.sum() for _, s in made])]
    return [*as_stored, *counts]  # type: ignore[list-item]


def test_moments_of_the_rest_are_those_of_its_frames() -> None:
    made = clips()
    *stored, frames, spoken = moments(made)
    mean, variance = rest_of(*stored, spoken / frames)  # type: ignore[call-arg]
    scale = stored[1].astype(np.float64)  # what is stored in float32 has its digits relative to this
    np.testing.assert_allclose(mean / scale, [f[~s].mean(0) for f, s in made] / scale, atol=1e-5)
    np.testing.assert_allclose(variance / scale**2, [f[~s].var(0) for f, s in made] / scale**2, atol=1e-5)


def test_a_rest_that_is_small_far_and_steady_keeps_its_digits() -> None:
    frames = np.full((1000, 1), 50.0)
    frames[:990, 0] += np.random.default_rng(0).normal(size=990)
    speech = np.arange(1000) < 990
    *stored, number, spoken = moments([(frames, speech)])
    mean, variance = rest_of(*stored, spoken / number)  # type: ignore[call-arg]
    assert mean[0, 0] == pytest.approx(50.0, abs=1e-3)
    assert variance[0, 0] == pytest.approx(0.0, abs=1e-3)


def test_energies_are_those_that_frames_give() -> None:
    made = clips()
    found = energies(*moments(made))
    every = np.concatenate([f for f, _ in made])
    rms, deviation = np.sqrt((every**2).mean(0)), every.std(0)
    wanted: dict[str, list[float]] = {name: [] for name in SUMS}
    for frames, speech in made:
        within = []
        for name, part in (("speech", frames[speech]), ("rest", frames[~speech])):
            wanted[f"raw_{name}"].append((part**2).sum(1).mean())
            wanted[f"even_{name}"].append(((part / rms) ** 2).sum(1).mean())
            within.append((((part - part.mean(0)) / deviation) ** 2).sum(1).mean())
            wanted[f"motion_{name}"].append(within[-1])
        apart = (frames[speech].mean(0) - frames[~speech].mean(0)) / deviation
        wanted["between"].append((apart**2).sum() / 4)
        wanted["within"].append(sum(within) / 2)
    assert set(found) == set(SUMS)
    for name in SUMS:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, err_msg=name)


def test_between_and_within_are_the_variance_of_a_clip_of_equally_much_of_both() -> None:
    frames, _ = clips(1)[0]
    frames = frames[:20]
    speech = np.arange(20) < 10
    found = energies(*moments([(frames, speech)]))
    # Scaled by the corpus's deviations, and this clip is the corpus: each of the dimensions has variance 1.
    assert found["between"][0] + found["within"][0] == pytest.approx(frames.shape[1], rel=1e-5)


def test_a_dimension_that_never_varies_counts_for_nothing() -> None:
    made = [(np.concatenate([f, np.full((len(f), 1), 7.0)], 1), s) for f, s in clips()]
    found, without = energies(*moments(made)), energies(*moments(clips()))
    for name in ("motion_speech", "motion_rest", "between", "within"):
        np.testing.assert_allclose(found[name], without[name], rtol=1e-6)


def test_clips_that_lack_either_kind_do_not_count() -> None:
    sums = {name: np.array([[1.0], [4.0], [99.0]]) for name in SUMS}
    used = np.array([True, True, False])
    found = resampled_energies(sums, used, ["a", "b", "b"], resamples=100, seed=0)
    assert found is not None
    assert (found.clips, found.speakers, found.values["raw_rest"].tolist()) == (2, 2, [2.5])
    assert set(found.draws["raw_rest"][:, 0]) == {1.0, 2.5, 4.0}
    assert found.decibels("raw")[0].text() == "0.0 (0.0 to 0.0)"
    assert resampled_energies(sums, np.zeros(3, bool), ["a", "b", "b"], resamples=10, seed=0) is None


def test_the_layer_of_a_fold_is_the_best_on_its_development_mean_over_seeds_and_the_lowest_of_equals() -> (
    None
):
    dev = np.array([[[0.5, 0.5], [0.2, 0.4]], [[0.9, 0.0], [0.3, 0.3]]])  # (layers, folds, seeds)
    assert picked(dev).tolist() == [0, 0]
    assert picked(dev[::-1]).tolist() == [1, 0]


def test_a_plain_mean_takes_all_layers_in_effect_and_a_single_one_takes_one() -> None:
    np.testing.assert_allclose(effective([[0.25] * 4, [0, 0, 1, 0]]), [4, 1])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    upstream = tiny_upstreams.write(folder / "upstream", "whisper-80")
    table = manifest(folder / "corpus", speakers=4)
    out, failed = studies.run(
        "layers",
        {"manifest": table},
        out=folder / "out",
        upstream=str(upstream),
        settings=[
            "k=3",
            "seeds=[0, 1]",
            "resamples=100",
            "permutations=100",
            "detector.name=energy",
            "detector.options={min_speech_s: 0.03, min_silence_s: 0.03, speech_pad_s: 0.0}",
            "training={steps: 20, components: 8}",
        ],
        jobs=1,
    )
    assert not failed
    return out


def test_a_study_has_every_layer_all_of_them_the_mix_and_the_pick_and_answers_in_sentences(ran: Path) -> None:
    findings = json.loads((ran / "study.json").read_text())["findings"]
    tables = {one["name"]: one for one in findings["tables"]}
    layers = [row[0] for row in tables["ua-manifest"]["rows"]]
    assert layers[-3:] == ["all layers side by side", "learned mix of layers", "layer picked on development"]
    assert layers[:-3] == ["layer 0", "layer 1", "layer 2"]
    assert len(tables["against-all-layers"]["rows"]) == 6
    assert len(findings["conclusions"]) == 7
    assert {one["name"] for one in findings["curves"]} == {
        "ua-manifest-layers",
        "mix-manifest-layers",
        "speech-manifest-layers",
    }


def test_weights_of_the_mix_are_a_distribution_over_the_layers(ran: Path) -> None:
    findings = json.loads((ran / "study.json").read_text())["findings"]
    (table,) = (one for one in findings["tables"] if one["name"] == "mix-manifest")
    for system in (1, 2, 3):
        assert sum(row[system]["value"] for row in table["rows"][:-1]) == pytest.approx(100)
        assert 1 <= table["rows"][-1][system]["value"] <= 3


def test_an_upstream_of_one_layer_is_refused_with_the_reason(tmp_path: Path) -> None:
    table = manifest(tmp_path / "corpus", speakers=4)
    with pytest.raises(UsageError, match="one layer"):
        studies.run("layers", {"manifest": table}, out=tmp_path / "out", upstream="fbank:20", jobs=1)
