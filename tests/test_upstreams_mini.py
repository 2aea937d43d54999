"""The small encoder with prosody beside every layer: both streams whole, however a clip is given."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from subtone import upstreams
from subtone.extraction.backends import open_backend
from subtone.upstreams import Upstream
from subtone.upstreams.mini import write_mini
from subtone.upstreams.prosody import DIMS, Standardisation
from tests.tiny_upstreams import network, noise, relative_error, write

P = len(DIMS)
OWN = Standardisation(tuple(np.linspace(-2, 30, P).tolist()), tuple(np.linspace(0.5, 4, P).tolist()))
KINDS: dict[str, Standardisation | None] = {"plain": Standardisation(), "standardised": OWN, "alone": None}


def encoder() -> WhisperEncoder:
    """Return a random encoder of two layers, 16 wide, with positions for 6 s; its weights are half precision's."""
    made: WhisperEncoder = network("whisper-80").get_encoder()
    with torch.no_grad():
        for value in made.state_dict().values():
            value.copy_(value.half().float())
    return made


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Upstream]:
    folder = tmp_path_factory.mktemp("mini")
    return {kind: upstreams.load(write_mini(folder / kind, encoder(), of)) for kind, of in KINDS.items()}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    upstream = upstreams.load(write(tmp_path_factory.mktemp("whisper"), "whisper-80"))
    assert upstream.module is not None
    upstream.module.load_state_dict(encoder().state_dict())
    return upstream


@pytest.mark.parametrize("num_samples", [0, 400, 7_777, 96_159, 150_000])
def test_a_layer_is_the_encoders_then_the_prosody(
    num_samples: int, loaded: dict[str, Upstream], whisper: Upstream
) -> None:
    wave = noise(num_samples)
    (speech,), (prosody,) = whisper.extract([wave]), upstreams.load("prosody").extract([wave])
    for kind, upstream in loaded.items():
        (got,) = upstream.extract([wave])
        assert got.shape == (3, upstream.grid.num_frames(num_samples), upstream.dim)
        assert relative_error(got[..., :16], speech) < 1e-5
        beside = np.broadcast_to(prosody, (3, *prosody.shape[1:]))
        if kind == "standardised":
            beside = (beside - np.float32(OWN.mean)) / np.float32(OWN.scale)
        if kind == "alone":
            assert upstream.dim == 16
        else:
            np.testing.assert_allclose(got[..., 16:], beside, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_do_not_depend_on_the_batch(kind: str, loaded: dict[str, Upstream]) -> None:
    upstream, waves = loaded[kind], [noise(n) for n in (400, 100_000, 0, 5_555, 40_000)]
    with torch.no_grad():
        batch = upstream.encode(waves)
    assert batch.too_short == (False, False, True, False, False)
    for row, alone in enumerate(upstream.extract(waves)):
        valid = int(batch.mask[row].sum())
        assert relative_error(batch.frames[row, :, :valid], alone) < 1e-4
        assert not batch.frames[row, :, valid:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_with_its_survey_equals_the_clip_before_attention(
    kind: str, loaded: dict[str, Upstream]
) -> None:
    upstream, wave = loaded[kind], noise(90_000)
    positions: Any = upstream.module.embed_positions.weight.detach().numpy()  # type: ignore[union-attr]

    def local(samples: Any, survey: Any) -> Any:
        layer = upstream.extract([samples], [survey])[0][0]
        layer[:, :16] -= positions[: len(layer)]
        return layer

    blocks = [wave[:11], wave[11:50_000], wave[50_000:]]
    survey, margin = upstream.survey(blocks), round(upstream.context_s * 16_000)
    whole = local(wave, None)
    for first, last in ((0, 60), (90, 150), (180, len(whole))):
        left = max(0, first - -(-margin // 320))
        end = -160 + 320 * last + margin
        got = local(wave[320 * left : end if end < len(wave) else None], survey)
        assert relative_error(got[first - left : last - left], whole[first:last]) < 1e-4


def test_surveys_of_both_streams_come_from_one_pass(loaded: dict[str, Upstream], whisper: Upstream) -> None:
    def once() -> Any:  # a generator can't be read twice
        yield from np.array_split(noise(70_000), 7)

    found: Any = loaded["plain"].survey(once())
    assert found.speech == whisper.survey([noise(70_000)])
    alone: Any = upstreams.load("prosody").survey([noise(70_000)])
    assert found.prosody.level == pytest.approx(alone.level)
    with pytest.raises(upstreams.UpstreamError, match="is no survey of this upstream"):
        loaded["plain"].extract([noise(800)], [alone])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_is_the_same_and_in_half_precision_on_disk(
    kind: str, loaded: dict[str, Upstream], tmp_path: Path
) -> None:
    upstream = loaded[kind]
    upstream.save(tmp_path)
    again = upstreams.load(tmp_path)
    assert again.fingerprint() == upstream.fingerprint()
    np.testing.assert_array_equal(again.extract([noise(9_000)])[0], upstream.extract([noise(9_000)])[0])
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert next(again.module.parameters()).dtype == torch.float32  # type: ignore[union-attr]


def test_what_half_precision_cannot_hold_is_saved_as_it_is(
    loaded: dict[str, Upstream], tmp_path: Path
) -> None:
    upstream = upstreams.load(write_mini(tmp_path / "a", encoder(), OWN))
    with torch.no_grad():
        for weight in upstream.module.parameters():  # type: ignore[union-attr]
            weight.mul_(1 / 3)  # as training does
    assert upstream.fingerprint() != loaded["standardised"].fingerprint()
    upstream.save(tmp_path / "b")
    assert upstreams.load(tmp_path / "b").fingerprint() == upstream.fingerprint()


def test_fingerprints_tell_streams_apart(loaded: dict[str, Upstream]) -> None:
    assert len({upstream.fingerprint() for upstream in loaded.values()}) == len(KINDS)


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    made = encoder()
    with torch.no_grad():
        made.conv1.weight[0, 0, 0] = 1e6
    with pytest.raises(upstreams.UpstreamError, match=r"conv1\.weight is not finite in half precision"):
        write_mini(tmp_path, made, None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder": None}, "has no encoder"),
        ({"encoder": {"d_modle": 16}}, "unknown setting 'd_modle'; did you mean 'd_model'"),
        ({"prosody": {"version": 3}}, "must hold version, mean and scale"),
        ({"prosody": {**OWN.to_dict(), "version": 0}}, "made with version 0 of the measures"),
        ({"prosody": {**OWN.to_dict(), "mean": [0.0]}}, f"mean must hold {P} finite numbers"),
    ],
)
def test_a_configuration_that_is_wrong_says_where(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = write_mini(tmp_path, encoder(), OWN)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(upstreams.UpstreamError, match=told):
        upstreams.load(folder)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_core_after_front_gives_the_frames(kind: str, loaded: dict[str, Upstream]) -> None:
    upstream = loaded[kind]
    core = upstream.core()
    assert core is not None
    for num_samples in (16_123, 400, 100, 5_039):
        inputs = upstream.front(noise(num_samples))
        assert inputs.shape == (80 + upstream.dim - 16, max(num_samples, 400) // 160)
        np.testing.assert_array_equal(core(inputs[None]), upstream.extract([noise(num_samples)])[0])
    with pytest.raises(upstreams.UpstreamError, match="cut it into chunks"):
        upstream.front(noise(100_000))


@pytest.mark.parametrize(
    ("engine", "precision", "close"), [("torch", "bf16", 0.05), ("openvino", "fp32", 1e-4)]
)
def test_engines_run_it_on_clips_of_any_length(
    engine: Any, precision: Any, close: float, loaded: dict[str, Upstream]
) -> None:
    if engine == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is an extra")
    upstream = loaded["standardised"]
    waves = [noise(n) for n in (400, 16_123, 40_000)]
    with open_backend(upstream, engine, precision) as backend:
        for got, wanted in zip(backend.encode(waves), upstream.extract(waves), strict=True):
            assert relative_error(got, wanted) < close


def test_gradients_reach_the_encoder_and_the_wave(loaded: dict[str, Upstream]) -> None:
    upstream = loaded["plain"]
    wave = torch.tensor(noise(4_000), requires_grad=True)
    upstream.encode([wave]).frames[..., :16].square().sum().backward()
    assert wave.grad is not None
    assert wave.grad.abs().max() > 0
    assert upstream.module.conv1.weight.grad.abs().max() > 0  # type: ignore[union-attr, union-attr]
