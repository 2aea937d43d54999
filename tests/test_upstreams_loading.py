"""From names and folders to upstreams: offline, safe, complete, and with errors that show the way out."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from subtone import upstreams
from subtone.upstreams import UpstreamError
from tests.tiny_upstreams import FAMILIES, network, noise, write

WAVE = noise(4_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny-wav2vec2", "wav2vec2-group")


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


class Malice:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Stranger:
    """No harm, but no tensor either."""


# Offline -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("family", ["wav2vec2-group", "w2v-bert-relative_key", "whisper-80"])
def test_nothing_opens_a_socket_for_a_local_folder(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even where the environment would let the hub be asked.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    upstream = upstreams.load(write(tmp_path / "model", family))
    assert np.isfinite(upstream.extract([WAVE])[0]).all()
    monkeypatch.chdir(tmp_path)
    assert upstreams.load("model").fingerprint() == upstream.fingerprint()


def _cache(root: Path, name: str, content: Path) -> str:
    """Lay a folder into a hub cache as the hub's client does; returns the commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = root / f"models--{name.replace('/', '--')}"
    shutil.copytree(content, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return commit


@pytest.mark.usefixtures("no_sockets")
def test_a_hub_name_in_the_local_cache_needs_no_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = _cache(tmp_path / "cache", "owner/model", folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    upstream = upstreams.load("owner/model")
    assert upstream.name == "owner/model"
    assert upstream.config()["revision"] == commit
    assert upstream.fingerprint() == upstreams.load(folder).fingerprint()


@pytest.mark.parametrize("offline", [True, None])
@pytest.mark.usefixtures("no_sockets")
def test_a_hub_name_that_is_nowhere_says_how_to_provide_it(
    offline: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UpstreamError, match="hf download facebook/wav2vec2-base --local-dir FOLDER"):
        upstreams.load("facebook/wav2vec2-base", offline=offline)


def test_a_network_that_fails_is_told_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the hub client's attempts
    with pytest.raises(UpstreamError, match="hf download owner/model --local-dir FOLDER"):
        upstreams.load("owner/model", offline=False)


# Names and folders ---------------------------------------------------------------------------------------


def test_a_mistyped_folder_names_its_neighbours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamError, match=r"no such folder; did you mean .*tiny-wav2vec2"):
        upstreams.load(folder.parent / "tiny-wav2vec")
    monkeypatch.chdir(folder.parent)
    for name in ("./tiny-wav2vec3", "tiny-wav2vec3"):
        with pytest.raises(UpstreamError, match="did you mean tiny-wav2vec2"):
            upstreams.load(name, offline=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/where/at/all", "no such folder; the nearest folder that exists is /"),
        ("a/b/c", "no such folder"),
        ("two words", "no such folder"),
        ("~/no-such-upstream", "no such folder"),
        ("~nobody-of-this-name/x", "no such folder"),
        (__file__, "is a file; pass the folder"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_plainly(name: str, message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        upstreams.load(name)


def test_an_unreadable_folder_is_told_plainly(folder: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UpstreamError, match=message):
            upstreams.load(folder)

    weights = (folder / "model.safetensors").read_bytes()
    config = (folder / "config.json").read_text()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused("model.safetensors is damaged")
    (folder / "model.safetensors").write_bytes(b"")
    refused("model.safetensors is damaged")
    (folder / "model.safetensors").unlink()
    refused("has no weights; expected model.safetensors")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(config[:40])
    refused("cannot read .*config.json")
    (folder / "config.json").write_text("[]")
    refused("must hold a JSON object")
    (folder / "config.json").write_text("{}")
    refused("names no model_type")
    (folder / "config.json").write_text(config.replace('"hidden_size": 16', '"hidden_size": "wide"'))
    refused("config.json does not describe a wav2vec2 encoder")
    (folder / "config.json").write_text(config.replace('"intermediate_size": 24', '"intermediate_size": 25'))
    refused("weights do not fit config.json, first .*intermediate_dense")
    (folder / "config.json").unlink()
    refused("has no config.json")


def test_an_unknown_family_lists_the_known_ones(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "hubbert"}))
    with pytest.raises(
        UpstreamError, match=r"'hubbert' is not one .*supported: .*wavlm.*did you mean 'hubert'"
    ):
        upstreams.load(folder)


def test_another_sampling_rate_is_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 24000}')
    with pytest.raises(UpstreamError, match="works at 24000 Hz"):
        upstreams.load(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "int8"}, "dtype must be one of"), ({"device": "warp"}, "device 'warp' is not there")],
)
def test_wrong_options_are_told_plainly(options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(UpstreamError, match=message):
        upstreams.load(folder, **options)


# Safety --------------------------------------------------------------------------------------------------


def _pickles(content: Any) -> dict[str, Any]:
    """Return writers of a pickle in each of the ways that weights come."""

    def raw(protocol: int) -> Any:
        return lambda path: path.write_bytes(pickle.dumps(content, protocol))

    return {
        "torch zip": lambda path: torch.save(content, path),
        "torch legacy": lambda path: torch.save(content, path, _use_new_zipfile_serialization=False),
        "protocol 0": raw(0),
        "protocol 2": raw(2),
        "protocol 5": raw(5),
    }


@pytest.mark.parametrize("kind", _pickles(None))
@pytest.mark.parametrize("beside", [False, True], ids=["as the weights", "beside good weights"])
@pytest.mark.parametrize("file", ["pytorch_model.bin", "extra.pkl"])
def test_a_folder_with_a_malicious_pickle_is_refused_and_nothing_runs(
    kind: str, beside: bool, file: str, folder: Path
) -> None:
    mark = folder / "ran"
    weights = load_file(folder / "model.safetensors")
    _pickles({**weights, "x": Malice(mark)})[kind](folder / file)
    if not beside:
        (folder / "model.safetensors").unlink()
    with pytest.raises(UpstreamError, match=rf"refused, {file} contains code: it calls \w+.system"):
        upstreams.load(folder)
    assert not mark.exists()


@pytest.mark.parametrize("kind", _pickles(None))
def test_weights_that_hold_more_than_tensors_are_refused(kind: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    _pickles({"x": Stranger()})[kind](folder / "pytorch_model.bin")
    with pytest.raises(UpstreamError, match=r"pytorch_model.bin is (a pickle that holds more|damaged)"):
        upstreams.load(folder)


def test_harmless_pickles_beside_good_weights_do_no_harm(folder: Path) -> None:
    torch.save({"step": 3, "args": Stranger()}, folder / "training_args.bin")
    (folder / "vocabulary.bin").write_bytes(os.urandom(1_000))
    with zipfile.ZipFile(folder / "archive.pt", "w") as archive:
        archive.writestr("readme.txt", "no pickle at all")
    assert upstreams.load(folder).dim == 16


def test_a_pickle_named_safetensors_is_refused(folder: Path) -> None:
    mark = folder / "ran"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Malice(mark)))
    with pytest.raises(UpstreamError, match="damaged"):
        upstreams.load(folder)
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_folder_that_asks_for_its_own_code_is_refused(file: str, folder: Path) -> None:
    path = folder / file
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**document, "auto_map": {"AutoModel": "evil.Model"}}))
    (folder / "evil.py").write_text("raise SystemExit")
    with pytest.raises(UpstreamError, match=r"refused, .*code of its own"):
        upstreams.load(folder)


def test_an_index_cannot_lead_out_of_the_folder(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": {"x": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UpstreamError, match=r"names '../outside.safetensors'"):
        upstreams.load(folder)


# Completeness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["pickled", "pickled legacy", "sharded", "sharded pickled", "old weight norm"]
)
def test_weights_are_read_in_every_published_form(kind: str, folder: Path) -> None:
    wanted = upstreams.load(folder).fingerprint()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if kind.startswith("pickled"):
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization="legacy" not in kind)
    elif kind.startswith("sharded"):
        stem, suffix = ("pytorch_model", "bin") if "pickled" in kind else ("model", "safetensors")
        shards = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
        places = {name: shards[i % 2] for i, name in enumerate(weights)}
        for shard in shards:
            part = {name: weights[name] for name in weights if places[name] == shard}
            torch.save(part, folder / shard) if suffix == "bin" else save_file(part, folder / shard)
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": places}))
    else:
        old = {
            "parametrizations.weight.original0": "weight_g",
            "parametrizations.weight.original1": "weight_v",
        }
        renamed = {}
        for name, value in weights.items():
            for ours, theirs in old.items():
                name = name.replace(ours, theirs)
            renamed[name] = value
        assert renamed.keys() != weights.keys()
        save_file(renamed, folder / "model.safetensors")
    assert upstreams.load(folder).fingerprint() == wanted


@pytest.mark.parametrize(
    ("family", "suffix"),
    [
        ("wav2vec2-group", "ForCTC"),
        ("xls-r", "ForSequenceClassification"),
        ("hubert-group", "ForSequenceClassification"),
        ("wavlm-group", "ForXVector"),
        ("data2vec", "ForCTC"),
        ("unispeech-sat-group", "ForPreTraining"),
        ("w2v-bert-relative_key", "ForSequenceClassification"),
    ],
)
def test_a_fine_tuned_network_gives_its_encoder(family: str, suffix: str, tmp_path: Path) -> None:
    settings = {"tdnn_dim": [8] * 5, "xvector_output_dim": 8, "classifier_proj_size": 8, "vocab_size": 8}
    tuned = network(family, suffix, **settings)
    tuned.save_pretrained(tmp_path)
    upstream = upstreams.load(tmp_path)
    assert upstream.module is not None
    encoder = tuned.base_model.state_dict()
    for name, value in upstream.module.state_dict().items():
        torch.testing.assert_close(value, encoder[name], rtol=0, atol=0)


@pytest.mark.parametrize("family", ["wav2vec2-group", "w2v-bert-relative_key", "whisper-80"])
def test_a_missing_weight_is_an_error_and_never_random(family: str, tmp_path: Path) -> None:
    folder = write(tmp_path, family)
    weights = load_file(folder / "model.safetensors")
    victim = next(name for name in weights if "encoder.layers.1" in name)
    save_file({k: v for k, v in weights.items() if k != victim}, folder / "model.safetensors")
    with pytest.raises(UpstreamError, match=r"lacks 1 of .* weights"):
        upstreams.load(folder)


def test_weights_of_another_network_are_an_error(folder: Path) -> None:
    save_file({"bert.embeddings.weight": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(UpstreamError, match="incomplete or of another family"):
        upstreams.load(folder)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_loaded_as_float32(stored: torch.dtype, folder: Path) -> None:
    weights = {name: value.to(stored) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": str(stored)[6:]}))
    upstream = upstreams.load(folder)
    assert upstream.module is not None
    assert {p.dtype for p in upstream.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("family", ["wav2vec2-group", "xls-r"])
def test_clips_are_normalised_as_the_checkpoint_says(family: str, file: str, tmp_path: Path) -> None:
    folder = write(tmp_path, family)
    default = upstreams.load(folder)
    assert default.normalize is (family == "xls-r")  # type: ignore[attr-defined]
    opposite = {"do_normalize": family != "xls-r", "sampling_rate": 16_000}
    document = opposite if file == "preprocessor_config.json" else {"feature_extractor": opposite}
    (folder / file).write_text(json.dumps(document))
    changed = upstreams.load(folder)
    assert changed.normalize is (family != "xls-r")  # type: ignore[attr-defined]
    assert changed.fingerprint() != default.fingerprint()


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    verbosity = transformers.utils.logging.get_verbosity()
    upstreams.load(folder).extract([WAVE])
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == verbosity


# Identity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_upstream_is_loaded_identical(family: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "source", family)
    if "whisper" not in family and "bert" not in family:
        (folder / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 16000}')
    upstream = upstreams.load(folder)
    upstream.save(tmp_path / "saved")
    again = upstreams.load(tmp_path / "saved")
    assert again.fingerprint() == upstream.fingerprint()
    assert again.grid == upstream.grid
    np.testing.assert_array_equal(again.extract([WAVE])[0], upstream.extract([WAVE])[0])
    assert sorted(path.name for path in (tmp_path / "saved").iterdir() if path.name.startswith(".")) == []


def test_a_saved_upstream_is_a_folder_for_transformers_too(folder: Path, tmp_path: Path) -> None:
    upstream = upstreams.load(folder)
    upstream.save(tmp_path / "saved")
    module = transformers.AutoModel.from_pretrained(tmp_path / "saved", local_files_only=True)
    with torch.no_grad():
        published = module(torch.tensor(WAVE)[None], output_hidden_states=True).hidden_states
    np.testing.assert_allclose(upstream.extract([WAVE])[0], torch.cat(published), atol=1e-5)


def test_a_configuration_rebuilds_the_upstream(folder: Path, tmp_path: Path) -> None:
    upstream = upstreams.load(folder)
    config = json.loads(json.dumps({**upstream.config(), "fingerprint": upstream.fingerprint()}))
    assert upstreams.load_from_config(config).fingerprint() == upstream.fingerprint()
    upstream.save(tmp_path / "kept")
    shutil.rmtree(folder)
    kept = upstreams.load_from_config(config, folder=tmp_path / "kept")
    assert (kept.name, kept.config()) == (upstream.name, upstream.config())


def test_a_configuration_of_weights_that_have_changed_is_refused(folder: Path) -> None:
    config = {**upstreams.load(folder).config(), "fingerprint": "0" * 64}
    with pytest.raises(UpstreamError, match="not the one that was saved"):
        upstreams.load_from_config(config)
    with pytest.raises(UpstreamError, match="needs a kind and a source"):
        upstreams.load_from_config({"kind": "huggingface"})


def test_the_fingerprint_follows_weights_and_configuration_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    upstream = upstreams.load(folder)
    first = upstream.fingerprint()
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert upstreams.load(tmp_path / "elsewhere").fingerprint() == first
    assert upstream.module is not None
    with torch.no_grad():
        next(upstream.module.parameters()).mul_(1.5)
    assert upstream.fingerprint() != first
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    assert upstreams.load(folder).fingerprint() != first


def test_a_family_can_be_registered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subtone.upstreams.registry.FAMILIES", {})
    upstreams.register(
        "wav2vec2", lambda checkpoint: upstreams.load(f"fbank:{checkpoint.config['hidden_size']}")
    )
    assert upstreams.load(folder).dim == 16
    with pytest.raises(UpstreamError, match="registered already"):
        upstreams.register("wav2vec2", "subtone.upstreams.cnn:CnnUpstream")


def test_a_convolution_stack_that_cannot_be_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["conv_stride"] = [0] * len(config["conv_stride"])
    path.write_text(json.dumps(config))
    with pytest.raises(UpstreamError, match="conv_stride"):
        upstreams.load(folder)
