"""One contender in a process of its own: takes orders as lines of JSON, answers each with one line of JSON.

Started by the harness, with the Python of the contender's environment: ``python worker.py MODULE``. The module has a
class ``Way``: ``load(weights, threads, **options)`` returns the versions of what computes, and raises ``Skipped`` where
it cannot run; ``frames(waves, **mode)`` yields ``(layers, frames, dim)`` of each clip in turn. Any other order is a
method of that class.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import proc

Wave = npt.NDArray[np.float32]


class Skipped(Exception):
    """This contender cannot run here; the message says why."""


def main() -> None:
    """Obey until the input ends."""
    # Libraries print what they like: answers have a descriptor that they do not know, and standard output is the log.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.modules["worker"] = sys.modules["__main__"]  # so that a way's Skipped is this one
    way: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        do = order.pop("do")
        try:
            if do == "load":
                way = importlib.import_module(sys.argv[1]).Way()
                began = time.perf_counter()
                answer = {"versions": way.load(**order) or {}, "seconds": time.perf_counter() - began}
            elif do == "encode":
                answer = encode(way, **order)
            elif do == "reference":
                answer = write_reference(way, **order)
            elif do == "compare":
                answer = compare(way, **order)
            else:
                answer = getattr(way, do)(**order)
        except Skipped as skipped:
            answer = {"skipped": str(skipped)}
        except Exception as error:
            traceback.print_exc()
            answer = {"skipped": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(answer), file=answers, flush=True)


def encode(way: Any, waves: list[str], mode: dict[str, Any]) -> dict[str, float]:
    """Time the frames of some clips; reading them in is not timed."""
    read = [np.load(path) for path in waves]
    cpu, began = proc.cpu_s(os.getpid()), time.perf_counter()
    for _ in way.frames(read, **mode):
        pass
    wall = time.perf_counter() - began
    return {"audio_s": seconds(read), "wall_s": wall, "cpu_s": proc.cpu_s(os.getpid()) - cpu}


def write_reference(way: Any, waves: list[str], mode: dict[str, Any], folder: str) -> dict[str, Any]:
    """Write the frames that others are compared with."""
    for number, frames in enumerate(way.frames([np.load(path) for path in waves], **mode)):
        np.save(Path(folder) / f"{number}.npy", np.asarray(frames, np.float32))
    return {}


def compare(way: Any, waves: list[str], mode: dict[str, Any], folder: str) -> dict[str, float]:
    """Compare frames with the reference; padding behind a clip's own frames is not looked at."""
    return errors(way.frames([np.load(path) for path in waves], **mode), Path(folder))


def errors(frames: Iterator[Any], folder: Path) -> dict[str, float]:
    """Return the worst clip's relative L2 error over all its frames, and the worst cosine of a layer's mean frame."""
    worst, cosine = 0.0, 1.0
    for number, found in enumerate(frames):
        right = np.load(folder / f"{number}.npy")
        ours = np.asarray(found, np.float32)[:, : right.shape[1]]
        if ours.shape != right.shape:
            raise ValueError(f"clip {number}: frames {ours.shape} where the reference has {right.shape}")
        worst = max(worst, float(np.linalg.norm(ours - right) / np.linalg.norm(right)))
        cosine = min(cosine, float(cosines(ours.mean(1), right.mean(1)).min()))
    return {"worst_relative_l2": worst, "worst_cosine": cosine}


def cosines(ours: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the cosine of each row, ``(layers,)``."""
    norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(right, axis=-1)
    cosine: npt.NDArray[Any] = (ours * right).sum(-1) / norms
    return cosine


def seconds(waves: list[Wave]) -> float:
    """Return how much audio there is in clips at 16 kHz."""
    return sum(len(wave) for wave in waves) / 16_000


def batches(waves: list[Wave], size: int) -> Iterator[list[Wave]]:
    """Cut a list of clips into batches, in the order given."""
    for first in range(0, len(waves), size):
        yield waves[first : first + size]


if __name__ == "__main__":
    main()
