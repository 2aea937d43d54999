"""The model: from waves to probabilities by the parts that training used, the same in any company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import subtone
from subtone.extraction import clips_of, extract
from subtone.speech import SpeechSegments
from tests import synthetic, tiny_upstreams
from tests.small_models import model

WAVES = [synthetic.utterance(0.4 + 0.2 * i, 150 + 200 * i, seed=i) for i in range(3)]


def test_scores_are_the_mean_probability_of_the_classifiers_at_the_temperature() -> None:
    made = model()
    files = made.score(WAVES)
    features = np.concatenate(
        [made.score([w]).embeddings for w in WAVES]
    )  # (clips, dim), what the classifiers see
    wanted = np.zeros((3, 3))
    for classifier in made.classifiers:
        logits = classifier(torch.from_numpy(features)[:, None]).detach().double().numpy() / 1.7
        odds = np.exp(logits - logits.max(1, keepdims=True))
        wanted += odds / odds.sum(1, keepdims=True) / 2
    np.testing.assert_allclose(files.probabilities, wanted, rtol=1e-4)
    np.testing.assert_allclose(files.probabilities.sum(1), 1)
    assert files.probabilities.dtype == np.float64
    assert len({tuple(row) for row in files.probabilities.round(6)}) == 3


@pytest.mark.parametrize("family", ["fbank", "wav2vec2-group", "whisper-80"])
def test_a_clips_scores_are_the_same_alone_in_a_batch_and_from_its_features(
    family: str, tmp_path: Path
) -> None:
    upstream = None
    if family != "fbank":
        upstream = subtone.upstreams.load(tiny_upstreams.write(tmp_path / "up", family))
    made = model(upstream, layers="mix")
    together = made.score(WAVES).probabilities
    alone = np.concatenate([made.score([w]).probabilities for w in WAVES])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    files = [synthetic.write(tmp_path / f"{i}.wav", w) for i, w in enumerate(WAVES)]
    loaded = [subtone.load_audio(f) for f in files]
    stored = extract(clips_of(files), made.upstream, made.detector, store=tmp_path / "store").features
    np.testing.assert_allclose(
        made.score_features(stored).probabilities, made.score(loaded).probabilities, rtol=1e-5
    )


def test_speech_that_is_given_is_used_and_else_found_by_the_models_own_detector() -> None:
    made = model()
    found = [made.detector.detect(w) for w in WAVES]
    assert np.array_equal(made.score(WAVES).probabilities, made.score(WAVES, found).probabilities)
    whole = [SpeechSegments.whole(len(w)) for w in WAVES]
    assert not np.allclose(made.score(WAVES, whole).probabilities, made.score(WAVES).probabilities)
    with pytest.raises(ValueError, match="shorter"):
        made.score(WAVES, found[:2])


def test_no_clips_have_no_scores() -> None:
    assert model().score([]).probabilities.shape == (0, 3)


def test_a_higher_temperature_is_less_sure_of_the_same_answer() -> None:
    one = model(seeds=1)
    cold, warm = (replace(one, temperature=t).score(WAVES).probabilities for t in (0.5, 5.0))
    assert (cold.argmax(1) == warm.argmax(1)).all()
    assert (cold.max(1) > warm.max(1)).all()


def test_a_model_predicts_saves_and_is_what_it_was(tmp_path: Path) -> None:
    made = model()
    file = synthetic.write(tmp_path / "a.wav", synthetic.utterance(2.0))
    folder = made.save(tmp_path / "bundle")
    again = subtone.load(folder)
    assert again.predict(file).table.equals(made.predict(file).table)
    assert list(made.predict(file).table[["anger", "happiness", "sadness"]].sum(axis=1).round(6)) == [1.0]
