"""Runs that are killed at any moment: what was finished stays, the same run again ends in the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from subtone import upstreams
from subtone.extraction import FeatureStore, clips_of, extract
from subtone.speech import get_detector
from tests import synthetic

CLIPS = 36
#: A process that has imported all it needs and forks a run for each line it is given, so that many runs can be killed.
NURSERY = """
import json, os, sys
from subtone import upstreams
from subtone.extraction import ExtractionOptions, engine, extract_to_store
from subtone.speech import get_detector
engine.SHARD_CLIPS = 5
fbank, energy = upstreams.load("fbank:20"), get_detector("energy")
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        done = extract_to_store(
            fbank, order["store"], order["files"], detector=energy,
            options=ExtractionOptions(frames="all" if order["frames"] else None),
        )
        failed = [one.file for one in done.failed]
        print(json.dumps({"clips": done.clips, "reused": done.reused, "failed": failed}), flush=True)
        os._exit(0)
    print(json.dumps({"status": os.waitpid(child, 0)[1]}), flush=True)
"""


class Nursery:
    """Runs of one command, each in a process that may be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(
        self, store: Path, files: list[Path], *, frames: bool, kill_after_s: float | None = None
    ) -> dict[str, object] | None:
        """Run to the end, or kill it on the way; return what it said, if it came to that."""
        order = {"store": str(store), "files": [str(file) for file in files], "frames": frames}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        child = int(self._line())
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            with contextlib.suppress(ProcessLookupError):  # it was done before
                os.kill(child, signal.SIGKILL)
        said = None
        while "status" not in (line := json.loads(self._line())):
            said = line
        return said

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    found = [
        synthetic.write(
            folder / f"{i:02}.wav", synthetic.utterance(0.2 + 0.05 * (i % 7), 100 + 5 * i, seed=i)
        )
        for i in range(CLIPS)
    ]
    broken = folder / "broken.wav"
    broken.write_text("no audio")
    return [*found[:11], broken, *found[11:], found[3]]  # one that fails, one that is there twice


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


@pytest.mark.parametrize("frames", [False, True], ids=["pooled", "with frames"])
def test_killed_at_random_moments_and_run_again_the_store_is_the_same_to_the_byte(
    nursery: Nursery, files: list[Path], tmp_path: Path, frames: bool
) -> None:
    began = time.perf_counter()
    whole = nursery.run(tmp_path / "whole", files, frames=frames)
    needed = time.perf_counter() - began
    assert whole == {"clips": CLIPS + 1, "reused": 1, "failed": [str(files[11])]}
    chance = random.Random(5)
    finished, store = 0, tmp_path / "killed"
    for _ in range(12):
        said = nursery.run(store, files, frames=frames, kill_after_s=chance.uniform(0, 1.1 * needed))
        finished += said is not None
        placed = len(list(store.glob("shard-*.parquet"))) if store.exists() else 0
        if placed:
            opened = FeatureStore.open(store)  # whatever the moment, what is in place is whole
            opened.verify()
    last = nursery.run(store, files, frames=frames)
    assert last is not None
    assert last["clips"] == CLIPS + 1
    assert contents(store) == contents(tmp_path / "whole")
    assert finished < 12, "not one run was killed before its end"


def test_finished_shards_are_not_computed_again(nursery: Nursery, files: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
        nursery.run(store, files, frames=False, kill_after_s=pause)
        placed = FeatureStore.open(store) if (store / "store.json").exists() else None
        if placed is not None and len(placed):
            break
    assert placed is not None
    before = {path: path.stat().st_mtime_ns for path in store.glob("shard-*")}
    done = nursery.run(store, files, frames=False)
    assert done is not None
    assert done["reused"] == len(placed) + 1
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())


def test_a_store_that_was_killed_on_the_way_holds_what_memory_would(
    nursery: Nursery, files: list[Path], tmp_path: Path
) -> None:
    for pause in (0.1, 0.2, 0.3):
        nursery.run(tmp_path / "store", files, frames=False, kill_after_s=pause)
    nursery.run(tmp_path / "store", files, frames=False)
    fbank, energy = upstreams.load("fbank:20"), get_detector("energy")
    stored = extract(clips_of(files), fbank, energy, store=tmp_path / "store")
    fresh = extract(clips_of(files), fbank, energy)
    assert stored.reused == CLIPS + 1
    assert stored.rows.tolist() == fresh.rows.tolist()
    for name, values in fresh.features.statistics.items():
        assert np.array_equal(values, stored.features.statistics[name])
