"""What Silero costs: as shipped, a clip a call; as products of matrices, as Subtone runs it; in batches over clips.

    python benchmarks/silero.py --audio RECORDINGS [--rounds 5]

CPU time of one thread, in turns, medians; each is compared with the shipped model's probabilities.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from subtone.audio import expand, load_audio
from subtone.speech import silero
from subtone.speech.base import in_frames

RESULT = Path(__file__).parent / "results" / "silero.json"
CLIPS = 60
Scores = list[np.ndarray]


def clip_by_clip(waves: Sequence[np.ndarray], *, shipped: bool) -> Scores:
    """Probabilities of each clip, by the shipped sequence model or by Subtone's form of it."""
    session = silero._session
    if shipped:
        opened = SHIPPED
        silero._session = lambda: opened
    try:
        return [silero.SileroDetector().probabilities(wave) for wave in waves]
    finally:
        silero._session = session


def in_batches(waves: Sequence[np.ndarray], size: int) -> Scores:
    """Probabilities by the stepwise model, frame after frame of ``size`` clips at a time, sorted by length."""
    order = sorted(range(len(waves)), key=lambda i: -len(waves[i]))
    found: dict[int, np.ndarray] = {}
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        frames = [in_frames(waves[i], 512) for i in rows]
        counts = [len(one) for one in frames]
        inputs = np.zeros((counts[0], len(rows), 576), np.float32)
        for k, one in enumerate(frames):
            inputs[: len(one), k, 64:] = one
            inputs[1 : len(one), k, :64] = one[:-1, -64:]
        state, scores, live = (
            np.zeros((2, len(rows), 128), np.float32),
            np.zeros((counts[0], len(rows))),
            len(rows),
        )
        for t in range(counts[0]):
            while counts[live - 1] <= t:
                live -= 1
            state = np.ascontiguousarray(state[:, :live])
            step = {"input": inputs[t, :live], "state": state, "sr": np.array(16_000)}
            now, state = STEPWISE.run(None, step)
            scores[t, :live] = now[:, 0]
        found.update((i, scores[: counts[k], k]) for k, i in enumerate(rows))
    return [found[i] for i in range(len(waves))]


def main() -> None:
    parser = argparse.ArgumentParser(description="What Silero costs, in three ways")
    parser.add_argument("--audio", required=True, help="folder of recordings; 60 of them are taken")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    files = expand([given.audio])
    waves = [load_audio(file) for file in files[:: max(1, len(files) // CLIPS)][:CLIPS]]
    seconds = sum(map(len, waves)) / 16_000
    ways: dict[str, Callable[[], Scores]] = {
        "shipped, a clip a call": lambda: clip_by_clip(waves, shipped=True),
        "products of matrices, a clip a call": lambda: clip_by_clip(waves, shipped=False),
        **{f"stepwise, batches of {n}": (lambda n=n: in_batches(waves, n)) for n in (8, 16, 32, 60)},
    }
    exact = ways["shipped, a clip a call"]()
    apart = {
        name: max(float(np.abs(a - b).max()) for a, b in zip(way(), exact, strict=True))
        for name, way in ways.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            began = time.process_time()
            way()
            taken[name].append(time.process_time() - began)
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/silero.py --audio RECORDINGS --rounds {given.rounds}",
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("silero-vad", "onnxruntime", "numpy")},
        "clips": len(waves),
        "audio_s": round(seconds, 1),
        "times_real_time": {name: round(seconds / statistics.median(t)) for name, t in taken.items()},
        "largest_difference_of_a_probability": apart,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


SHIPPED = silero._open(silero._model_path().read_bytes())
STEPWISE = silero._open(silero._model_path().with_name("silero_vad.onnx").read_bytes())

if __name__ == "__main__":
    main()
