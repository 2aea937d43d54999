"""The feature store: found by content, refused when it does not fit, whole after a kill or on a full disk."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from subtone import upstreams
from subtone.errors import StoreError
from subtone.extraction import Clip, PooledFeatures, clips_of, engine, extract, extract_to_store
from subtone.extraction import store as store_room
from subtone.speech import get_detector
from tests import synthetic

ENERGY = get_detector("energy")
FBANK = upstreams.load("fbank:20")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        synthetic.write(folder / f"{i:02d}.wav", synthetic.utterance(0.3 + 0.02 * i, 100 + 40 * i, seed=i))
        for i in range(10)
    ]


class Refusing:
    """An upstream that must not be asked for frames: what is in the store is not computed again."""

    def __init__(self) -> None:
        self.inner = FBANK

    def __getattr__(self, name: str) -> object:
        assert name not in ("extract", "encode"), "features were computed again"
        return getattr(self.inner, name)


def same(a: PooledFeatures, b: PooledFeatures) -> bool:
    return sorted(a.statistics) == sorted(b.statistics) and all(
        np.array_equal(a.statistics[k], b.statistics[k]) for k in a.statistics
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_features_through_a_store_are_those_in_memory_bit_for_bit(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SHARD_CLIPS", 4)
    clips = clips_of(files)
    memory = extract(clips, FBANK, ENERGY)
    stored = extract(clips, FBANK, ENERGY, store=tmp_path / "store")
    assert same(memory.features, stored.features)
    assert len(list((tmp_path / "store").glob("*.parquet"))) == 3
    for name in ("num_samples", "num_frames", "speech_frames", "too_short"):
        one, other = getattr(memory.features, name), getattr(stored.features, name)
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype
    shuffled = [clips[i] for i in (7, 0, 3, 3)]
    again = extract(shuffled, FBANK, ENERGY, store=tmp_path / "store")
    assert same(again.features, memory.features.select(np.array([7, 0, 3, 3])))


def test_a_second_run_computes_nothing(tmp_path: Path, files: list[Path]) -> None:
    first = extract(clips_of(files), FBANK, ENERGY, store=tmp_path / "store")
    before = content(tmp_path / "store")
    second = extract(clips_of(files), Refusing(), ENERGY, store=tmp_path / "store")  # type: ignore[arg-type]
    assert (first.reused, second.reused) == (0, 10)
    assert same(first.features, second.features)
    assert content(tmp_path / "store") == before


def test_a_renamed_corpus_keeps_its_features(tmp_path: Path, files: list[Path]) -> None:
    first = extract(clips_of(files), FBANK, ENERGY, store=tmp_path / "store")
    for file in files:
        (tmp_path / f"moved-{file.name}").write_bytes(file.read_bytes())
    moved = clips_of(tmp_path / f"moved-{file.name}" for file in files)
    second = extract(moved, Refusing(), ENERGY, store=tmp_path / "store")  # type: ignore[arg-type]
    assert second.reused == 10
    assert same(first.features, second.features)


def test_the_same_audio_under_two_names_is_stored_once(tmp_path: Path, files: list[Path]) -> None:
    twin = tmp_path / "twin.wav"
    twin.write_bytes(files[0].read_bytes())
    found = extract(clips_of([files[0], files[1], twin]), FBANK, ENERGY, store=tmp_path / "store")
    assert found.rows.tolist() == [0, 1, 2]
    kept = pd.concat(pd.read_parquet(p) for p in (tmp_path / "store").glob("*.parquet"))
    assert len(kept) == 2
    assert np.array_equal(found.features.statistics["gap_mean"][0], found.features.statistics["gap_mean"][2])


def test_a_summary_counts_clips_hours_and_failures_without_reading_features(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("all features were loaded into memory")

    monkeypatch.setattr(store_room.FeatureStore, "get", refuse)
    paths = [*files, tmp_path / "missing.wav"]
    for reused in (0, 10):
        summary = extract_to_store(FBANK, tmp_path / "store", paths, detector=ENERGY)
        assert (summary.clips, summary.reused) == (10, reused)
        assert summary.hours == pytest.approx(sum(0.3 + 0.02 * i for i in range(10)) / 3600)
        assert [Path(one.file).name for one in summary.failed] == ["missing.wav"]


def test_a_store_of_another_making_is_refused_by_what_differs(tmp_path: Path, files: list[Path]) -> None:
    clips, store = clips_of(files[:2]), tmp_path / "store"
    extract(clips, FBANK, ENERGY, store=store)
    before = content(store)
    with pytest.raises(StoreError, match=r"another upstream \(fbank:20, now fbank:30\); .*another --store"):
        extract(clips, upstreams.load("fbank:30"), ENERGY, store=store)
    with pytest.raises(StoreError, match=r"another detector \(range_db 30.0, now 40.0\)"):
        extract(clips, FBANK, get_detector("energy", range_db=40.0), store=store)
    assert content(store) == before


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path, files: list[Path]) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"is a file; a store is a folder"):
        extract(clips_of(files), FBANK, ENERGY, store=file)
    with pytest.raises(StoreError, match=r"holds other files and no store\.json"):
        extract(clips_of(files), FBANK, ENERGY, store=folder)
    with pytest.raises(StoreError, match="cannot be opened"):
        extract(clips_of(files), FBANK, ENERGY, store=file / "below")
    assert content(folder) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet"])
@pytest.mark.parametrize("how", ["cut", "garbage", "empty", "gone"])
def test_a_damaged_shard_is_named_with_the_way_out(
    tmp_path: Path, files: list[Path], suffix: str, how: str
) -> None:
    store = tmp_path / "store"
    before = extract(clips_of(files), FBANK, ENERGY, store=store)
    (shard,), (table,) = store.glob(f"*{suffix}"), store.glob("*.parquet")
    whole = shard.read_bytes()
    if how == "gone":
        shard.unlink()
    else:
        shard.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * 500, "empty": b""}[how])
    if (how, suffix) != ("gone", ".parquet"):  # a shard without its table does not count
        with pytest.raises(StoreError, match=rf"{table.stem} is damaged .*delete {table.name} and extract"):
            extract(clips_of(files), FBANK, ENERGY, store=store)
        table.unlink(missing_ok=True)
    again = extract(clips_of(files), FBANK, ENERGY, store=store)
    assert again.reused == 0
    assert same(before.features, again.features)


SCRIPT = """
    import os, signal, sys
    from subtone import upstreams
    from subtone.extraction import clips_of, engine, extract
    from subtone.extraction import store
    from subtone.speech import get_detector

    engine.SHARD_CLIPS = 2
    {before}
    clips = clips_of(sorted(sys.argv[2].split("|")))
    try:
        extract(clips, upstreams.load("fbank:20"), get_detector("energy"), store=sys.argv[1])
    except Exception as error:
        print(type(error).__name__, error)
        sys.exit(3)
"""


def run(store: Path, files: list[Path], before: str) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(SCRIPT).replace("{before}", textwrap.dedent(before))
    names = "|".join(map(str, files))
    return subprocess.run(
        [sys.executable, "-c", script, str(store), names], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("moment", ["arrays", "table"])
def test_a_run_killed_while_it_writes_leaves_whole_shards_and_the_next_ends_in_the_same_bytes(
    tmp_path: Path, files: list[Path], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The third shard's arrays are half written when the process dies, or they are in place and their table is not.
    before = f"""
    from pathlib import Path
    from subtone.extraction import shards
    write, replace, count = shards.write_tensors, Path.replace, [0]
    def writing(path, arrays):
        count[0] += 1
        written = write(path, arrays)
        if count[0] == 3 and {moment!r} == "arrays":
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGKILL)
        return written
    def replacing(self, target):
        if count[0] == 3 and self.name == "table":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
    shards.write_tensors, Path.replace = writing, replacing
    """
    store = tmp_path / "store"
    assert run(store, files, before).returncode == -signal.SIGKILL
    assert len(list(store.glob("*.parquet"))) == 2
    assert len(list(store.glob(".*"))) == 1

    monkeypatch.setattr(engine, "SHARD_CLIPS", 2)
    resumed = extract(clips_of(files), FBANK, ENERGY, store=store)
    assert resumed.reused == 4
    assert same(resumed.features, extract(clips_of(files), FBANK, ENERGY).features)
    extract(clips_of(files), FBANK, ENERGY, store=tmp_path / "unbroken")
    assert content(store) == content(tmp_path / "unbroken")


def test_a_full_disk_is_one_clear_error_and_nothing_half_written(tmp_path: Path, files: list[Path]) -> None:
    before = """
    import resource
    from subtone.extraction.shards import ShardWriter
    finish, count = ShardWriter.finish, [0]
    def full(self, *arguments):
        count[0] += 1
        if count[0] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
        finish(self, *arguments)
    ShardWriter.finish = full
    """
    store = tmp_path / "store"
    done = run(store, files, before)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("StoreError ")
    assert "could not be written" in done.stdout
    assert "Traceback" not in done.stderr
    assert sorted(p.suffix for p in store.iterdir()) == [".json", ".parquet", ".safetensors"]
    assert extract(clips_of(files), FBANK, ENERGY, store=store).reused == 2


def test_a_disk_that_fills_up_for_good_is_one_clear_error(tmp_path: Path, files: list[Path]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        done = run(disk / "store", files, "")
        assert done.returncode == 3, (done.returncode, done.stdout, done.stderr)
        assert done.stdout.startswith("StoreError ")
        assert not list((disk / "store").glob(".*"))
        whole = [p.stem for p in (disk / "store").glob("*.parquet")]
        extract(clips_of(files)[: 2 * len(whole)], Refusing(), ENERGY, store=disk / "store")  # type: ignore[arg-type]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_store_that_may_only_be_read_serves_what_it_has(tmp_path: Path, files: list[Path]) -> None:
    store = tmp_path / "store"
    extract(clips_of(files[:5]), FBANK, ENERGY, store=store)
    store.chmod(0o500)
    try:
        assert extract(clips_of(files[:5]), FBANK, ENERGY, store=store).reused == 5
        with pytest.raises(StoreError, match="could not be written"):
            extract(clips_of(files), FBANK, ENERGY, store=store)
    finally:
        store.chmod(0o700)


def test_others_may_read_the_store_as_far_as_the_umask_lets_them(tmp_path: Path, files: list[Path]) -> None:
    before = os.umask(0o022)
    try:
        extract([Clip(str(files[0]))], FBANK, ENERGY, store=tmp_path / "store")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "store").iterdir()} == {0o644}


def test_the_manifest_says_how_the_features_were_made(tmp_path: Path, files: list[Path]) -> None:
    extract([Clip(str(files[0]))], FBANK, ENERGY, store=tmp_path / "store")
    record = json.loads((tmp_path / "store" / "store.json").read_text())
    assert record["upstream"] == FBANK.fingerprint()
    assert record["detector"]["name"] == "energy"
    assert set(record["libraries"]) == {"numpy", "soxr", "torch", "transformers"}
