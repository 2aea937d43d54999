"""Long recordings are read in the memory of a block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

CODE = """
import resource, sys
from subtone.audio import read_blocks
from subtone.speech import get_detector
import numpy as np, soundfile, soxr
get_detector("energy").detect(np.zeros(16_000, np.float32))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
speech = get_detector("energy").detect_blocks(read_blocks(sys.argv[1], block_s=60.0))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(speech.num_samples, grown // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_three_hours_take_the_memory_of_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 2, "PCM_16") as sound:
        sound.seek(3 * 3600 * 8_000 - 1)  # a hole in the file: hours of silence that take no room on the disk
        sound.write([[0.0, 0.0]])
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True)
    samples, grown_mib = map(int, done.stdout.split())
    assert samples == 3 * 3600 * 16_000
    assert grown_mib < 100  # the wave itself is 659 MiB
