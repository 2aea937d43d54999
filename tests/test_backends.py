"""Engines: the frames of PyTorch in float32, from any of them, whatever runs beside; or a refusal that says why."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from subtone.errors import UsageError
from subtone.extraction import backends
from subtone.extraction.backends import BackendError, open_backend, verify
from subtone.extraction.backends.openvino_backend import OpenVinoBackend
from subtone.extraction.backends.products import OneDnnLinear, onednn_multiplies, rebuilt
from subtone.extraction.backends.torch_backend import BatchedTorchBackend, TorchBackend
from subtone.upstreams import Upstream, load
from tests.tiny_upstreams import FAMILIES, noise, relative_error, write

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is an extra")
#: One of each way of building a network; every family is converted in test_every_family_runs_in_openvino.
KINDS = ("wav2vec2-group", "wavlm-layer", "conformer-relative", "w2v-bert-relative", "whisper-80")
LENGTHS = (400, 7_000, 24_321)


@cache
def upstream(family: str) -> Upstream:
    return load(write(Path(mkdtemp()) / family, family))


def pooled_cosine(got: Any, wanted: Any) -> float:
    one, other = np.asarray(got, np.float64).mean(axis=1), np.asarray(wanted, np.float64).mean(axis=1)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_fp32_gives_the_upstreams_own_frames(family: str) -> None:
    waves = [noise(n) for n in LENGTHS]
    with TorchBackend(upstream(family), "fp32") as backend:
        for got, wanted in zip(backend.encode(waves), upstream(family).extract(waves), strict=True):
            assert got.dtype == torch.float32
            assert relative_error(got, wanted) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_bf16_pools_to_nearly_the_same_features(family: str) -> None:
    wave = noise(24_321)
    (got,) = TorchBackend(upstream(family), "bf16").encode([wave])
    assert got.dtype == torch.float32
    assert pooled_cosine(got, upstream(family).extract([wave])[0]) > 0.999


def test_rebuilding_a_network_leaves_the_upstream_as_it_was_and_shares_its_weights() -> None:
    own = upstream("hubert-group")
    before, print_before = own.extract([noise(8_000)])[0], own.fingerprint()
    core = own.core()
    assert core is not None
    exact, coarse = rebuilt(core, torch.float32), rebuilt(core, torch.bfloat16)
    shared = {p.data_ptr() for p in core.parameters()} & {p.data_ptr() for p in exact.parameters()}
    assert len(shared) > len(list(core.parameters())) // 2
    assert {p.dtype for p in coarse.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in core.parameters()} == {torch.float32}
    assert own.fingerprint() == print_before
    np.testing.assert_array_equal(own.extract([noise(8_000)])[0], before)


@pytest.mark.skipif(not onednn_multiplies(torch.float32), reason="this torch has no oneDNN linear layer")
def test_linear_layers_are_onednns_where_torch_has_them() -> None:
    core = upstream("wav2vec2-group").core()
    assert core is not None
    assert any(isinstance(part, OneDnnLinear) for part in rebuilt(core, torch.float32).modules())


@needs_openvino
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_in_openvino(family: str) -> None:
    waves = [noise(n) for n in LENGTHS]
    with open_backend(upstream(family), "openvino", "fp32") as backend:
        for got, wanted in zip(backend.encode(waves), upstream(family).extract(waves), strict=True):
            assert relative_error(got, wanted) < 1e-4


@needs_openvino
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("family", KINDS)
def test_openvino_below_fp32_pools_to_nearly_the_same_features_or_refuses(
    family: str, precision: Any
) -> None:
    try:
        backend = open_backend(upstream(family), "openvino", precision)
    except BackendError as error:
        if ("no bf16" if precision == "bf16" else "cosine") not in str(error):
            raise
        return
    wave = noise(24_321)
    assert pooled_cosine(backend.encode([wave])[0], upstream(family).extract([wave])[0]) > 0.998


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_a_clip_is_the_same_whatever_runs_beside_it(name: Any) -> None:
    waves = [noise(6_000 + 1_111 * (i % 5), seed=i) for i in range(20)]
    with open_backend(upstream("wav2vec2-group"), name) as backend:
        alone = [backend.encode([wave])[0] for wave in waves]
        with ThreadPoolExecutor(4) as threads:
            beside = list(threads.map(lambda wave: backend.encode([wave])[0], waves))
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(one, other)


@needs_openvino
@pytest.mark.parametrize("family", KINDS)
def test_a_clip_is_the_same_whatever_came_before_it(family: str) -> None:
    # A clip of one frame once spoiled what came after it.
    lengths = [400, 7_000, 24_321, *np.random.default_rng(0).integers(100, 30_000, 20).tolist(), 7_000]
    own = upstream(family)
    with OpenVinoBackend(own, "fp32") as backend:
        for wave in map(noise, lengths):
            assert relative_error(backend.encode([wave])[0], own.extract([wave])[0]) < 1e-4


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_a_chunk_with_its_clips_survey_is_encoded_as_part_of_it(name: Any) -> None:
    own, wave = upstream("wav2vec2-group"), noise(48_000)
    survey = own.survey([wave])
    with open_backend(own, name) as backend:
        chunk, clip = backend.encode([wave[:24_000], wave], [survey, None])
    core = own.core()
    assert core is not None
    with torch.no_grad():
        assert relative_error(chunk, core(own.front(wave[:24_000], survey)[None])) < 1e-4
    assert relative_error(clip, own.extract([wave])[0]) < 1e-4


@pytest.mark.parametrize("family", ["wav2vec2-group", "wavlm-layer", "w2v-bert-rotary", "whisper-80"])
@pytest.mark.parametrize(("precision", "least"), [("fp32", 1 - 1e-6), ("bf16", 0.999), ("fp16", 0.999)])
def test_batches_for_accelerators_have_each_clips_own_shape_dtype_and_frames(
    family: str, precision: Any, least: float
) -> None:
    own, waves = upstream(family), [noise(n) for n in (7_000, 24_321, 3_000)]
    backend = BatchedTorchBackend(own, precision)
    survey = own.survey([waves[1]])
    found = backend.encode(waves, [None, survey, None])
    for got, wanted in zip(found, own.extract(waves), strict=True):
        assert got.dtype == torch.float32
        assert got.shape == wanted.shape
        assert pooled_cosine(got, wanted) > least
    assert backend.batch_s > 10
    assert backend.streams == 1


def test_no_clips_give_no_frames() -> None:
    assert TorchBackend(upstream("wav2vec2-group"), "fp32").encode([]) == []
    assert BatchedTorchBackend(upstream("wav2vec2-group"), "fp32").encode([]) == []


def test_filter_banks_have_one_engine() -> None:
    own = load("fbank:40+level")
    backend = open_backend(own, precision="int8")
    np.testing.assert_array_equal(backend.encode([noise(8_000)])[0], own.extract([noise(8_000)])[0])
    assert backend.config()["precision"] == "fp32"
    with pytest.raises(BackendError, match="no network"):
        open_backend(own, "openvino")


@needs_openvino
def test_auto_takes_what_a_store_was_made_with_and_else_what_is_fastest() -> None:
    own = upstream("wav2vec2-group")
    assert open_backend(own, precision="bf16").name == "openvino"
    for name in ("openvino", "torch"):
        made: Any = open_backend(own, name)  # type: ignore[arg-type]
        assert open_backend(own, stored=made.config()).config() == made.config()
    assert open_backend(own, stored={"name": "abacus"}).name in ("openvino", "torch")


def test_a_missing_openvino_names_its_extra_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    own = upstream("wav2vec2-group")
    find = importlib.util.find_spec
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    assert open_backend(own, precision="bf16").name == "torch"
    for name in ("auto", "openvino"):
        with pytest.raises(UsageError, match=r"subtone\[openvino\]"):
            open_backend(own, name, "int8")  # type: ignore[arg-type]


@needs_openvino
def test_what_openvino_cannot_convert_is_named_and_auto_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    own = load(write(Path(mkdtemp()) / "odd", "wav2vec2-group"))
    core = own.core()
    assert core is not None

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = core

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.jit.is_tracing():
                raise RuntimeError("an operation nobody has heard of")
            return self.core(x)  # type: ignore[no-any-return]

    monkeypatch.setattr(own, "core", Odd)
    with pytest.raises(BackendError, match=r"CnnUpstream\).*choose backend torch"):
        open_backend(own, "openvino")
    assert open_backend(own, precision="bf16").name == "torch"


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("tensorflow", "fp32", "backend 'tensorflow' is not known"),
        ("auto", "fp8", "precision 'fp8' is not known"),
        ("torch", "int8", "int8 needs backend openvino"),
        ("torch", "fp16", "fp16 is for CUDA"),
        pytest.param("openvino", "fp16", "fp16 is for CUDA", marks=needs_openvino),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(backend: Any, precision: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_backend(upstream("wav2vec2-group"), backend, precision)


def test_an_upstream_in_half_precision_is_refused() -> None:
    folder = write(Path(mkdtemp()) / "half", "wav2vec2-group")
    with pytest.raises(UsageError, match="not in float32"):
        open_backend(load(folder, dtype="bfloat16"))


class _Damaged(TorchBackend):
    """Gives frames with noise on them."""

    amount = 0.0

    def encode(self, waves: Any, surveys: Any = None) -> list[torch.Tensor]:
        noisy = torch.Generator().manual_seed(0)
        return [
            f + self.amount * f.norm(dim=-1, keepdim=True) * torch.randn(f.shape[-1], generator=noisy)
            for f in super().encode(waves, surveys)
        ]


@pytest.mark.parametrize(
    ("precision", "amount", "message"),
    [
        ("fp32", 3e-4, r"differs from PyTorch by .*choose backend torch"),
        ("bf16", 0.05, r"cosine of 0\.9.*0\.999 is the least; choose precision fp32"),
        ("fp32", float("nan"), "differs from PyTorch"),
        ("bf16", float("nan"), "too coarse"),
    ],
)
def test_an_engine_that_is_off_is_refused_with_the_figure(
    precision: Any, amount: float, message: str
) -> None:
    own = upstream("wav2vec2-layer")
    backend = _Damaged(own, precision)
    verify(backend, backends.reference(own))
    backend.amount = amount
    with pytest.raises(BackendError, match=message):
        verify(backend, backends.reference(own))


def test_probes_are_the_same_everywhere_and_sound() -> None:
    once, again = backends.probes(), backends.probes()
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
        assert 16_000 < len(one) < 48_000
        assert 0.01 < np.abs(one).max() < 1


def test_a_configuration_is_json_and_says_what_computes() -> None:
    config = open_backend(upstream("wav2vec2-group"), "torch", "bf16").config()
    assert {"name": "torch", "precision": "bf16", "device": "cpu"}.items() <= config.items()
    assert list(config["versions"]) == ["torch"]
    assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_a_closed_engine_refuses_instead_of_hanging(name: Any) -> None:
    with open_backend(upstream("wav2vec2-group"), name) as opened:
        pass
    with pytest.raises(UsageError, match="is closed"):
        opened.encode([noise(8_000)])
