"""Hours of recording are predicted in the memory of a block, and as the same recording in memory would be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from subtone.inference import recording, run
from tests.plain_scorer import RATE, PlainScorer, speak

CODE = """
import resource, sys
import numpy as np, soundfile
from subtone.inference import run
from tests.plain_scorer import PlainScorer, speak
path, per = sys.argv[1:]
run(PlainScorer(), speak((0.5, 1.5, 0.4), seconds=40), per=per)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prediction = run(PlainScorer(), path, per=per, hop_s=10)
assert not prediction.failed, prediction.failed
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(prediction), grown // 1024)
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours at 8 kHz, mostly a hole in the file; somebody speaks in the last minute of each hour."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    minute = speak((5, 14, 0.4), (30, 49, 0.2), seconds=60)[::2]
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as sound:
        for hour in (1, 2, 3):
            sound.seek((hour * 3600 - 60) * 8_000)
            sound.write(minute)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize(("per", "rows"), [("file", 1), ("window", 1080), ("segment", 9)])
def test_long_file_is_scored_in_bounded_memory(long: Path, per: str, rows: int) -> None:
    command = [sys.executable, "-c", CODE, str(long), per]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    found, grown_mib = map(int, done.stdout.split())
    assert found == rows
    assert grown_mib < 150  # the wave itself is 659 MiB


@pytest.mark.parametrize("per", ["file", "segment", "window"])
def test_what_is_read_twice_is_answered_as_what_is_held(
    per: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = speak((1, 9, 0.5), (40, 44, 0.1), (70, 89.5, 0.3), seconds=90)
    soundfile.write(tmp_path / "a.wav", wave, RATE, "PCM_16")
    held = run(PlainScorer(), tmp_path / "a.wav", per=per)
    monkeypatch.setattr(recording, "HELD_S", 1.0)
    read_twice = run(PlainScorer(), tmp_path / "a.wav", per=per)
    assert np.array_equal(held.results[0].probabilities, read_twice.results[0].probabilities, equal_nan=True)
    assert held.to_csv() == read_twice.to_csv()
