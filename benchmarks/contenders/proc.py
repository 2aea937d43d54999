"""What a process and all its descendants use, read from /proc: CPU seconds and memory. Standard library only."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_TICKS_HZ = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return a process and its living descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            todo += [int(child) for child in _text(task).split()]
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process tree, of children that have ended included; to 10 ms."""
    ticks = 0
    for one in tree(pid):
        # The second field is the program's name in brackets, and may hold spaces.
        fields = _text(Path(f"/proc/{one}/stat")).rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])  # user, system, and both of children waited for
    return ticks / _TICKS_HZ


def pss_mb(pid: int) -> float:
    """Return the memory of a process tree in MB (10^6): proportional set size, shared pages counted once."""
    kib = 0
    for one in tree(pid):
        for line in _text(Path(f"/proc/{one}/smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib * 1024 / 1e6


def peak_rss_mb(pid: int) -> float:
    """Return the sum of the highest resident sizes that the living processes of a tree ever had: an upper bound."""
    kib = 0
    for one in tree(pid):
        for line in _text(Path(f"/proc/{one}/status")).splitlines():
            if line.startswith("VmHWM:"):
                kib += int(line.split()[1])
    return kib * 1024 / 1e6


class MemoryWatch(threading.Thread):
    """Follows the memory of a process tree until stopped.

    Attributes
    ----------
    peak_mb
        Highest proportional set size seen; what comes and goes between two looks, 50 ms apart, is missed.
    bound_mb
        Highest sum of resident peaks seen: never less than the true peak.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._end = pid, threading.Event()
        self.peak_mb = self.bound_mb = 0.0
        self.start()

    def run(self) -> None:
        """Look every 50 ms; seldom at the resident peaks, which the system keeps by itself."""
        looks = 0
        while not self._end.wait(0.05):
            self.peak_mb = max(self.peak_mb, pss_mb(self._pid))
            looks += 1
            if looks % 10 == 0:
                self.bound_mb = max(self.bound_mb, peak_rss_mb(self._pid))

    def stop(self) -> MemoryWatch:
        """Look no more."""
        self._end.set()
        self.join()
        self.bound_mb = max(self.bound_mb, peak_rss_mb(self._pid))
        return self


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just ended
        return ""
