"""Stretches of frames out of a store: what a clip's frames hold there, whoever reads them, with flat memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subtone import upstreams
from subtone.audio import load_audio
from subtone.errors import StoreError, UsageError
from subtone.extraction import (
    ExtractionOptions,
    FeatureMaps,
    FeatureStore,
    PooledFeatures,
    clips_of,
    extract,
    maps,
)
from subtone.extraction import frames as frames_room
from subtone.extraction.silence import kept_spans, speech_of
from subtone.speech import SpeechSegments, get_detector
from tests import store_parts, synthetic
from tests.store_parts import DIM, LAYERS, MADE_BY, WITH_FRAMES, features, key

BYTES_A_FRAME = 2 * LAYERS * DIM


def frames(number: int, count: int) -> npt.NDArray[np.float32]:
    """Return ``(LAYERS, count, DIM)`` that no other clip has."""
    return np.random.default_rng(number).standard_normal((LAYERS, count, DIM), np.float32)


def fill(folder: Path, lengths: Sequence[int], *, first: int = 0, told: bool = True) -> FeatureStore:
    """Add a shard of clips of so many frames to a store, numbered from ``first``; told: where their speech is."""
    store, numbers = FeatureStore(folder, WITH_FRAMES), range(first, first + len(lengths))
    with store.shard() as shard:
        for n, length in zip(numbers, lengths, strict=True):
            shard.add_frames(key(n), 0, frames(n, length))
            shard.end_clip(key(n))
        found = features(list(numbers))
        found.num_frames[:] = lengths
        speech = [
            SpeechSegments([n], [n + 5], 320 * length) for n, length in zip(numbers, lengths, strict=True)
        ]
        shard.finish(
            [key(n) for n in numbers], [f"{n}.wav" for n in numbers], found, speech if told else None
        )
    return store


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces hold ten frames."""
    monkeypatch.setattr(frames_room, "PIECE_BYTES", 10 * BYTES_A_FRAME)


@pytest.mark.usefixtures("small_pieces")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    lengths=st.lists(st.integers(1, 45), min_size=1, max_size=5),
    layers=st.none() | st.permutations(range(LAYERS)).map(lambda all_: all_[:2]),
)
def test_any_stretch_of_any_clip_is_what_the_store_gives(
    data: st.DataObject,
    lengths: list[int],
    layers: list[int] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = fill(tmp_path_factory.mktemp("store"), lengths)
    order = data.draw(st.permutations(range(len(lengths))))
    found = FeatureMaps(store, [key(n) for n in order], layers)
    assert found.lengths.tolist() == [lengths[n] for n in order]
    assert (len(found), found.dim) == (len(lengths), DIM)
    assert found.layers == tuple(range(LAYERS) if layers is None else layers)
    for clip, n in enumerate(order):
        whole = store.frames(key(n), layers)
        assert np.array_equal(found.read(clip), whole)
        start = data.draw(st.integers(0, lengths[n] - 1))
        stop = data.draw(st.integers(start + 1, lengths[n]))
        assert np.array_equal(found.read(clip, start, stop), whole[:, start:stop])
    found.close()


def test_layers_that_alone_are_kept_go_by_their_own_numbers(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {**WITH_FRAMES, "frames": [0, 2]})
    with store.shard() as shard:
        shard.add_frames(key(0), 0, frames(0, 5))
        shard.finish([key(0)], ["a.wav"], features([0]), [SpeechSegments.whole(1600)])
    found = FeatureMaps(store, [key(0)], [2])
    assert np.array_equal(found.read(0, 1, 3), frames(0, 5)[2:, 1:3].astype(np.float16))
    with pytest.raises(UsageError, match="keeps no frames of layer 1, but those of layers 0, 2"):
        FeatureMaps(store, [key(0)], [0, 1])


@pytest.mark.usefixtures("small_pieces")
def test_more_pieces_than_may_be_open_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "OPEN_FILES", 2)
    store = fill(tmp_path, [65, 8, 9, 30])
    assert len(list(tmp_path.glob("frames-*"))) > 8
    found = FeatureMaps(store, [key(n) for n in range(4)])
    most = 0
    for clip in (0, 3, 1, 0, 2, 3):
        assert np.array_equal(found.read(clip), store.frames(key(clip)))
        most = max(most, len(found._files))
    assert most == 2
    found.close()
    assert not found._files
    assert np.array_equal(found.read(1), store.frames(key(1))), "files open again when they are asked for"


@pytest.mark.usefixtures("small_pieces")
def test_threads_may_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "OPEN_FILES", 2)
    lengths = [35, 8, 9, 22, 41]
    store = fill(tmp_path, lengths)
    found = FeatureMaps(store, [key(n) for n in range(5)])
    whole = [store.frames(key(n)).copy() for n in range(5)]
    wrong: list[Any] = []

    def work(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(150):
            clip = int(chance.integers(5))
            start = int(chance.integers(lengths[clip]))
            stop = int(chance.integers(start + 1, lengths[clip] + 1))
            try:
                if not np.array_equal(found.read(clip, start, stop), whole[clip][:, start:stop]):
                    wrong.append((clip, start, stop))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_frames_that_a_clip_has_not_are_refused(tmp_path: Path) -> None:
    found = FeatureMaps(fill(tmp_path, [7, 9]), [key(0), key(1)])
    for start, stop in ((0, 8), (-1, 3), (3, 3), (4, 2), (7, None)):
        with pytest.raises(UsageError, match=rf"clip 0 has 7 frames, asked for are those from {start} to "):
            found.read(0, start, stop)
    assert found.read(1, 8).shape == (LAYERS, 1, DIM)


def test_a_store_that_lacks_the_clips_or_all_frames_is_told(tmp_path: Path) -> None:
    store = fill(tmp_path / "a", [7])
    with pytest.raises(StoreError, match="1 of 2 clips are not in this store"):
        FeatureMaps(store, [key(0), key(9)])
    bare = FeatureStore(tmp_path / "bare", MADE_BY)
    store_parts.add(bare, [0])
    with pytest.raises(StoreError, match="keeps no frames; extract into another folder with --frames"):
        FeatureMaps(bare, [key(0)])


def test_a_store_that_does_not_say_where_speech_is_is_told_with_the_way_out(tmp_path: Path) -> None:
    store = fill(tmp_path, [7], told=False)
    assert store.frames(key(0)).shape[1] == 7
    with pytest.raises(StoreError, match=r"does not say where its clips hold speech.*into another folder"):
        store.speech([key(0)])
    with pytest.raises(StoreError, match="extract into another folder"):
        FeatureMaps(store, [key(0)])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_piece_that_is_harmed_is_told_whenever_it_happens(tmp_path: Path, harm: str) -> None:
    store = fill(tmp_path, [7, 25])
    found = FeatureMaps(store, [key(0), key(1)])
    assert found.read(1).shape[1] == 25
    found.close()
    for piece in tmp_path.glob("frames-*"):
        if harm == "delete":
            piece.unlink()
        else:
            piece.write_bytes(piece.read_bytes()[:-10])
    with pytest.raises(StoreError, match=r"frames-.*extract into another folder"):
        found.read(1)
    with pytest.raises(StoreError, match=r"is damaged .*delete shard-.* and extract again"):
        FeatureMaps(FeatureStore.open(tmp_path), [key(1)])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("leave_out_silence_s", [None, 0.1])
def test_speech_is_what_the_detector_finds_in_the_time_of_the_frames(
    tmp_path: Path, leave_out_silence_s: float | None
) -> None:
    paths = [
        synthetic.write(tmp_path / f"{n}.wav", synthetic.utterance(0.8 + 0.4 * n, 200.0 + 100 * n, seed=n))
        for n in range(4)
    ]
    detector = get_detector("energy", min_speech_s=0.03, min_silence_s=0.03, speech_pad_s=0.0)
    options = ExtractionOptions(frames="all", leave_out_silence_s=leave_out_silence_s)
    upstream = upstreams.load("fbank:20")
    found = extract(clips_of(paths), upstream, detector, store=tmp_path / "store", options=options)
    store = FeatureStore.open(tmp_path / "store")
    shown = FeatureMaps(store, found.keys)
    for clip, path in enumerate(paths):
        heard = detector.detect(load_audio(str(path)))
        assert len(heard) == 2
        if leave_out_silence_s is not None:
            heard = speech_of(heard, kept_spans(heard, leave_out_silence_s))
            assert heard.num_samples < found.features.num_samples[clip]
        assert shown.speech[clip] == heard
        assert shown.lengths[clip] == upstream.grid.num_frames(heard.num_samples)
        frames_of_speech = heard.project(upstream.grid, int(shown.lengths[clip])).sum()
        assert frames_of_speech == found.features.speech_frames[clip]
    assert store.speech(list(reversed(found.keys))) == list(reversed(shown.speech))


def test_clips_of_several_shards_come_in_the_order_asked_for_and_an_old_shard_is_named(
    tmp_path: Path,
) -> None:
    lengths = [7, 9, 5, 6]
    fill(tmp_path, lengths[:2])
    store = fill(tmp_path, lengths[2:], first=2)
    for order in ([3, 0, 2, 1], [1, 3]):
        found = FeatureMaps(store, [key(n) for n in order])
        assert [one.starts.tolist() for one in found.speech] == [[n] for n in order]
        for clip, n in enumerate(order):
            assert np.array_equal(found.read(clip), frames(n, lengths[n]).astype(np.float16))
    store = fill(tmp_path, [8], first=4, told=False)
    assert len(FeatureMaps(store, [key(3), key(0)])) == 2
    with pytest.raises(StoreError, match=r"shard-\w+ does not say"):
        FeatureMaps(store, [key(0), key(4)])


def resident() -> int:
    """Return the bytes of memory that this process holds, mapped files that were looked at among them."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_flat_however_much_is_read(tmp_path: Path) -> None:
    layers, dim, count, clips = 13, 768, 800, 20  # 16 MB a clip
    store = FeatureStore(tmp_path, {"statistics": ["gap_mean"], "frames": list(range(layers))})
    names = [key(n) for n in range(clips)]
    many = np.full(clips, count)
    pooled = PooledFeatures(
        {"gap_mean": np.zeros((clips, layers, dim), np.float32)}, many, many, many, np.zeros(clips, bool)
    )
    with store.shard() as shard:
        for n, name in enumerate(names):
            shard.add_half(name, 0, np.full((layers, count, dim), n, np.float16))
            shard.end_clip(name)
        shard.finish(names, names, pooled, [SpeechSegments.whole(count)] * clips)
    found = FeatureMaps(store, names)
    found.read(0, 0, 100)
    read, before, most = 0, resident(), 0
    for clip in range(clips):
        for start in range(0, count, 100):
            window = found.read(clip, start, start + 100)
            assert window[0, 0, 0] == window[-1, -1, -1] == clip
            read += window.nbytes
        most = max(most, resident())
    assert read > 300_000_000
    assert most - before < 30_000_000
