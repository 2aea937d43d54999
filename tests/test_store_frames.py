"""Frames in the store: however they come in, the same files; read one clip and one layer at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subtone.errors import StoreError, UsageError
from subtone.extraction import FeatureStore
from subtone.extraction import frames as frames_room
from subtone.extraction.shards import ShardWriter
from tests.store_parts import (
    DIM,
    LAYERS,
    MADE_BY,
    STATISTICS,
    WITH_FRAMES,
    add,
    content,
    features,
    frames,
    key,
)

BYTES_A_FRAME = 2 * LAYERS * DIM


def long_frames(number: int, count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(number).standard_normal((LAYERS, count, DIM), np.float32)


def finish(shard: ShardWriter, lengths: dict[int, int]) -> None:
    found = features(list(lengths))
    found.num_frames[:] = list(lengths.values())
    shard.finish([key(n) for n in lengths], [f"{n}.wav" for n in lengths], found)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pieces hold ten frames."""
    monkeypatch.setattr(frames_room, "PIECE_BYTES", 10 * BYTES_A_FRAME)
    return 10


def test_frames_come_back_in_half_precision_all_or_of_some_layers(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    add(store, range(3))
    expected = frames(1).astype(np.float16)
    for each in (store, FeatureStore.open(tmp_path)):
        assert each.frame_layers == (0, 1, 2)
        assert np.array_equal(each.frames(key(1)), expected)
        assert np.array_equal(each.frames(key(1), [2, 0]), expected[[2, 0]])
        assert np.array_equal(each.frames(key(1), [1]), expected[1:2])


def test_only_the_layers_chosen_are_kept_under_their_own_numbers(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {"statistics": STATISTICS, "frames": [0, 2]})
    add(store, [5])
    assert np.array_equal(store.frames(key(5), [2]), frames(5)[2:].astype(np.float16))
    with pytest.raises(UsageError, match="keeps no frames of layer 1, but those of layers 0, 2"):
        store.frames(key(5), [1])
    with pytest.raises(StoreError, match="1 of 1 clips are not in this store"):
        store.frames(key(6))
    bare = FeatureStore(tmp_path / "bare", MADE_BY)
    add(bare, [5])
    with pytest.raises(UsageError, match="keeps no frames of layer 0, but none at all"):
        bare.frames(key(5), [0])
    with pytest.raises(UsageError, match="keeps no frames"):
        bare.frames(key(5))


def test_frames_are_mapped_and_read_only_and_one_layer_is_one_stretch(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    add(store, range(3))
    found = store.frames(key(2), [1])
    assert not found.flags.owndata
    assert not found.flags.writeable
    assert found[0].flags.c_contiguous
    (piece,) = tmp_path.glob("frames-*")
    assert piece.read_bytes().count(found[0].tobytes()) == 1


def test_short_clips_share_pieces_uncut_and_a_long_one_has_its_own(tmp_path: Path, small_pieces: int) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    lengths = {0: 4, 1: 6, 2: 3, 3: 8, 4: 35, 5: 2, 6: 10, 7: 1}
    with store.shard() as shard:
        for n, count in lengths.items():
            shard.add_frames(key(n), 0, long_frames(n, count))
            shard.end_clip(key(n))
        finish(shard, lengths)
    pieces = [store._shards[store._at[key(n)][0]].clip_pieces[store._at[key(n)][1]] for n in lengths]
    assert [len(one) for one in pieces] == [1, 1, 1, 1, 4, 1, 1, 1]
    assert pieces[0] == pieces[1] != pieces[2]
    for path in tmp_path.glob("frames-*"):
        assert path.stat().st_size < small_pieces * BYTES_A_FRAME + 1_000
    for n, count in lengths.items():
        assert np.array_equal(store.frames(key(n)), long_frames(n, count).astype(np.float16))
    blocks = list(store.frame_blocks(key(4), [2]))
    assert [first for first, _ in blocks] == [0, 10, 20, 30]
    assert all(not block.flags.owndata for _, block in blocks)
    store.verify()


@pytest.mark.usefixtures("small_pieces")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_the_files_do_not_depend_on_blocks_nor_on_what_else_is_in_work(
    data: st.DataObject, lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clips = dict(enumerate(lengths))
    plain, cut = (tmp_path_factory.mktemp(name) for name in ("plain", "cut"))
    with FeatureStore(plain, WITH_FRAMES).shard() as shard:
        for n, count in clips.items():
            shard.add_frames(key(n), 0, long_frames(n, count))
            shard.end_clip(key(n))
        finish(shard, clips)
    done, ended = dict.fromkeys(clips, 0), 0
    with FeatureStore(cut, WITH_FRAMES).shard() as shard:
        while ended < len(clips):
            n = data.draw(st.sampled_from([n for n in clips if n >= ended]))
            count = min(data.draw(st.integers(1, 25)), clips[n] - done[n])
            if count:
                block = long_frames(n, clips[n])[:, done[n] : done[n] + count]
                shard.add_frames(key(n), done[n], torch.from_numpy(block))
                done[n] += count
            while ended < len(clips) and done[ended] == clips[ended]:
                shard.end_clip(key(ended))
                ended += 1
        finish(shard, clips)
    assert content(plain) == content(cut)


@pytest.mark.usefixtures("small_pieces")
def test_clips_in_work_when_a_shard_is_finished_go_into_the_next(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    with store.shard() as shard:
        shard.add_frames(key(0), 0, long_frames(0, 3))
        shard.add_frames(key(1), 0, long_frames(1, 30)[:, :25])  # two of its pieces are on disk
        shard.end_clip(key(0))
        finish(shard, {0: 3})
        assert len(FeatureStore.open(tmp_path)) == 1
        shard.add_frames(key(1), 25, long_frames(1, 30)[:, 25:])
        finish(shard, {1: 30})
        shard.add_frames(key(2), 0, long_frames(2, 25))
    assert not list(tmp_path.glob(".*"))
    assert np.array_equal(FeatureStore.open(tmp_path).frames(key(1)), long_frames(1, 30).astype(np.float16))
    alone = FeatureStore(tmp_path / "alone", WITH_FRAMES)
    for n, count in {0: 3, 1: 30}.items():
        with alone.shard() as shard:
            shard.add_frames(key(n), 0, long_frames(n, count))
            finish(shard, {n: count})
    assert content(tmp_path / "alone").items() <= content(tmp_path).items()


@pytest.mark.usefixtures("small_pieces")
def test_threads_may_add_frames_side_by_side(tmp_path: Path) -> None:
    store, lengths = FeatureStore(tmp_path, WITH_FRAMES), dict.fromkeys(range(8), 33)

    def work(n: int) -> None:
        for first in range(0, 33, 3):
            shard.add_frames(key(n), first, long_frames(n, 33)[:, first : first + 3])

    with store.shard() as shard:
        threads = [threading.Thread(target=work, args=(n,)) for n in lengths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        finish(shard, lengths)
    for n in lengths:
        assert np.array_equal(store.frames(key(n)), long_frames(n, 33).astype(np.float16))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("value", [7e4, -7e4, np.inf, np.nan])
def test_a_clip_that_half_precision_cannot_hold_is_refused_and_the_others_go_on(
    tmp_path: Path, value: float
) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    bad = long_frames(1, 30)
    bad[2, 28, 3] = value
    with store.shard() as shard:
        shard.add_frames(key(0), 0, long_frames(0, 5))
        shard.end_clip(key(0))
        shard.add_frames(key(1), 0, bad[:, :25])
        with pytest.raises(UsageError, match=r"layer 2 is not finite in half precision, .* up to 65504"):
            shard.add_frames(key(1), 25, bad[:, 25:])
        finish(shard, {0: 5})
    assert FeatureStore.open(tmp_path).keys() == [key(0)]
    assert sorted(p.name.partition("-")[0] for p in tmp_path.iterdir()) == [
        "frames",
        "pooled",
        "shard",
        "store.json",
    ]


def test_frames_that_do_not_fit_their_clip_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    with store.shard() as shard:
        shard.add_frames(key(0), 0, long_frames(0, 5))
        with pytest.raises(ValueError, match="frame 4 cannot follow 5 frames"):
            shard.add_frames(key(0), 4, long_frames(0, 5))
        with pytest.raises(ValueError, match="5 frames came of 6"):
            finish(shard, {0: 6})
        with pytest.raises(ValueError, match="no frames came"):
            finish(shard, {1: 6})
    with pytest.raises(ValueError, match="keeps no frames"):
        FeatureStore(tmp_path / "b", MADE_BY).shard().add_frames(key(0), 0, long_frames(0, 5))
    assert not list(tmp_path.glob("shard-*"))
    assert not list(tmp_path.glob(".*"))


MEMORY = """
import resource, sys, pathlib
import numpy as np, torch
from subtone.extraction import FeatureStore
from tests import store_parts
from subtone.extraction.features import PooledFeatures

layers, dim, seconds = 13, 256, int(sys.argv[2])
store = FeatureStore(pathlib.Path(sys.argv[1]), {"statistics": ["gap_mean"], "frames": list(range(layers))})
block = np.ones((layers, 500, dim), np.float32)
n = seconds * 50
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with store.shard() as shard:
    for first in range(0, 1000, 500):
        shard.add_frames("warm", first, block)
    shard.drop("warm")
    before = peak()
    for first in range(0, n, 500):
        shard.add_frames("a", first, block)
    one = np.zeros((1, layers, dim), np.float32)
    many = np.array([n])
    shard.finish(["a"], ["a.wav"], PooledFeatures({"gap_mean": one}, many, many, many, np.array([False])))
total = sum(float(frames[0].sum(dtype=np.float64)) for _, frames in store.frame_blocks("a", [3]))
assert total == n * dim
print(peak() - before, sum(p.stat().st_size for p in pathlib.Path(sys.argv[1]).iterdir()))
"""


def test_memory_stays_flat_however_long_a_clip(tmp_path: Path) -> None:
    def grown(seconds: int) -> tuple[int, int]:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path / str(seconds)), str(seconds)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        memory, disk = map(int, done.stdout.split())
        return memory, disk

    memory, disk = grown(600)
    assert disk > 3 * frames_room.PIECE_BYTES
    assert memory < 2.2 * frames_room.PIECE_BYTES
