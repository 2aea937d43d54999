"""A chunk with its clip's survey gives the frames of the clip: what no attention has touched, to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subtone import upstreams
from subtone.upstreams import Upstream
from tests.tiny_upstreams import FAMILIES, noise, relative_error, write

FBANKS = ["fbank:20", "fbank:20+deltas", "fbank:20+delta+level", "fbank:20+deltas+cmvn"]
SURVEYED = ["wav2vec2-group", "hubert-layer", "w2v-bert-rotary", "whisper-80", *FBANKS[2:]]
WITHOUT = ["fbank:20", "fbank:20+deltas"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Upstream]:
    banks = {name: upstreams.load(name) for name in FBANKS}
    return {
        family: upstreams.load(write(tmp_path_factory.mktemp(family), family)) for family in FAMILIES
    } | banks


def uneven(num_samples: int) -> npt.NDArray[np.float32]:
    """Return a clip whose level, offset and spectrum differ from one second to the next."""
    wave = noise(num_samples)
    seconds = np.arange(num_samples) // 16_000
    wave[1:] += 0.9 * np.where(seconds[1:] % 2, wave[:-1], 0)
    return (wave * (0.2 + seconds) + 0.05 * seconds).astype(np.float32)


def blocks_of(wave: npt.NDArray[np.float32], cuts: list[int]) -> Iterator[npt.NDArray[np.float32]]:
    yield from np.split(wave, sorted(cut for cut in cuts if cut <= len(wave)))


def local_layer(upstream: Upstream, waves: list[Any], surveys: list[Any] | None = None) -> list[Any]:
    """Return what is computed before the first attention, layer 0, without what counts frames from the first."""
    layers = [frames[0] for frames in upstream.extract(waves, surveys)]
    positions: Any = getattr(upstream.module, "embed_positions", None)  # Whisper's
    if positions is not None:
        layers = [frames - positions.weight[: len(frames)].detach().numpy() for frames in layers]
    return layers


@pytest.mark.parametrize("name", [*FAMILIES, *FBANKS])
def test_before_attention_a_chunk_with_its_survey_equals_the_clip(
    name: str, loaded: dict[str, Upstream]
) -> None:
    upstream, wave = loaded[name], uneven(90_000)
    survey = upstream.survey(blocks_of(wave, [7, 30_001, 30_001]))
    (whole,) = local_layer(upstream, [wave])
    hop, context = upstream.grid.hop, round(upstream.context_s * 16_000)
    for first, last in ((0, 60), (90, 150), (110, 111), (180, upstream.grid.num_frames(len(wave)))):
        margin = -(-context // hop)  # chunks begin on the frame grid
        left = max(0, first - margin)
        start, end = left * hop, upstream.grid.offset + last * hop + context
        (got,) = local_layer(upstream, [wave[start : end if end < len(wave) else None]], [survey])
        got = got[first - left : last - left]
        assert relative_error(got, whole[first:last]) < 1e-5


@pytest.mark.parametrize("name", ["wav2vec2-group", "data2vec", "w2v-bert-rotary", "whisper-80", *FBANKS])
def test_a_frame_sees_its_context_and_no_more(name: str, loaded: dict[str, Upstream]) -> None:
    upstream, wave = loaded[name], uneven(90_000)
    survey, context = upstream.survey([wave]), round(upstream.context_s * 16_000)
    start, end = upstream.grid.cells(131, len(wave))[130]
    found = []
    for share in (0.0, 0.5, 1.0):
        other, around = noise(len(wave), seed=1), round(share * context)
        other[start - around : end + around] = wave[start - around : end + around]
        found.append(local_layer(upstream, [other], [survey])[0][130])
    (whole,) = local_layer(upstream, [wave], [survey])
    errors = [relative_error(frame, whole[130]) for frame in found]
    assert errors[2] < 1e-5
    assert min(errors[:2]) > 1e-4


@pytest.mark.parametrize("name", ["wav2vec2-group", "wav2vec2-layer", "conformer-relative", *FBANKS[2:]])
def test_without_its_survey_a_chunk_differs_from_the_clip(name: str, loaded: dict[str, Upstream]) -> None:
    # The fault that surveys repair: without it, the tests above could not fail.
    upstream, wave = loaded[name], uneven(90_000)
    (whole,) = local_layer(upstream, [wave])
    (got,) = local_layer(upstream, [wave[: 1_600 * 20]])
    assert relative_error(got[:20], whole[:20]) > 1e-2


@pytest.mark.parametrize("name", [*FAMILIES, *FBANKS])
@pytest.mark.parametrize("num_samples", [0, 100, 401, 16_123])
def test_a_whole_clip_with_its_survey_is_the_clip(
    name: str, num_samples: int, loaded: dict[str, Upstream]
) -> None:
    upstream, wave = loaded[name], noise(num_samples)
    survey = upstream.survey([wave])
    (plain,), (surveyed,) = upstream.extract([wave]), upstream.extract([wave], [survey])
    assert relative_error(surveyed, plain) < 1e-4
    with torch.no_grad():
        batch = upstream.encode([noise(9_000), wave, noise(30_000)], [None, survey, None])
    assert relative_error(batch.frames[1, :, batch.mask[1]], plain) < 1e-4


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_where_blocks_are_cut_changes_no_survey(data: st.DataObject, loaded: dict[str, Upstream]) -> None:
    upstream = loaded[data.draw(st.sampled_from(SURVEYED))]
    num_samples = data.draw(st.integers(0, 6_000))
    wave = noise(num_samples)
    cuts = data.draw(st.lists(st.integers(0, max(1, num_samples)), max_size=12))
    once, cut = upstream.survey([wave]), upstream.survey(blocks_of(wave, cuts))
    (whole,) = upstream.extract([wave], [once])
    assert relative_error(upstream.extract([wave], [cut])[0], whole) < 1e-6


@pytest.mark.parametrize("name", WITHOUT)
def test_frames_that_depend_on_their_surroundings_alone_need_no_survey(
    name: str, loaded: dict[str, Upstream]
) -> None:
    assert loaded[name].survey([noise(2_000)]) is None


def test_moments_survive_an_offset_a_million_times_the_signal(tmp_path: Path) -> None:
    upstream = upstreams.load(write(tmp_path, "wav2vec2-group"))
    wave = noise(48_000).astype(np.float64) - noise(48_000).mean()
    survey: Any = upstream.survey([wave[:9_000] + 0.5, wave[9_000:] + 0.5])
    assert survey.mean == pytest.approx(0.5, abs=1e-6)
    assert survey.variance == pytest.approx(wave.var(), rel=1e-5)


def test_a_survey_of_another_family_is_refused(loaded: dict[str, Upstream]) -> None:
    wave = noise(2_000)
    survey = loaded["whisper-80"].survey([wave])
    for name in ("wav2vec2-group", "w2v-bert-rotary"):
        with pytest.raises(upstreams.UpstreamError, match=r"LevelSurvey is no survey of this upstream"):
            loaded[name].extract([wave], [survey])
    with pytest.raises(upstreams.UpstreamError, match="2 surveys for 1 waves"):
        loaded["whisper-80"].encode([wave], [survey, survey])


def test_a_survey_of_what_is_no_wave_is_refused(loaded: dict[str, Upstream]) -> None:
    with pytest.raises(upstreams.UpstreamError, match="NaN"):
        loaded["wav2vec2-group"].survey([np.zeros(100, np.float32), np.full(100, np.nan, np.float32)])


def test_a_long_whisper_clip_with_its_survey_is_floored_by_its_loudest_moment(
    loaded: dict[str, Upstream],
) -> None:
    upstream, wave = loaded["whisper-80"], uneven(90_000)
    wave[:40_000] *= 1e-4
    survey = upstream.survey([wave])
    whole = upstream.front(wave)
    quiet = upstream.front(wave[: 320 * 100], survey)
    torch.testing.assert_close(quiet[:, :190], whole[:, :190], rtol=1e-5, atol=1e-5)
    assert (upstream.front(wave[: 320 * 100])[:, :190] - whole[:, :190]).abs().max() > 0.1
