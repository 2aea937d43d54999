"""Bundles: loaded equals saved, and a folder that is broken, hostile or of the future is refused by name."""

from __future__ import annotations

import json
import os
import pickle
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import subtone
from subtone import bundle, upstreams
from subtone.errors import BundleError, SubtoneError, UpstreamError
from tests import synthetic, tiny_upstreams
from tests.small_models import model

WAVES = [synthetic.utterance(0.4 + 0.2 * i, 150 + 200 * i, seed=i) for i in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundle.save(model(), tmp_path / "bundle")


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a bundle's configuration."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def retouch(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change a bundle's weights."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("layers", ["mix", "concat"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("components", [None, 6])
def test_loaded_equals_saved_bit_for_bit(
    tmp_path: Path, layers: Any, head: Any, components: int | None
) -> None:
    saved = model(layers=layers, head=head, components=components, seeds=3)
    loaded = bundle.load(bundle.save(saved, tmp_path / "m"))
    for ours, theirs in zip(saved.score(WAVES).__dict__.values(), loaded.score(WAVES).__dict__.values()):
        assert np.array_equal(ours, theirs)
    for name in ("labels", "statistics", "temperature", "trained_on", "card"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.detector.config() == saved.detector.config()
    assert not any(c.training for c in loaded.classifiers)


def test_a_bundle_is_the_documented_files_and_others_may_read_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        upstream = upstreams.load(tiny_upstreams.write(tmp_path / "up", "hubert-group"))
        folder = bundle.save(model(upstream), tmp_path / "m")
    finally:
        os.umask(before)
    files = {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*")}
    assert files == {
        "config.json": 0o644,
        "model.safetensors": 0o644,
        "card.md": 0o644,
        "upstream": 0o755,
        "upstream/config.json": 0o644,
        "upstream/model.safetensors": 0o644,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    config = json.loads((folder / "config.json").read_text())
    assert config["schema_version"] == 1
    assert config["labels"] == ["anger", "happiness", "sadness"]
    assert config["sample_rate_hz"] == 16_000
    assert {"upstream", "statistics", "detector"} <= set(config)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "up"]


def test_the_upstream_inside_works_without_its_source_and_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_upstreams.write(tmp_path / "up", "wavlm-layer")
    saved = model(upstreams.load(source))
    folder = bundle.save(saved, tmp_path / "m")
    wanted = saved.score(WAVES).probabilities
    source.rename(tmp_path / "gone")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert np.array_equal(bundle.load(folder).score(WAVES).probabilities, wanted)


def test_a_bundle_without_its_upstream_finds_it_again_and_notices_another_in_its_place(
    tmp_path: Path,
) -> None:
    source = tiny_upstreams.write(tmp_path / "up", "wav2vec2-layer")
    saved = model(upstreams.load(source))
    folder = bundle.save(saved, tmp_path / "m", with_upstream=False)
    assert not (folder / "upstream").exists()
    assert np.array_equal(bundle.load(folder).score(WAVES).probabilities, saved.score(WAVES).probabilities)
    tensors = load_file(source / "model.safetensors")
    tensors["encoder.layer_norm.bias"] += 1
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(UpstreamError, match="is not the one that was saved"):
        bundle.load(folder)
    source.rename(tmp_path / "gone")
    with pytest.raises(UpstreamError, match=r"up': no such folder"):
        bundle.load(folder)


def test_a_relative_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle.save(model(), "deep/er/m") == Path("deep/er/m")
    assert bundle.load("deep/er/m").labels == ("anger", "happiness", "sadness")
    assert bundle.load(Path("deep/er/m").absolute()).labels == ("anger", "happiness", "sadness")


def test_what_exists_is_never_replaced_unasked_and_only_a_bundle_is_when_asked(tmp_path: Path) -> None:
    folder = bundle.save(model(seeds=1), tmp_path / "m")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(BundleError, match=r"exists already; .*--overwrite"):
        bundle.save(model(seeds=2), folder)
    assert (folder / "model.safetensors").read_bytes() == before
    (folder / "notes.txt").write_text("of the old bundle")
    bundle.save(model(seeds=2), folder, overwrite=True)
    assert len(bundle.load(folder).classifiers) == 2
    assert not (folder / "notes.txt").exists()
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for taken in (mine, tmp_path / "file"):
        with pytest.raises(BundleError, match="is no model"):
            bundle.save(model(), taken, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "mine"
    with pytest.raises(BundleError, match="could not be written"):
        bundle.save(model(), tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "m", "thesis"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_the_old_bundle_or_nothing(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "m"
    if overwrite:
        bundle.save(model(seeds=1), target)
    before = {p.name: p.read_bytes() for p in target.iterdir()} if overwrite else None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    code = (
        "import resource, sys; from subtone import bundle; from tests.small_models import model\n"
        "made = model(seeds=9)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try: bundle.save(made, {str(target)!r}, overwrite={overwrite})\n"
        "except Exception as error: print(type(error).__name__, error); sys.exit(3)\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("BundleError ")
    assert "could not be written" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == (["m"] if overwrite else [])
    if before is not None:
        assert {p.name: p.read_bytes() for p in target.iterdir()} == before


def test_a_model_that_does_not_exist_names_its_nearest_and_a_folder_that_is_none_says_so(
    tmp_path: Path,
) -> None:
    with pytest.raises(BundleError, match="neither a folder nor a model that ships"):
        bundle.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"holds no config\.json, so it is no bundle"):
        bundle.load(tmp_path)


def test_a_newer_schema_says_to_upgrade(folder: Path) -> None:
    edit(folder, lambda c: c.update(schema_version=2, brand_new={}))
    with pytest.raises(BundleError, match=r"schema version 2 is newer .* upgrade with pip install -U"):
        bundle.load(folder)


class _Bomb:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/subtone-was-here",))


@pytest.mark.parametrize("place", ["extra.pkl", "model.pt", "upstream/pytorch_model.bin", "deep/er/x.CKPT"])
def test_a_pickle_anywhere_in_a_bundle_is_refused_unopened(folder: Path, place: str) -> None:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(BundleError, match=rf"{path.name}: a bundle holds no .* which may run code"):
        bundle.load(folder)
    assert not Path("/tmp/subtone-was-here").exists()


def test_a_pickle_under_the_name_of_the_weights_is_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(BundleError, match=r"model\.safetensors: is damaged"):
        bundle.load(folder)
    assert not Path("/tmp/subtone-was-here").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["gone", "empty", "half", "folder"])
def test_missing_and_damaged_files_are_named(folder: Path, name: str, how: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(whole[: len(whole) // 2] if how == "half" else b"")
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        bundle.load(folder)


def test_a_bundle_without_a_card_still_loads(folder: Path) -> None:
    (folder / "card.md").unlink()
    assert bundle.load(folder).card == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda c: c["classifier"].update(extra=1), r"classifier\.extra"),
        (lambda c: c.pop("labels"), "labels: Field required"),
        (lambda c: c.update(labels=[]), "labels"),
        (lambda c: c.update(labels=["anger"] * 3), "labels: one stands there twice"),
        (lambda c: c.update(labels=["anger", "sadness"]), "does not fit"),
        (lambda c: c.update(labels="anger"), "labels"),
        (lambda c: c.update(sample_rate_hz=8000), "sample_rate_hz"),
        (lambda c: c.update(temperature=0), "temperature"),
        (lambda c: c.update(temperature=float("inf")), "temperature"),
        (lambda c: c.update(temperature=float("nan")), "temperature"),
        (lambda c: c.update(statistics=[]), "statistics"),
        (lambda c: c.update(statistics=["gap_mean"]), "takes .*the upstream gives"),
        (lambda c: c.update(statistics=["gap_meen"]), r"'gap_meen' is not known; did you mean 'gap_mean'"),
        (lambda c: c.update(schema_version="1"), "schema_version"),
        (lambda c: c.update(schema_version=0), "schema_version"),
        (lambda c: c["classifier"].update(count=1), "nobody knows classifiers.1"),
        (lambda c: c["classifier"].update(count=3), "does not fit"),
        (lambda c: c["classifier"].update(count=0), "count"),
        (lambda c: c["classifier"].update(head="transformer"), "head"),
        (lambda c: c["classifier"].update(head="linear"), "does not fit"),
        (lambda c: c["classifier"].update(hidden=6), "does not fit"),
        (lambda c: c["upstream"].update(num_mel=40), "upstream"),
        (lambda c: c["upstream"].update(num_mel=10**9), "num_mel"),
        (lambda c: c.update(upstream={}), "upstream"),
        (lambda c: c.update(upstream=[]), "upstream"),
        (lambda c: c["detector"].update(name="slero"), "did you mean 'silero'"),
        (lambda c: c["detector"].update(name=[]), "detector"),
        (lambda c: c.update(detector={}), "detector"),
        (lambda c: c["detector"].update(range_db="loud"), "range_db"),
    ],
)
def test_a_config_that_breaks_the_rules_is_refused_by_its_key(
    folder: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    edit(folder, change)
    with pytest.raises(SubtoneError, match=told):
        bundle.load(folder)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe{}", b"[" * 100_000, b" " * 1_000_001]
)
def test_a_config_that_is_no_object_is_refused(folder: Path, text: bytes) -> None:
    (folder / "config.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"config\.json"):
        bundle.load(folder)


def test_absurd_sizes_cost_no_memory(folder: Path) -> None:
    edit(
        folder,
        lambda c: c["classifier"].update(count=1000, num_layers=1000, dim=1_000_000, hidden=65_536),
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, hard))
    try:
        with pytest.raises(BundleError, match="does not fit"):
            bundle.load(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("reduction.mean"), "reduction.mean"),
        (lambda t: t.pop("classifiers.0.head.layers.0.weight"), "classifiers|layers.0.weight"),
        (lambda t: t.update({"classifiers.9.x": torch.zeros(1)}), "nobody knows classifiers.9.x"),
        (lambda t: t.update({"code": torch.zeros(1)}), "nobody knows code"),
        (lambda t: t["reduction.mean"].fill_(float("nan")), "finite"),
        (lambda t: t["reduction.scale"].zero_(), "scale above 0"),
        (lambda t: t.update({"reduction.scale": torch.ones(2, 2)}), "reduction.scale"),
        (lambda t: t.update({"reduction.basis": torch.ones(3, 6)}), "reduction.basis"),
        (lambda t: t.update({"reduction.mean": t["reduction.mean"].half()}), "float32"),
        (lambda t: t.update({"classifiers.1.head.layers.3.bias": torch.zeros(3).double()}), "float32"),
        (lambda t: t.update({"classifiers.1.head.layers.3.bias": torch.zeros(1000)}), "does not fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused_when_loaded_not_when_used(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], told: str
) -> None:
    retouch(folder, change)
    with pytest.raises(BundleError, match=told) as caught:
        bundle.load(folder)
    assert "\n" not in str(caught.value)


def test_predict_takes_a_folder_or_a_model(folder: Path, tmp_path: Path) -> None:
    file = synthetic.write(tmp_path / "a.wav", synthetic.utterance(1.5))
    by_folder = subtone.predict(file, model=folder)
    assert by_folder.table.equals(subtone.predict(file, model=bundle.load(folder)).table)
    missing = subtone.predict([file, tmp_path / "missing.wav"], model=folder)
    assert len(missing.failed) == 1
    assert len(missing.table) == 1


def test_every_model_that_ships_can_be_told_of_and_loaded() -> None:
    for one in bundle.shipped():
        assert one.card.is_file()
        assert bundle.load(one.name).labels == one.labels


def test_a_bundle_that_does_not_say_which_weights_it_needs_is_refused(folder: Path) -> None:
    edit(folder, lambda config: config["upstream"].pop("fingerprint"))
    with pytest.raises(BundleError, match="has no fingerprint"):
        bundle.load(folder)
