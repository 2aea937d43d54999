"""Extraction: a clip's features are those of its frames, however many clips, threads and stores are around it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import subtone
from subtone import upstreams
from subtone.errors import StoreError, UsageError
from subtone.extraction import Clip, PooledFeatures, Progress, clips_of, extract, pool_wave
from subtone.pooling import STATISTICS
from subtone.speech import SpeechSegments, get_detector
from tests import synthetic, tiny_upstreams
from tests.reference import pooled_slowly

ENERGY = get_detector("energy", min_speech_s=0.03, min_silence_s=0.03, speech_pad_s=0.0)
FBANK = upstreams.load("fbank:20")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    lengths = (0.3, 0.9, 0.5, 1.3)
    return clips_of(
        synthetic.write(folder / f"{i}.wav", synthetic.utterance(s, 100 + 50 * i, seed=i))
        for i, s in enumerate(lengths)
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> upstreams.Upstream:
    return upstreams.load(tiny_upstreams.write(tmp_path_factory.mktemp("up") / "w2v", "wav2vec2-group"))


def same(a: PooledFeatures, b: PooledFeatures) -> bool:
    return (
        sorted(a.statistics) == sorted(b.statistics)
        and all(np.array_equal(a.statistics[k], b.statistics[k]) for k in a.statistics)
        and np.array_equal(a.num_samples, b.num_samples)
        and np.array_equal(a.num_frames, b.num_frames)
        and np.array_equal(a.speech_frames, b.speech_frames)
        and np.array_equal(a.too_short, b.too_short)
    )


@pytest.mark.parametrize("kind", ["fbank", "transformer"])
def test_features_are_the_pooling_of_the_upstreams_frames(
    kind: str, clips: list[Clip], encoder: upstreams.Upstream
) -> None:
    upstream = FBANK if kind == "fbank" else encoder
    found = extract(clips, upstream, ENERGY).features
    assert set(found.statistics) == set(STATISTICS)
    for i, clip in enumerate(clips):
        wave = subtone.load_audio(clip.file)
        (frames,) = upstream.extract([wave])
        speech = ENERGY.detect(wave).project(upstream.grid, frames.shape[1])
        assert 0 < speech.sum() < len(speech), "the clip must hold speech and pauses to tell poolings apart"
        everything = np.ones_like(speech)
        for layer in range(upstream.num_layers):
            for stem, form in (("gap", "gap"), ("sap", "frame"), ("sap_segment", "segment")):
                mean, std = pooled_slowly(frames[layer].astype(float), everything, speech, form)
                np.testing.assert_allclose(
                    found.statistics[f"{stem}_mean"][i, layer], mean, rtol=1e-4, atol=1e-4
                )
                np.testing.assert_allclose(
                    found.statistics[f"{stem}_std"][i, layer], std, rtol=1e-3, atol=1e-3
                )
        assert found.num_samples[i] == len(wave)
        assert found.num_frames[i] == frames.shape[1]
        assert found.speech_frames[i] == speech.sum()


@pytest.mark.parametrize("family", ["wav2vec2-group", "wavlm-layer", "whisper-80", "w2v-bert-relative_key"])
def test_clips_extracted_side_by_side_are_the_same_as_one_after_the_other(
    family: str, tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = upstreams.load(tiny_upstreams.write(tmp_path / family, family))
    alone = PooledFeatures.concatenate(
        pool_wave(upstream, w, ENERGY.detect(w), tuple(STATISTICS))
        for w in (subtone.load_audio(c.file) for c in clips)
    )
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    together = extract([*clips, *clips, *clips], upstream, ENERGY).features
    for name, values in alone.statistics.items():
        np.testing.assert_allclose(together.statistics[name], np.tile(values, (3, 1, 1)), atol=1e-5)


def test_order_is_that_of_the_clips_and_progress_counts_each_once(clips: list[Clip]) -> None:
    told: list[Progress] = []
    found = extract(clips[::-1], FBANK, ENERGY, on_progress=told.append)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.features.num_samples.tolist() == [20_800, 8_000, 14_400, 4_800]
    assert [(one.done, one.total) for one in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1].audio_s == pytest.approx(3.0)
    assert found.audio_s == pytest.approx(3.0)


def test_an_unreadable_clip_is_named_and_the_others_are_done(tmp_path: Path, clips: list[Clip]) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    bad = [Clip(str(tmp_path / n)) for n in ("text.wav", "empty.wav", "folder.wav", "missing.wav")]
    mixed = [clips[0], bad[0], bad[1], clips[1], bad[2], bad[3]]
    for store in (None, tmp_path / "store"):
        found = extract(mixed, FBANK, ENERGY, store=store)
        assert found.rows.tolist() == [0, 3]
        assert [failure.file for failure in found.failed] == [clip.file for clip in bad]
        assert all(Path(failure.file).name in failure.message for failure in found.failed)
        assert same(found.features, extract(clips[:2], FBANK, ENERGY).features)


def test_when_no_clip_can_be_used_the_error_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(StoreError, match=r"none of 2 clips could be used: .*text\.wav"):
        extract([Clip(str(tmp_path / "text.wav"))] * 2, FBANK, ENERGY)
    with pytest.raises(StoreError, match="there are no clips to extract"):
        extract([], FBANK, ENERGY)


def test_a_part_of_a_recording_equals_that_part_as_a_file(tmp_path: Path) -> None:
    wave = synthetic.utterance(3.0, seed=5)
    whole = synthetic.write(tmp_path / "whole.wav", wave)
    part = synthetic.write(tmp_path / "part.wav", wave[16_000:36_000])
    by_times = extract([Clip(str(whole), 1.0, 2.25)], FBANK, ENERGY, store=tmp_path / "store").features
    assert same(by_times, extract([Clip(str(part))], FBANK, ENERGY).features)
    to_end = extract([Clip(str(whole), 1.0), Clip(str(whole), 1.0, 2.25)], FBANK, ENERGY).features
    assert to_end.num_samples.tolist() == [32_000, 20_000]


def test_parts_of_one_recording_have_addresses_of_their_own(tmp_path: Path) -> None:
    file = str(synthetic.write(tmp_path / "a.wav", synthetic.utterance(2.0)))
    keys = {Clip(file).key(), Clip(file, 0.5).key(), Clip(file, 0.0, 1.0).key(), Clip(file, 0.5, 1.0).key()}
    assert len(keys) == 4


def test_a_file_written_anew_under_its_name_has_another_address(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "a.wav", synthetic.utterance(0.5, seed=1))
    before = Clip(str(path)).key()
    synthetic.write(path, synthetic.utterance(0.5, seed=2))
    assert Clip(str(path)).key() != before


def test_clips_shorter_than_a_window_are_flagged_and_have_features(tmp_path: Path) -> None:
    files = [
        synthetic.write(tmp_path / f"{n}.wav", synthetic.utterance(1.0)[4_000 : 4_000 + n])
        for n in (1, 399, 400)
    ]
    found = extract(clips_of(files), FBANK, ENERGY).features
    assert found.too_short.tolist() == [True, True, False]
    assert found.num_frames.tolist() == [1, 1, 1]
    assert all(np.isfinite(values).all() for values in found.statistics.values())


def test_silence_has_no_speech_and_its_sap_is_its_gap(tmp_path: Path) -> None:
    file = synthetic.write(tmp_path / "silence.wav", np.zeros(8_000, np.float32))
    for detector in (ENERGY, get_detector("silero")):
        found = extract(clips_of([file]), FBANK, detector).features
        assert found.speech_frames.tolist() == [0]
        for moment in ("mean", "std"):
            gap = found.statistics[f"gap_{moment}"]
            assert np.array_equal(found.statistics[f"sap_{moment}"], gap)
            assert np.array_equal(found.statistics[f"sap_segment_{moment}"], gap)


def test_only_the_statistics_asked_for_are_kept_and_another_is_refused_by_name(clips: list[Clip]) -> None:
    features = extract(clips[:2], FBANK, ENERGY, statistics=("sap_std", "gap_mean")).features
    assert set(features.statistics) == {"sap_std", "gap_mean"}
    joined = features.matrix(("sap_std", "gap_mean"))
    assert joined.shape == (2, 1, 40)
    assert np.array_equal(joined[..., :20], features.statistics["sap_std"])
    with pytest.raises(UsageError, match=r"'sap_mean' was not extracted; did you mean"):
        features.matrix(("sap_mean",))
    with pytest.raises(UsageError, match=r"'gap_meen' is not known; did you mean 'gap_mean'\?"):
        extract(clips[:1], FBANK, ENERGY, statistics=("gap_meen",))


def test_an_error_of_the_one_who_watches_stops_the_work_and_leaves_no_thread(clips: list[Clip]) -> None:
    def stop(state: Progress) -> None:
        if state.done == 2:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        extract(clips * 20, FBANK, ENERGY, on_progress=stop)
    assert threading.active_count() == before


def test_speech_that_is_said_to_be_everywhere_makes_sap_gap(encoder: upstreams.Upstream) -> None:
    wave = synthetic.utterance(0.7)
    found = pool_wave(encoder, wave, SpeechSegments.whole(len(wave)), ("gap_mean", "sap_mean"))
    assert np.array_equal(found.statistics["gap_mean"], found.statistics["sap_mean"])


def test_a_tables_index_gives_its_clips_in_seconds(tmp_path: Path) -> None:
    table = subtone.corpora.read("manifest", synthetic.manifest(tmp_path, speakers=1, takes=1))
    clips = clips_of(table)
    assert [Path(clip.file).name for clip in clips] == ["anger_0.wav", "happiness_0.wav", "sadness_0.wav"]
    assert {(clip.start_s, clip.end_s) for clip in clips} == {(0.0, None)}
    assert clips_of(table.index) == clips
