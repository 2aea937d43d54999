"""Measure how long `subtone --help` takes, start of Python included; the promise is under half a second.

Run ``python benchmarks/startup.py [runs]``; it prints the median and the slowest, and exits 1 when the median is over.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

LIMIT_S = 0.5


def once() -> float:
    """Wall time of one run, in seconds."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "subtone", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    """Warm up once, then measure."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    once()
    times = [once() for _ in range(runs)]
    print(f"subtone --help, {runs} runs: median {statistics.median(times):.3f} s, slowest {max(times):.3f} s")
    return int(statistics.median(times) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
