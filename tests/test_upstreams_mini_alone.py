"""The small encoder that ships can be had without the prosody beside it, and the shipped models stand on that."""

from __future__ import annotations

import numpy as np
import pytest

import subtone
from subtone import upstreams
from tests.tiny_upstreams import noise


def test_the_encoder_alone_gives_the_first_numbers_of_each_frame() -> None:
    whole, alone = upstreams.load("subtone-mini"), upstreams.load("subtone-mini:speech")
    (beside,), (speech,) = whole.extract([noise(20_000)]), alone.extract([noise(20_000)])
    assert speech.shape[-1] == alone.dim < whole.dim
    np.testing.assert_array_equal(beside[..., : alone.dim], speech)
    assert whole.fingerprint() != alone.fingerprint()


def test_the_encoder_alone_is_found_again_by_its_description() -> None:
    alone = upstreams.load("subtone-mini:speech")
    again = upstreams.loading.load_from_config({**alone.config(), "fingerprint": alone.fingerprint()})
    assert (again.name, again.dim) == (alone.name, alone.dim)


@pytest.mark.parametrize(("name", "classes"), [("default", 4), ("default-7", 7)])
def test_the_shipped_models_stand_on_it(name: str, classes: int) -> None:
    model = subtone.load(name)
    assert model.upstream.name == "subtone-mini:speech"
    assert len(model.labels) == classes
    probabilities = model.score([noise(32_000)]).probabilities
    assert probabilities.shape == (1, classes)
    np.testing.assert_allclose(probabilities.sum(), 1)
