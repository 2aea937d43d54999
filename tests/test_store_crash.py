"""Killed at every moment, on a disk that fills up at every file, and several processes at a time.

Each case runs in a fork of one child process: there nothing but the store is at work, so that a fork is safe.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import json, os, resource, shutil, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from subtone.errors import StoreError
from subtone.extraction import FeatureStore, frames as frames_room, scratch
from tests.store_parts import *

folder = Path(sys.argv[1])
frames_room.PIECE_BYTES = 300  # a shard has several pieces
os.fsync = lambda _: None  # no power is cut here, and what a process wrote outlives it

def fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return pid

def outcome(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def both(where):
    store = FeatureStore(where, WITH_FRAMES)
    for numbers in (range(3), range(3, 8)):
        if not all(key(n) in store for n in numbers):
            add(store, numbers)
"""


def play(folder: Path, script: str) -> Any:
    """Run a script after the prelude; it prints JSON."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_any_operation_on_files_a_store_is_whole_and_ends_in_the_same_bytes(
    tmp_path: Path,
) -> None:
    found = play(
        tmp_path,
        """
        both(folder / "whole")
        whole = content(folder / "whole")
        names = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir"}

        def killed_before(moment, where):
            count = 0
            def watch(event, _):
                nonlocal count
                count += event in names
                if event in names and count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(watch)
            both(where)

        moments = left = halves = 0
        while True:
            moments += 1
            where = folder / str(moments)
            code = outcome(fork(lambda: killed_before(moments, where)))
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            if (where / "store.json").exists():
                before = content(where)
                store = FeatureStore.open(where)  # as a reader finds it, who must not touch it
                numbers = [n for n in range(8) if key(n) in store]
                assert numbers in ([], [0, 1, 2], list(range(8))), numbers
                check(store, numbers)
                store.verify()
                assert content(where) == before
                left += any(path.name.startswith(".") for path in where.iterdir())
                known = {p.name for s in store._shards.values() for p in (s.table, *s.files())} | {"store.json"}
                halves += any(p.name not in known and p.name[0] != "." for p in where.iterdir())
            assert outcome(fork(lambda: both(where))) == 0
            assert content(where) == whole, moments
            shutil.rmtree(where)
        print(json.dumps([moments, left, halves]))
        """,
    )
    moments, left, halves = found
    assert moments > 40
    assert left > 20  # hidden folders were really left behind,
    assert halves > 3  # and shards whose table was missing


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_disk_that_is_full_at_any_file_is_one_error_and_nothing_half_written_stays(tmp_path: Path) -> None:
    found = play(
        tmp_path,
        """
        sizes = {}
        def full_at(limit, where):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                both(where)
            except StoreError as error:
                (line,) = str(error).splitlines()
                assert "could not be written: " in line and "make room, or name another folder" in line, line
                os._exit(3)
        codes = []
        for limit in [0, 1, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1500, 2000, 3000, 4000, 9000]:
            where = folder / str(limit)
            codes.append(outcome(fork(lambda: full_at(limit, where))))
            left = content(where)
            assert not any(name.startswith(".") for name in left), left.keys()
            if "store.json" in left:
                store = FeatureStore.open(where)
                referred = {p.name for s in store._shards.values() for p in (s.table, *s.files())}
                assert left.keys() == referred | {"store.json"}
                store.verify()
            both(where)  # room was made
            check(FeatureStore.open(where), range(8))
        print(json.dumps(codes))
        """,
    )
    assert found[0] == 3
    assert found[-1] == 0
    assert found.count(3) > 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_could_not_be_written_once_is_not_half_written_later(tmp_path: Path) -> None:
    played = play(
        tmp_path,
        """
        store = FeatureStore(folder / "store", WITH_FRAMES)
        long = np.ones((LAYERS, 60, DIM), np.float32)
        with store.shard() as shard:
            shard.add_frames(key(0), 0, long)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
            told = []
            for attempt in range(3):  # other threads may still be at work
                try:
                    shard.add_frames(key(1 + attempt), 0, long)
                except StoreError as error:
                    told.append(str(error).partition("could not be written: ")[2])
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            shard.drop(key(0))
            left = [path.name for path in (folder / "store").iterdir()]
        print(json.dumps([told, left]))
        """,
    )
    assert played == [["File too large; make room, or name another folder"] * 3, ["store.json"]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_small_disk_takes_whole_shards_until_it_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        shards = play(
            disk,
            """
            store = FeatureStore(folder / "store", WITH_FRAMES)
            try:
                for first in range(0, 600, 3):
                    add(store, range(first, first + 3))
            except StoreError as error:
                assert "No space left on device" in str(error), error
            assert not list((folder / "store").glob(".*"))
            again = FeatureStore.open(folder / "store")
            again.verify()
            assert again._without_table() == []
            assert 0 < len(again) < 600
            check(again, range(len(again)))
            print(len(again) // 3)
            """,
        )
        assert shards > 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_fill_one_store_at_a_time_do_not_harm_each_other_nor_those_who_read(
    tmp_path: Path,
) -> None:
    played = play(
        tmp_path,
        """
        where = folder / "store"

        def fill(start):
            store = FeatureStore(where, WITH_FRAMES)
            for first in range(start, start + 40, 4):
                add(store, range(first, first + 4))
                FeatureStore(where, WITH_FRAMES)  # opening sweeps

        def read():
            reads = 0
            while not (folder / "done").exists() or reads == 0:
                if (where / "store.json").exists():
                    store = FeatureStore.open(where)
                    numbers = [n for n in range(80) if key(n) in store]
                    check(store, numbers)
                    store.verify()
                    reads += 1

        reader = fork(read)
        # The same clips twice, others once, all at once.
        writers = [fork(lambda: fill(start)) for start in (0, 0, 40, 20)]
        codes = [outcome(pid) for pid in writers]
        (folder / "done").touch()
        codes.append(outcome(reader))
        store = FeatureStore.open(where)
        check(store, range(80))
        store.verify()
        assert len(store) == 80
        left = {path.name for path in where.iterdir()}
        assert left == {p.name for s in store._shards.values() for p in (s.table, *s.files())} | {"store.json"}
        print(json.dumps([codes, len(store._shards)]))
        """,
    )
    assert played == [[0, 0, 0, 0, 0], 20]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_two_that_begin_a_store_with_other_settings_one_is_refused(tmp_path: Path) -> None:
    played = play(
        tmp_path,
        """
        def begin(where, made_by):
            try:
                FeatureStore(where, made_by)
            except StoreError as error:
                assert "was made with another frames" in str(error), error
                os._exit(3)
        codes = []
        for i in range(20):
            pids = [fork(lambda: begin(folder / str(i), made_by)) for made_by in (WITH_FRAMES, MADE_BY)]
            codes.append(sorted(outcome(pid) for pid in pids))
        print(json.dumps(codes))
        """,
    )
    assert played == [[0, 3]] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_others_are_still_writing_is_not_swept(tmp_path: Path) -> None:
    played = play(
        tmp_path,
        """
        store = FeatureStore(folder / "store", WITH_FRAMES)
        def write():
            with store.shard() as shard:
                shard.add_frames(key(1), 0, frames(1))
                shard.end_clip(key(1))
                shard.add_frames(key(2), 0, np.ones((LAYERS, 30, DIM), np.float32))
                (folder / "written").touch()
                while not (folder / "opened").exists():
                    time.sleep(0.01)
                shard.drop(key(2))
                shard.finish([key(1)], ["1.wav"], features([1]))
        writer = fork(write)
        while not (folder / "written").exists():
            time.sleep(0.01)
        hidden = [str(path) for path in (folder / "store").glob(".*")]
        for path in (folder / "store").glob(".*"):
            os.utime(path, (0, 0))  # however long ago it was
        FeatureStore(folder / "store", WITH_FRAMES)
        assert [str(path) for path in (folder / "store").glob(".*")] == hidden
        (folder / "opened").touch()
        print(json.dumps([len(hidden), outcome(writer), len(FeatureStore.open(folder / "store"))]))
        """,
    )
    assert played == [1, 0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_where_a_file_system_has_no_locks_age_decides(tmp_path: Path) -> None:
    played = play(
        tmp_path,
        """
        scratch._flock = lambda *_: None
        store = FeatureStore(folder / "store", WITH_FRAMES)
        def write():
            shard = store.shard()
            shard.add_frames(key(2), 0, np.ones((LAYERS, 60, DIM), np.float32))
            os.kill(os.getpid(), signal.SIGKILL)
        assert outcome(fork(write)) == -signal.SIGKILL
        (folder / "store" / "pooled-0000000000000000.safetensors").touch()
        left = []
        for age in (0, scratch.STALE_S + 60):
            for path in (folder / "store").glob(".*"):
                for one in (path, *path.iterdir()):
                    os.utime(one, (time.time() - age,) * 2)
            FeatureStore(folder / "store", WITH_FRAMES)
            left.append(sorted(path.name[:6] for path in (folder / "store").iterdir()))
        add(store, range(3))
        check(FeatureStore.open(folder / "store"), range(3))
        print(json.dumps(left))
        """,
    )
    assert played == [[".writi", "pooled", "store."], ["pooled", "store."]]
