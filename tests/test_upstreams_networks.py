"""What every network over filter banks promises as an upstream; Mockingjay and NPC, tiny and random."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subtone import upstreams
from subtone.extraction.backends import open_backend
from subtone.upstreams import FilterBank
from subtone.upstreams.batch_norm import ValidBatchNorm
from subtone.upstreams.mockingjay import MockingjayUpstream
from subtone.upstreams.npc import NpcUpstream
from tests.network_cases import encoder, ragged, upstream
from tests.tiny_upstreams import noise, relative_error

FAMILIES = ["mockingjay", "npc"]
LENGTHS = [400, 80_000, 719, 720, 16_123, 0, 399]
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is an extra"
)


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_do_not_depend_on_the_batch(family: str) -> None:
    own, waves = upstream(family), [noise(n) for n in LENGTHS]
    alone = own.extract(waves)
    for order in (range(len(waves)), [3, 0, 5], [1, 1, 4]):
        with torch.no_grad():
            batch = own.encode([waves[i] for i in order])
        assert batch.frames.shape[:2] == (len(order), own.num_layers)
        for row, i in enumerate(order):
            valid = int(batch.mask[row].sum())
            assert batch.mask[row, :valid].all()
            assert relative_error(batch.frames[row, :, :valid], alone[i]) < 1e-4
            assert not batch.frames[row, :, valid:].any()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_pads_a_batch_changes_nothing(family: str, training: bool) -> None:
    # In training too: attention, convolutions and batch statistics see valid frames only.
    own = encoder(family).train(training)
    for part in own.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    features, mask = ragged([30, 7, 19], own.options.input_dim)
    found = []
    for padding in (0.0, 1e3):
        run = copy.deepcopy(own)
        layers = run(torch.where(mask[..., None], features, padding), mask)
        layers[:, mask].square().mean().backward()
        gradients = [p.grad.flatten() for p in run.parameters() if p.grad is not None]
        found.append((layers[:, mask].detach(), torch.cat(gradients), run.state_dict()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
    for key, value in found[0][2].items():
        torch.testing.assert_close(value, found[1][2][key])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_context_is_the_last_layer(family: str) -> None:
    own = encoder(family)
    features, mask = ragged([30, 7, 19], own.options.input_dim)
    with torch.no_grad():
        torch.testing.assert_close(own.context(features, mask), own(features, mask)[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_mask_is_no_mask(family: str) -> None:
    own = encoder(family)
    features, mask = ragged([20, 20], own.options.input_dim)
    with torch.no_grad():
        assert torch.equal(own(features, mask), own(features))


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_lie_on_the_grid_of_the_filter_banks(family: str) -> None:
    own, banks = upstream(family), FilterBank()
    assert own.grid == banks.grid
    assert own.extract([noise(16_123)])[0].shape == (own.num_layers, banks.grid.num_frames(16_123), own.dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_clips_shorter_than_a_window_are_padded_and_flagged(family: str) -> None:
    encoded = upstream(family).encode([noise(n) for n in (0, 1, 399, 400)])
    assert encoded.too_short == (True, True, True, False)
    assert encoded.mask.sum(dim=1).tolist() == [1, 1, 1, 1]
    assert torch.isfinite(encoded.frames).all()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_samples=st.integers(0, 6_000), family=st.sampled_from(FAMILIES))
def test_core_after_front_is_what_extract_and_encode_give(num_samples: int, family: str) -> None:
    own, wave = upstream(family), noise(num_samples)
    with torch.no_grad():
        got = own.core()(own.front(wave)[None])
        batch = own.encode([wave]).frames[0]
    np.testing.assert_array_equal(got, own.extract([wave])[0])
    assert relative_error(got, batch) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_clip_with_its_survey_is_the_clip(family: str) -> None:
    own = upstream(family)
    for num_samples in (0, 401, 16_123):
        wave = noise(num_samples)
        survey = own.survey(np.array_split(wave, 3))
        (plain,), (surveyed,) = own.extract([wave]), own.extract([wave], [survey])
        assert relative_error(surveyed, plain) < 1e-4
    with pytest.raises(upstreams.UpstreamError, match="no survey of this upstream"):
        own.extract([noise(900)], [upstreams.load("fbank+level").survey([noise(900)])])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chunk_as_wide_as_its_context_gives_what_comes_before_attention(family: str) -> None:
    network, wave = upstream(family), noise(60_000)
    wave[30_000:] *= 5
    survey, context = network.survey([wave]), round(network.context_s * 16_000)
    # Mockingjay counts positions anew in a chunk, and all that follows is attention: its filter banks are what is left.
    own = FilterBank(network.module.options.features) if family == "mockingjay" else network
    (whole,) = own.extract([wave])
    start, end = own.grid.cells(131, len(wave))[130]
    errors = []
    for missing in (0, 160):
        first = (start - context + missing) // 160 * 160  # chunks begin on the frame grid
        (chunk,) = own.extract([wave[first : end + context - missing]], [survey])
        errors.append(relative_error(chunk[:, 130 - first // 160], whole[:, 130]))
    assert errors[0] < 1e-4 < errors[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_wave_in_training_and_other_clips_give_none(family: str) -> None:
    own = upstream(family)
    own.module.train()
    for part in own.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    waves = [torch.tensor(noise(n), requires_grad=True) for n in (3_000, 9_000)]

    def gradient(batch: list[torch.Tensor]) -> torch.Tensor:
        own.module.zero_grad()
        encoded = own.encode(batch)
        encoded.frames[0, :, encoded.mask[0]].square().mean().backward()
        return torch.cat([p.grad.flatten() for p in own.module.parameters() if p.grad is not None])

    alone, batched = gradient(waves[:1]), gradient(waves)
    assert alone.abs().max() > 0
    assert float((alone - batched).norm() / alone.norm()) < 1e-3
    assert waves[0].grad is not None
    assert waves[0].grad.abs().max() > 0
    assert waves[1].grad is None or not waves[1].grad.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_extract_leaves_the_mode_of_the_network_as_it_was(family: str) -> None:
    own = upstream(family)
    wanted = own.extract([noise(2_000)])[0]
    own.module.train()
    before = [part.training for part in own.module.modules()]
    np.testing.assert_array_equal(own.extract([noise(2_000)])[0], wanted)
    assert [part.training for part in own.module.modules()] == before


def test_encode_leaves_batch_norms_as_they_were_and_never_mixes_clips() -> None:
    own = upstream("npc")
    own.module.train()
    own.module.requires_grad_(False)
    norms = [part for part in own.module.modules() if isinstance(part, ValidBatchNorm)]
    statistics = [part.running_mean.clone() for part in norms]
    own.encode([noise(2_000), noise(3_000)])
    assert norms
    assert all(part.training for part in own.module.modules())
    for part, before in zip(norms, statistics, strict=True):
        assert torch.equal(part.running_mean, before)
    own.module.eval()
    own.encode([noise(2_000)])
    assert not any(part.training for part in own.module.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_back_the_identical_upstream(family: str, tmp_path: Path) -> None:
    own, wave = upstream(family), noise(9_000)
    own.save(tmp_path / "saved")
    loaded = upstreams.load(tmp_path / "saved")
    assert type(loaded) is type(own)
    assert loaded.fingerprint() == own.fingerprint()
    np.testing.assert_array_equal(loaded.extract([wave])[0], own.extract([wave])[0])
    config = json.loads(json.dumps({**own.config(), "fingerprint": own.fingerprint()}))
    again = upstreams.load_from_config(config, folder=tmp_path / "saved")
    assert (again.name, again.fingerprint()) == (own.name, own.fingerprint())
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fingerprint_follows_weights_and_options(family: str) -> None:
    own = upstream(family)
    before = own.fingerprint()
    assert upstream(family).fingerprint() == before
    with torch.no_grad():
        next(iter(own.module.parameters())).mul_(1.01)
    assert own.fingerprint() != before


@pytest.mark.parametrize("family", FAMILIES)
def test_an_upstream_follows_the_encoder_that_it_was_made_from(family: str, tmp_path: Path) -> None:
    trained = encoder(family)
    own = (MockingjayUpstream if family == "mockingjay" else NpcUpstream).from_encoder(trained, name="mine")
    assert (own.name, own.module) == ("mine", trained)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    own.save(tmp_path)
    wave = noise(4_000)
    np.testing.assert_array_equal(upstreams.load(tmp_path).extract([wave])[0], own.extract([wave])[0])


def test_an_encoder_of_another_family_is_refused() -> None:
    with pytest.raises(upstreams.UpstreamError, match="made from a NpcEncoder, got MockingjayEncoder"):
        NpcUpstream.from_encoder(encoder("mockingjay"))


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        document = json.loads((folder / "config.json").read_text())
        change(document)
        (folder / "config.json").write_text(json.dumps(document))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edit(lambda d: d.update(hiden=3)), "unknown option 'hiden'; did you mean 'hidden'"),
        (_edit(lambda d: d.pop("dropout")), "config.json lacks 'dropout'"),
        (_edit(lambda d: d.update(hidden=-2)), "config.json: .*hidden must be a whole number"),
        (_edit(lambda d: d.update(hidden="16")), "hidden must be a whole number"),
        (_edit(lambda d: d.update(num_mel=40)), "do not fit config.json"),
        (_edit(lambda d: d.update(cmvn="speaker")), "cmvn must be one of"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "is damaged"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_that_is_no_whole_upstream_says_why(
    family: str, damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    upstream(family).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(upstreams.UpstreamError, match=message):
        upstreams.load(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_weights_give_float32_features(family: str, tmp_path: Path) -> None:
    upstream(family).save(tmp_path)
    whole, half = upstreams.load(tmp_path), upstreams.load(tmp_path, dtype="bfloat16")
    (wanted,), (got,) = whole.extract([noise(8_000)]), half.extract([noise(8_000)])
    assert got.dtype == np.float32
    one, other = got.mean(axis=1), wanted.mean(axis=1)
    assert (one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)) > 0.999
    half.save(tmp_path / "half")
    assert (
        upstreams.load(tmp_path / "half", dtype="bfloat16").fingerprint()
        == half.fingerprint()
        != whole.fingerprint()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_training_in_bf16_gives_nearly_the_gradients_of_fp32(family: str) -> None:
    own = encoder(family).train()
    for part in own.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    features, mask = ragged([50, 30], own.options.input_dim)
    features = features.masked_fill(~mask[..., None], 0.0)
    found = []
    for enabled in (False, True):
        own.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            context = own.context(features, mask)
        context.float()[mask].square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_get_their_own_frames(family: str) -> None:
    own = upstream(family)
    waves = [noise(n, seed) for seed, n in enumerate([400, 9_000, 16_000, 3_000, 12_345] * 3)]
    wanted = own.extract(waves)
    with ThreadPoolExecutor(4) as pool:
        for got, frames in zip(pool.map(lambda w: own.extract([w])[0], waves), wanted, strict=True):
            np.testing.assert_array_equal(got, frames)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_an_exported_core_takes_clips_of_any_length(family: str) -> None:
    own = upstream(family)
    exported = torch.export.export(
        own.core(),
        (own.front(noise(16_123))[None],),
        dynamic_shapes=({2: torch.export.Dim.DYNAMIC},),
        strict=False,
    ).module()
    for num_samples in (30_000, 4_000):
        wave = noise(num_samples)
        assert relative_error(exported(own.front(wave)[None]), own.extract([wave])[0]) < 1e-5


@pytest.mark.parametrize(
    ("engine", "precision", "least"),
    [
        ("torch", "fp32", 1 - 1e-6),
        ("torch", "bf16", 0.999),
        pytest.param("openvino", "fp32", 1 - 1e-6, marks=needs_openvino),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_engines_give_the_frames_of_extract(family: str, engine: Any, precision: Any, least: float) -> None:
    own, waves = upstream(family), [noise(n) for n in (400, 24_321, 7_000)]
    survey = own.survey([waves[1]])
    with open_backend(own, engine, precision) as backend:
        found = backend.encode(waves, [None, survey, None])
        for got, wanted in zip(found, own.extract(waves), strict=True):
            one, other = np.asarray(got, np.float64).mean(axis=1), wanted.astype(np.float64).mean(axis=1)
            cosine = (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
            assert cosine.min() > least
            if precision == "fp32":
                assert relative_error(got, wanted) < 1e-4
