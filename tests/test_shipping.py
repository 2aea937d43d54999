"""What ships inside the package: found by name, small, and no burden on bundles that users save."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from subtone import bundle, upstreams
from subtone.errors import UpstreamError
from subtone.upstreams import shipping
from subtone.upstreams.mini import write_mini
from subtone.upstreams.prosody import Standardisation
from tests import synthetic
from tests.small_models import model
from tests.tiny_upstreams import network

NAME = "subtone-mini"
MOST_MB = 25.0
WAVES = [synthetic.utterance(0.5 + 0.2 * i, 150 + 200 * i, seed=i) for i in range(2)]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose upstream is a tiny random one."""
    monkeypatch.setattr(shipping, "ROOT", tmp_path / "shipped")
    folder = write_mini(tmp_path / "shipped" / NAME, network("whisper-80").get_encoder(), Standardisation())
    (folder / "card.md").write_text("# A card\n")
    return folder


def test_an_upstream_that_ships_is_loaded_by_name(inside: Path) -> None:
    upstream = upstreams.load(NAME)
    assert upstream.config() == {"kind": "shipped", "model_type": NAME, "source": NAME}
    assert upstream.fingerprint() == upstreams.load(inside).fingerprint()
    (one,) = shipping.shipped()
    assert (one.name, one.folder, one.card.read_text()) == (NAME, inside, "# A card\n")
    assert one.size_mb == pytest.approx(sum(f.stat().st_size for f in inside.iterdir()) / 1e6, abs=0.05)


def test_a_bundle_names_it_without_a_copy_and_notices_another_in_its_place(
    inside: Path, tmp_path: Path
) -> None:
    saved = model(upstreams.load(NAME))
    folder = bundle.save(saved, tmp_path / "m", with_upstream=False)
    assert not (folder / "upstream").exists()
    described = json.loads((folder / "config.json").read_text())["upstream"]
    assert described["kind"] == "shipped"
    assert str(tmp_path) not in json.dumps(described)
    loaded = bundle.load(folder)
    np.testing.assert_array_equal(loaded.score(WAVES).probabilities, saved.score(WAVES).probabilities)
    write_mini(inside, network("whisper-80", d_model=8).get_encoder(), Standardisation())
    with pytest.raises(UpstreamError, match="is not the one that was saved"):
        bundle.load(folder)


@pytest.mark.usefixtures("inside")
def test_a_users_bundle_of_it_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = model(upstreams.load(NAME))
    folder = bundle.save(saved, tmp_path / "m")
    monkeypatch.setattr(shipping, "ROOT", tmp_path / "nothing")
    loaded = bundle.load(folder)
    np.testing.assert_array_equal(loaded.score(WAVES).probabilities, saved.score(WAVES).probabilities)
    again = bundle.load(bundle.save(loaded, tmp_path / "again"))
    np.testing.assert_array_equal(again.score(WAVES).probabilities, saved.score(WAVES).probabilities)


def test_all_that_ships_is_small() -> None:
    total = sum(one.size_mb for one in (*shipping.shipped(), *bundle.shipped()))
    assert total <= MOST_MB


def test_every_upstream_that_ships_loads_has_a_card_and_its_notice() -> None:
    for one in shipping.shipped():
        assert upstreams.load(one.name).config()["kind"] == "shipped"
        assert one.card.read_text(encoding="utf-8").startswith("# ")
        assert "Permission is hereby granted" in (one.folder / "NOTICE").read_text(encoding="utf-8")


def test_models_that_ship_carry_no_upstream_of_their_own() -> None:
    for one in bundle.shipped():
        assert not (one.folder / bundle.UPSTREAM).exists()
