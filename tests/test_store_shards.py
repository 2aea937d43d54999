"""The store alone: what is written comes back, damage is told, and only what is asked for is read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from subtone.errors import StoreError, UsageError
from subtone.extraction import FeatureStore
from tests.store_parts import MADE_BY, STATISTICS, WITH_FRAMES, add, check, content, features, frames, key


def filled(folder: Path, made_by: dict[str, object] = MADE_BY) -> FeatureStore:
    store = FeatureStore(folder, made_by)
    add(store, range(4))
    add(store, range(4, 9))
    return store


def test_what_is_added_comes_back_in_any_order_and_as_often_as_asked(tmp_path: Path) -> None:
    check(filled(tmp_path), [7, 0, 3, 3, 8])
    check(FeatureStore.open(tmp_path), [8, 1, 2, 7, 1])
    assert len(FeatureStore.open(tmp_path).get([])) == 0


def test_a_store_is_read_without_what_made_it(tmp_path: Path) -> None:
    filled(tmp_path)
    store = FeatureStore.open(tmp_path)
    table = store.table
    assert list(table) == ["key", "file", "num_samples", "num_frames", "speech_frames", "too_short"]
    assert table["key"].tolist() == store.keys()
    assert sorted(table["file"]) == [f"{n}.wav" for n in range(9)]
    by_file = table.set_index("file")
    assert by_file.loc["3.wav", "num_samples"] == store.num_samples(key(3)) == 320 * 8
    assert bool(by_file.loc["4.wav", "too_short"]) is True
    assert store.made_by == FeatureStore.how(tmp_path)
    with pytest.raises(StoreError, match="was opened for reading"):
        store.add([key(1)], ["1.wav"], features([1]))


def test_a_folder_without_a_store_is_not_made_one_by_reading(tmp_path: Path) -> None:
    assert FeatureStore.how(tmp_path / "none") is None
    with pytest.raises(StoreError, match=r"holds no store\.json"):
        FeatureStore.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    store = FeatureStore(tmp_path / "empty", MADE_BY)
    assert len(store) == len(store.table) == len(FeatureStore.open(tmp_path / "empty").keys()) == 0


def test_statistics_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    add(FeatureStore(tmp_path, MADE_BY), range(6))
    (arrays,) = tmp_path.glob("*.safetensors")
    raw = bytearray(arrays.read_bytes())
    start = raw.index(features(range(6)).statistics["gap_std"].tobytes())
    raw[start] ^= 1
    arrays.write_bytes(raw)
    store = FeatureStore.open(tmp_path)
    found = store.get([key(5), key(2)], ["sap_mean", "gap_mean"])
    assert set(found.statistics) == {"sap_mean", "gap_mean"}
    assert np.array_equal(found.statistics["sap_mean"], features([5, 2]).statistics["sap_mean"])
    check_rest = store.get([key(5)])  # the flipped bit is clip 0's
    assert set(check_rest.statistics) == set(STATISTICS)
    with pytest.raises(StoreError, match=r"gap_std of its clip 0 fails its checksum"):
        store.get([key(0)])
    with pytest.raises(UsageError, match=r"no statistic 'sap_meen'; did you mean 'sap_mean'"):
        store.get([key(5)], ["sap_meen"])


def test_the_library_reads_the_arrays_as_well(tmp_path: Path) -> None:
    add(FeatureStore(tmp_path, WITH_FRAMES), range(3))
    (arrays,), (piece,) = tmp_path.glob("pooled-*.safetensors"), tmp_path.glob("frames-*.safetensors")
    loaded = safetensors.numpy.load_file(arrays)
    assert list(loaded) == STATISTICS
    assert np.array_equal(loaded["gap_std"], features(range(3)).statistics["gap_std"])
    assert np.array_equal(safetensors.numpy.load_file(piece)[f"{key(2)}@0"], frames(2).astype(np.float16))


def test_every_bit_of_every_file_counts(tmp_path: Path) -> None:
    """Flip one bit anywhere: opening or verifying says which shard, and never what another library says."""
    store = FeatureStore(tmp_path, WITH_FRAMES)
    add(store, range(3))
    store.verify()
    rng = np.random.default_rng(0)
    for path in [p for p in tmp_path.iterdir() if p.name != "store.json"]:
        whole = path.read_bytes()
        for bit in rng.choice(8 * len(whole), 60, replace=False):
            broken = bytearray(whole)
            broken[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(broken)
            with pytest.raises(
                StoreError, match=r"is damaged \(.*\); delete shard-.*\.parquet and extract again"
            ):
                FeatureStore.open(tmp_path).verify()
        path.write_bytes(whole)
    store.verify()


@pytest.mark.parametrize("pattern", ["pooled-*.safetensors", "frames-*.safetensors", "*.parquet"])
def test_a_file_cut_short_is_told_when_the_store_is_opened(tmp_path: Path, pattern: str) -> None:
    filled(tmp_path, WITH_FRAMES)
    path = min(tmp_path.glob(pattern))
    whole = path.read_bytes()
    for left in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:left])
        with pytest.raises(StoreError, match="is damaged"):
            FeatureStore.open(tmp_path)
    path.unlink()
    if pattern == "*.parquet":  # a shard without its table does not count
        assert len(FeatureStore.open(tmp_path)) in (4, 5)
    else:
        with pytest.raises(StoreError, match=rf"{path.name} is not there"):
            FeatureStore.open(tmp_path)


def test_all_damaged_shards_are_named_and_following_the_advice_mends_the_store(tmp_path: Path) -> None:
    filled(tmp_path)
    before = content(tmp_path)
    tables = sorted(tmp_path.glob("*.parquet"))
    for table in tables:
        table.write_bytes(b"")
    with pytest.raises(StoreError) as told:
        FeatureStore.open(tmp_path)
    for table in tables:
        assert f"delete {table.name}" in str(told.value)
        table.unlink()
    store = filled(tmp_path)
    check(store, range(9))
    assert content(tmp_path) == before


def test_a_table_is_put_in_place_when_all_else_is_safe_from_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path, WITH_FRAMES)
    told: list[tuple[str, int]] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        told.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> None:
        told.append((f"rename {target.suffix}", self.stat().st_ino))
        replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    add(store, range(3))
    folder = ("fsync", tmp_path.stat().st_ino)
    renames = [step for step in told if step[0] != "fsync"]
    assert [name for name, _ in renames] == ["rename .safetensors", "rename .safetensors", "rename .parquet"]
    for rename in renames:
        assert told.index(("fsync", rename[1])) < told.index(rename)
    assert told[-4:] == [renames[1], folder, renames[2], folder]


def test_the_same_clips_added_twice_are_the_same_files(tmp_path: Path) -> None:
    filled(tmp_path, WITH_FRAMES)
    before = content(tmp_path)
    store = filled(tmp_path, WITH_FRAMES)
    assert content(tmp_path) == before
    assert len(store) == 9


def test_a_clip_in_two_shards_is_one_clip(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MADE_BY)
    add(store, [0, 1])
    add(store, [1, 2])
    for each in (store, FeatureStore.open(tmp_path)):
        assert len(each) == len(each.keys()) == len(each.table) == 3
        check(each, [0, 1, 2])


def test_names_of_files_that_are_no_unicode_do_not_stop_a_shard(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MADE_BY)
    store.add([key(0)], [os.fsdecode(b"caf\xe9.wav")], features([0]))
    assert FeatureStore.open(tmp_path).table["file"].tolist() == ["caf\\udce9.wav"]


def test_keys_that_are_not_there_are_counted_and_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"1 of 2 clips are not in this store, e.g. {key(77)}"):
        filled(tmp_path).get([key(1), key(77)])


def test_a_store_on_a_disk_that_may_only_be_read_serves_what_it_has(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a disk here")
    try:
        filled(disk / "store", WITH_FRAMES)
        (disk / "store" / "pooled-0000000000000000.safetensors").touch()  # cannot be swept
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for store in (FeatureStore(disk / "store", WITH_FRAMES), FeatureStore.open(disk / "store")):
            check(store, range(9))
            store.verify()
        with pytest.raises(StoreError, match="could not be written: Read-only file system"):
            add(FeatureStore(disk / "store", WITH_FRAMES), [20])
        with pytest.raises(StoreError, match="Read-only file system"):
            FeatureStore(disk / "other", MADE_BY)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
