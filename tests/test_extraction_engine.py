"""The engine around the encoder: what is kept, what fails, what is left out, and how long a clip may be."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import subtone
from subtone import upstreams
from subtone.errors import StoreError, SubtoneError, UsageError
from subtone.extraction import (
    Clip,
    ExtractionOptions,
    FeatureStore,
    Progress,
    clips_of,
    engine,
    extract,
    extract_to_store,
    pool_wave,
)
from subtone.extraction.backends.torch_backend import BatchedTorchBackend
from subtone.extraction.silence import kept_spans, speech_of
from subtone.pooling import STATISTICS
from subtone.speech import get_detector
from tests import synthetic, tiny_upstreams

ENERGY = get_detector("energy", min_speech_s=0.03, min_silence_s=0.03, speech_pad_s=0.0)
FBANK = upstreams.load("fbank:20")
NAMES = tuple(STATISTICS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        synthetic.write(folder / f"{i}.wav", synthetic.utterance(0.4 + 0.1 * i, 100 + 20 * i, seed=i))
        for i in range(8)
    ]


def with_pauses(*lengths_s: float) -> np.ndarray:
    """Utterances of half a second with pauses between them."""
    parts = [synthetic.utterance(0.5, seed=1)]
    for i, pause in enumerate(lengths_s):
        parts += [np.zeros(round(pause * 16_000), np.float32), synthetic.utterance(0.5, seed=2 + i)]
    return np.concatenate(parts)


@contextmanager
def disk_for_files_of(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_frames_are_kept_in_half_precision_on_request(files: list[Path], tmp_path: Path) -> None:
    encoder = upstreams.load(tiny_upstreams.write(tmp_path / "w2v", "wav2vec2-group"))
    options = ExtractionOptions(backend="torch", frames=(0, 2))
    extract_to_store(encoder, tmp_path / "store", files, detector=ENERGY, options=options)
    store = FeatureStore.open(tmp_path / "store")
    assert store.frame_layers == (0, 2)
    for clip in clips_of(files):
        (frames,) = encoder.extract([subtone.load_audio(clip.file)])
        kept = store.frames(clip.key())
        assert kept.dtype == np.float16
        np.testing.assert_allclose(kept, frames[[0, 2]], rtol=2e-3, atol=2e-3)


def test_frames_need_a_store_and_layers_that_are_there(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in a store only"):
        extract(clips_of(files), FBANK, ENERGY, options=ExtractionOptions(frames="all"))
    with pytest.raises(UsageError, match=r"layer 3: fbank:20 has layers 0 to 0"):
        extract_to_store(
            FBANK, tmp_path / "store", files, detector=ENERGY, options=ExtractionOptions(frames=(3,))
        )


@pytest.mark.parametrize("seconds", [75.0, 660.0], ids=["held", "streamed"])
def test_a_clip_of_any_length_has_the_features_of_its_samples_in_memory(
    seconds: float, tmp_path: Path
) -> None:
    wave = np.tile(with_pauses(0.7, 1.1), int(seconds / 3.3) + 1)[: round(seconds * 16_000)]
    file = synthetic.write(tmp_path / "long.wav", wave)
    found = extract(clips_of([file]), FBANK, ENERGY).features
    samples = subtone.load_audio(file)
    wanted = pool_wave(FBANK, samples, ENERGY.detect(samples), NAMES)
    assert found.num_frames.tolist() == wanted.num_frames.tolist() == [FBANK.grid.num_frames(len(wave))]
    for name in NAMES:
        np.testing.assert_allclose(found.statistics[name], wanted.statistics[name], rtol=1e-5, atol=1e-5)


def test_a_long_silence_left_out_is_as_if_it_had_been_cut_out_of_the_file(tmp_path: Path) -> None:
    wave = with_pauses(3.0, 0.4)
    file = synthetic.write(tmp_path / "pauses.wav", wave)
    options = ExtractionOptions(leave_out_silence_s=1.0)
    found = extract(clips_of([file]), FBANK, ENERGY, options=options).features
    samples = subtone.load_audio(file)
    spans = kept_spans(ENERGY.detect(samples), 1.0)
    shorter = np.concatenate([samples[start:end] for start, end in spans])
    assert 1.9 * 16_000 < len(samples) - len(shorter) < 2.1 * 16_000
    wanted = pool_wave(FBANK, shorter, speech_of(ENERGY.detect(samples), spans), NAMES)
    for name in NAMES:
        np.testing.assert_allclose(found.statistics[name], wanted.statistics[name], rtol=1e-6, atol=1e-6)
    assert found.num_samples.tolist() == [len(samples)], "the clip is as long as it was"


def test_a_store_made_with_silences_does_not_fit_one_made_without(files: list[Path], tmp_path: Path) -> None:
    extract_to_store(FBANK, tmp_path / "store", files, detector=ENERGY)
    with pytest.raises(StoreError, match="leave_out_silence_s"):
        extract_to_store(
            FBANK,
            tmp_path / "store",
            files,
            detector=ENERGY,
            options=ExtractionOptions(leave_out_silence_s=0.5),
        )


def test_a_full_disk_ends_the_run_with_what_is_stored_and_says_how_many_are_missing(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SHARD_CLIPS", 3)
    long = synthetic.write(tmp_path / "long.wav", np.tile(synthetic.utterance(1.0), 60))
    mixed = [*files[:4], long, *files[4:]]  # the second shard has frames of a minute
    options, store = ExtractionOptions(frames="all"), tmp_path / "store"
    with disk_for_files_of(150_000):
        summary = extract_to_store(FBANK, store, mixed, detector=ENERGY, options=options)
    assert summary.clips == 3
    (failure,) = summary.failed
    assert failure.file == str(store)
    assert "6 of 9 clips are not stored" in failure.message
    assert "make room" in failure.message
    assert len(FeatureStore.open(store)) == 3
    assert not [path for path in store.iterdir() if path.name.startswith(".")]
    with pytest.raises(StoreError, match="make room"), disk_for_files_of(150_000):
        extract(clips_of(mixed), FBANK, ENERGY, store=store, options=options)
    after = extract_to_store(FBANK, store, mixed, detector=ENERGY, options=options)
    assert (after.clips, after.reused, after.failed) == (9, 3, ())


def test_a_reading_process_that_is_killed_costs_nothing(files: list[Path]) -> None:
    killed: list[int] = []

    def kill(state: Progress) -> None:
        if state.done == 2:
            for child in children():
                os.kill(child, signal.SIGKILL)
                killed.append(child)

    clips = [Clip(str(file), start) for file in files for start in (0.0, 0.01, 0.02, 0.03, 0.04)]
    found = extract(clips, FBANK, ENERGY, on_progress=kill)
    assert killed
    assert found.failed == ()
    assert len(found.features) == len(clips)


def children() -> list[int]:
    """Processes that this one has started and that still run."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def test_a_clip_with_the_content_of_another_is_encoded_once(files: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.wav"
    copy.write_bytes(files[0].read_bytes())
    summary = extract_to_store(FBANK, tmp_path / "store", [*files, copy, files[0]], detector=ENERGY)
    assert (summary.clips, summary.reused, len(FeatureStore.open(tmp_path / "store"))) == (10, 2, 8)


def test_a_detector_of_ones_own_is_refused_by_name(files: list[Path]) -> None:
    class Mine(type(ENERGY)):  # type: ignore[misc]
        name = "mine"

    with pytest.raises(SubtoneError, match=r"no detector .mine.; known: energy, silero, webrtc"):
        extract(clips_of(files), FBANK, Mine(ENERGY.options))


def test_speech_is_not_looked_for_where_nothing_depends_on_it(files: list[Path], tmp_path: Path) -> None:
    class Mine(type(ENERGY)):  # type: ignore[misc]
        name = "mine"  # whoever asks for this one fails

    mine = Mine(ENERGY.options)
    alone = extract(clips_of(files), FBANK, mine, statistics=["gap_mean", "gap_std"]).features
    both = extract(clips_of(files), FBANK, ENERGY, statistics=["gap_mean", "gap_std", "sap_mean"]).features
    for name in ("gap_mean", "gap_std"):
        np.testing.assert_array_equal(alone.statistics[name], both.statistics[name])
    assert alone.speech_frames.tolist() == alone.num_frames.tolist() == both.num_frames.tolist()
    for needs in (
        {"statistics": ["gap_mean"], "store": tmp_path / "store"},
        {"statistics": ["gap_mean"], "options": ExtractionOptions(leave_out_silence_s=0.2)},
        {"statistics": ["gap_mean", "sap_segment_std"]},
    ):
        with pytest.raises(SubtoneError, match=r"no detector .mine.;"):
            extract(clips_of(files), FBANK, mine, **needs)


def test_an_error_that_nobody_foresaw_is_named_with_its_clip_and_the_rest_is_done(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(FBANK).front

    def front(self: object, wave: np.ndarray, survey: object = None) -> object:
        if len(wave) == round(0.7 * 16_000):
            raise RuntimeError("could not create a primitive")
        return whole(self, wave, survey)  # type: ignore[arg-type]

    monkeypatch.setattr(type(FBANK), "front", front)
    summary = extract_to_store(FBANK, tmp_path / "store", files, detector=ENERGY)
    assert summary.clips == len(files) - 1
    (failure,) = summary.failed
    assert failure.file == str(files[3])
    assert "could not create a primitive" in failure.message
    assert "Traceback" in failure.details


def test_a_recording_too_loud_for_its_features_is_named_and_not_stored(
    files: list[Path], tmp_path: Path
) -> None:
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(8_000, 1e37, np.float32), 16_000, subtype="FLOAT")
    summary = extract_to_store(FBANK, tmp_path / "store", [*files[:2], loud], detector=ENERGY)
    assert summary.clips == 2
    assert [failure.file for failure in summary.failed] == [str(loud)]
    assert "not finite" in summary.failed[0].message


def test_a_store_that_keeps_frames_serves_and_takes_those_who_want_none(
    files: list[Path], tmp_path: Path
) -> None:
    kept = ExtractionOptions(frames="all")
    extract_to_store(FBANK, tmp_path / "store", files[:3], detector=ENERGY, options=kept)
    found = extract(clips_of(files[:5]), FBANK, ENERGY, store=tmp_path / "store")
    assert found.reused == 3
    store = FeatureStore.open(tmp_path / "store")
    assert [store.frames(clip.key()).shape[0] for clip in clips_of(files[:5])] == [1] * 5


def test_a_long_file_that_is_changed_while_it_is_encoded_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = synthetic.write(tmp_path / "long.wav", np.tile(with_pauses(0.7), 450))  # 765 s: streamed
    whole = type(FBANK).front

    def front(self: object, wave: np.ndarray, survey: object = None) -> object:
        os.utime(file)
        return whole(self, wave, survey)  # type: ignore[arg-type]

    monkeypatch.setattr(type(FBANK), "front", front)
    with pytest.raises(StoreError, match="changed"):
        extract_to_store(FBANK, tmp_path / "store", [file], detector=ENERGY)
    assert len(FeatureStore.open(tmp_path / "store")) == 0


@pytest.mark.parametrize("slow", ["reading", "encoding"])
def test_batches_hold_the_same_clips_whoever_is_slow_and_wherever_a_run_goes_on(
    slow: str, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SHARD_CLIPS", 6)
    encoder = upstreams.load(tiny_upstreams.write(tmp_path / "w2v", "wav2vec2-group"))
    clips = [Clip(str(file), start) for start in (0.0, 0.01, 0.02) for file in files]
    seen: list[list[int]] = []

    class Batches(BatchedTorchBackend):
        def encode(self, waves: Any, surveys: Any = None) -> Any:
            seen.append([len(wave) for wave in waves])
            time.sleep(0.02 if slow == "encoding" else 0)
            return super().encode(waves, surveys)

    def opened(*_: object, **__: object) -> Batches:
        made = Batches(encoder, "fp32")
        made.batch_s = 1.5
        return made

    def wait(_: Progress) -> None:
        time.sleep(0.02 if slow == "reading" else 0)

    monkeypatch.setattr(engine, "open_backend", opened)
    found = extract(clips, encoder, ENERGY, store=tmp_path / "whole", on_progress=wait)
    whole, seen = seen, []
    assert extract(clips[:6], encoder, ENERGY, store=tmp_path / "parts").reused == 0
    rest = extract(clips, encoder, ENERGY, store=tmp_path / "parts", on_progress=wait)
    assert rest.reused == 6
    assert seen == whole
    for name, values in found.features.statistics.items():
        assert np.array_equal(values, rest.features.statistics[name])
