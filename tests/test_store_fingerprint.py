"""How features were made: what has to agree, what need not, and what a user is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from subtone import upstreams
from subtone.errors import StoreError, UsageError
from subtone.extraction import FeatureStore
from subtone.extraction import fingerprint as room
from subtone.extraction import manifest as manifest_room
from subtone.extraction.fingerprint import SCHEMA, differences, fingerprint
from subtone.speech import get_detector
from tests.store_parts import MADE_BY, add, content
from tests.tiny_upstreams import write

ENERGY = get_detector("energy")
FBANK = upstreams.load("fbank:20")
BACKEND = {"name": "openvino", "precision": "fp32", "versions": {"openvino": "2026.4.1-21234-abc"}}


def made(**changes: Any) -> dict[str, Any]:
    return {**fingerprint(FBANK, ENERGY, ("gap_mean",), backend=BACKEND), **changes}


def test_a_fingerprint_is_json_and_says_how_the_features_were_made() -> None:
    found = made()
    assert json.loads(json.dumps(found)) == found
    assert found["schema"] == SCHEMA
    assert found["upstream"] == FBANK.fingerprint()
    assert found["detector"]["name"] == "energy"
    assert found["sample_rate_hz"] == 16_000
    assert found["backend"] == BACKEND
    assert set(found["libraries"]) == {"numpy", "soxr", "torch", "transformers"}
    silero = fingerprint(FBANK, get_detector("silero"), ("gap_mean",))["libraries"]
    assert set(silero) - set(found["libraries"]) == {"onnxruntime", "silero-vad"}


def test_layers_of_frames_are_numbers_however_they_were_asked_for(tmp_path: Path) -> None:
    encoder = upstreams.load(write(tmp_path / "w2v", "wav2vec2-group"))
    every = tuple(range(encoder.num_layers))
    assert fingerprint(encoder, ENERGY, (), frames="all")["frames"] == list(every)
    assert fingerprint(encoder, ENERGY, (), frames=(1, 0, 1))["frames"] == [0, 1]
    assert fingerprint(encoder, ENERGY, ())["frames"] is None
    with pytest.raises(UsageError, match=f"frames of layer 99: .* has layers 0 to {every[-1]}"):
        fingerprint(encoder, ENERGY, (), frames=(0, 99))


@pytest.mark.parametrize(
    ("library", "stored", "now", "fits"),
    [
        ("torch", "2.13.0", "2.13.1+cu130", True),
        ("torch", "2.13.0", "2.14.0", False),
        ("transformers", "5.23.0", "5.23.4", True),
        ("transformers", "5.23.0", "5.24.0", False),
        ("soxr", "1.1.0", "1.1.3", True),
        ("soxr", "0.5.0", "1.0.0", False),
        ("numpy", "2.3.1", "2.4.6", True),
        ("numpy", "1.26.4", "2.0.0", False),
        ("onnxruntime", "1.18.0", "1.31.1", True),
        ("onnxruntime", "1.31.1", "2.0.0", False),
        ("silero-vad", "6.2.2", "6.2.3", False),
        ("torch", "2.13.0", "2.13", True),
        ("torch", "2.13.0a0+git1", "2.13.0", True),
        ("torch", "unknown", "2.13.0", False),
    ],
)
def test_releases_that_move_features_by_no_more_than_the_last_digits_fit(
    library: str, stored: str, now: str, fits: bool
) -> None:
    told = differences({"libraries": {library: stored}}, {"libraries": {library: now}})
    assert told == ([] if fits else [f"libraries ({library} {stored}, now {now})"])


def test_versions_of_a_backend_follow_the_same_rule() -> None:
    patch = {**BACKEND, "versions": {"openvino": "2026.4.2-1"}}
    assert differences(made(), made(backend=patch)) == []
    minor = {**BACKEND, "versions": {"openvino": "2026.5.0"}}
    assert differences(made(), made(backend=minor)) == [
        "backend (versions openvino 2026.4.1-21234-abc, now 2026.5.0)"
    ]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("backend", {**BACKEND, "precision": "bf16"}, "backend (precision fp32, now bf16)"),
        ("leave_out_silence_s", 0.5, "leave_out_silence_s (none, now 0.5)"),
        ("frames", [0, 2], "frames (none, now 0 2)"),
        ("chunking", {"overlap_s": 1.0}, "chunking (none, now overlap_s 1.0)"),
        ("statistics", ["gap_mean", "gap_std"], "statistics (gap_mean, now gap_mean gap_std)"),
        ("detector", get_detector("energy", range_db=40.0).config(), "detector (range_db 30.0, now 40.0)"),
        ("something_new", 1, "something_new (none, now 1)"),
    ],
)
def test_a_store_made_otherwise_is_refused_with_both_values(
    tmp_path: Path, name: str, value: object, told: str
) -> None:
    FeatureStore(tmp_path, made())
    before = content(tmp_path)
    with pytest.raises(StoreError) as error:
        FeatureStore(tmp_path, made(**{name: value}))
    assert f"was made with another {told}; " in str(error.value)
    assert "Name another --store folder, or delete this one" in str(error.value)
    assert content(tmp_path) == before


def test_what_is_in_the_store_and_no_longer_asked_for_differs_as_well() -> None:
    assert differences(made(something_old=1), made()) == ["something_old (1, now none)"]


def test_another_upstream_is_named_and_the_same_name_with_other_weights_as_well() -> None:
    other = fingerprint(upstreams.load("fbank:30"), ENERGY, ("gap_mean",), backend=BACKEND)
    assert differences(made(), other) == ["upstream (fbank:20, now fbank:30)"]
    (told,) = differences(made(), made(upstream="f" * 64))
    assert told == f"upstream (fbank:20 with weights {FBANK.fingerprint()[:12]}, now {'f' * 12})"


def test_the_name_of_an_upstream_is_told_and_not_compared(tmp_path: Path) -> None:
    FeatureStore(tmp_path, made())
    moved = made(about={"upstream": "/elsewhere/fbank"})
    assert FeatureStore(tmp_path, moved).made_by["about"] == {"upstream": "fbank:20"}


def test_a_store_of_another_schema_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(FeatureStore(tmp_path, MADE_BY), range(2))
    for schema, way in ((SCHEMA + 1, "have to be extracted again"), (SCHEMA - 1, "install a newer Subtone")):
        with monkeypatch.context() as patch:
            patch.setattr(room, "SCHEMA", schema)
            patch.setattr(manifest_room, "SCHEMA", schema)
            for attempt in (lambda: FeatureStore(tmp_path, MADE_BY), lambda: FeatureStore.open(tmp_path)):
                with pytest.raises(
                    StoreError, match=f"schema {SCHEMA}, this version of Subtone has {schema}; .*{way}"
                ):
                    attempt()


def test_how_a_store_was_made_is_known_before_it_is_opened(tmp_path: Path) -> None:
    assert FeatureStore.how(tmp_path) is None
    FeatureStore(tmp_path, made())
    found = FeatureStore.how(tmp_path)
    assert found is not None
    assert found["backend"] == BACKEND


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff\xfe", '{"schema": 2, "about": 3}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "store.json").write_bytes(text.encode("latin-1"))
    for attempt in (FeatureStore.open, FeatureStore.how, lambda folder: FeatureStore(folder, MADE_BY)):
        with pytest.raises(StoreError, match=r"store\.json: is damaged \(.*\); extract into another folder"):
            attempt(tmp_path)
