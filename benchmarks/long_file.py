"""Time and peak memory of `subtone predict` on a recording of many hours: the recordings given, over and over.

python benchmarks/long_file.py --hours 10 --folder FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from subtone.audio import SAMPLE_RATE_HZ, expand, load_audio


def main() -> None:
    """Write the recording, predict it in a process of its own, print what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    wave = np.concatenate([load_audio(path) for path in expand(given.folder)[:200]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, "PCM_16") as file:
            while file.tell() < given.hours * 3600 * SAMPLE_RATE_HZ:
                file.write(wave)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "subtone", "predict", path, "--format", "json"], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # kB on Linux
    print(
        f"{given.hours:g} h: {time.perf_counter() - began:.0f} s, peak memory {peak:.0f} MB", file=sys.stderr
    )


if __name__ == "__main__":
    main()
