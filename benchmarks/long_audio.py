"""What becomes of a clip that is encoded in chunks: error against one pass, memory and time, by length and overlap.

    python benchmarks/long_audio.py --audio RECORDINGS [--whisper FOLDER]     # 20 minutes on one core

Encoders: small random ones of every family, a random one of wav2vec2-base's shape, and, with ``--whisper``, one that
was trained. Writes ``benchmarks/results/long_audio.json``. Run it from the repository, whose tests make the small ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RATE = 16_000
SHAPE = "wav2vec2-base"
#: Families that are looked at closely; the others are much alike, and some need minutes for a pass of minutes.
CLOSELY = ("wav2vec2-group", "hubert-layer", "conformer-rotary", "w2v-bert-rotary")
#: Seconds from where two chunks meet, or from where a chunk ends.
EDGES_S = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)

Frames = npt.NDArray[np.float32]


def main() -> None:
    """Measure and write."""
    given = arguments()
    if given.cost:
        cost(given.cost, given.pass_s, given.audio)
        return
    import torch

    from subtone import upstreams
    from subtone.evaluation import describe_environment
    from tests import tiny_upstreams

    torch.set_num_threads(1)
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s  {line}", flush=True)

    error: dict[str, Any] = {}
    trained: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="subtone-benchmark-") as name:
        work = Path(name)
        wave = recording(given.audio, 180.0)
        for family in tiny_upstreams.FAMILIES:
            upstream = upstreams.load(tiny_upstreams.write(work / family, family))
            if family in CLOSELY:
                error[family] = chunked(upstream, wave, (30.0, 60.0, 120.0), (0.0, 1.0, 2.5, 5.0, 10.0))
            elif upstream.one_pass_samples is None:
                error[family] = chunked(upstream, wave[: 90 * RATE], (30.0,), (0.0, 2.5))
            say(family)
        for name in ("fbank:80+deltas+level", "fbank:80+deltas+cmvn"):
            error[name] = chunked(upstreams.load(name), wave, (30.0, 60.0, 120.0), (0.0, 2.5))
            say(name)
        if given.whisper is not None:
            trained = surroundings(upstreams.load(given.whisper), wave)
            for row in trained:
                say(f"trained attention: {row}")
        shape = work / SHAPE
        weights = [sys.executable, str(HERE / "contenders" / "weights.py"), SHAPE, "0", str(shape)]
        subprocess.run(weights, check=True)
        for pass_s in (7.5, 15.0, 30.0, 60.0, 120.0):
            command = [sys.executable, str(HERE / "long_audio.py"), "--audio", str(given.audio)]
            command += ["--cost", str(shape), "--pass-s", str(pass_s)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            costs.append(json.loads(done.stdout))
            say(f"one pass of {pass_s:g} s: {costs[-1]}")
        error[SHAPE] = chunked(upstreams.load(shape), wave[: 120 * RATE], (30.0, 60.0), (0.0, 2.5, 5.0))
    command_line = "python benchmarks/long_audio.py --audio FOLDER" + (" --whisper FOLDER" if trained else "")
    result = {
        "error_against_one_pass": error,
        "trained_attention_by_seconds_from_the_chunks_end": trained,
        "cost_of_one_pass": {"upstream": f"{SHAPE} shape, float32, PyTorch, one thread", "passes": costs},
        "edges_s": EDGES_S,
        "audio": "recordings of one corpus, end to end, 180 s; 90 s for most families, 120 s for the large shape",
        "load_average": os.getloadavg(),
        "took_s": time.perf_counter() - began,
        "environment": describe_environment(seeds=[0], device="cpu", command=command_line),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    say(f"written: {given.out}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", type=Path, default=HERE.parent / "examples", help="folder of recordings")
    parser.add_argument("--whisper", help="folder of a trained Whisper encoder")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "long_audio.json")
    parser.add_argument("--cost", help=argparse.SUPPRESS)  # in a process of its own: peak memory never falls
    parser.add_argument("--pass-s", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def recording(folder: Path, seconds: float) -> Frames:
    """Return recordings from all over a folder, end to end, as often as it takes."""
    from subtone.audio import expand, load_audio

    paths = expand(folder)
    waves: list[Frames] = []
    while sum(map(len, waves)) < seconds * RATE:
        waves += [load_audio(path) for path in paths[:: max(1, len(paths) // 80)]]
    return np.concatenate(waves)[: int(seconds * RATE)]


def chunked(
    upstream: Any, wave: Frames, passes: Sequence[float], overlaps: Sequence[float]
) -> list[dict[str, Any]]:
    """Compare the stitched frames of chunks with those of one pass over the whole wave."""
    from subtone.extraction.chunks import plan

    (whole,) = upstream.extract([wave])  # (layers, frames, dim)
    survey = upstream.survey([wave])
    rows = []
    for pass_s in passes:
        for overlap_s in overlaps:
            chunks = plan(len(wave), upstream, one_pass_s=pass_s, overlap_s=overlap_s)
            # An overlap is never less than what convolutions see: some come out the same.
            key = [(c.start, c.end) for c in chunks]
            if any(row["chunks"] == key for row in rows):
                continue
            parts = [upstream.extract([wave[c.start : c.end]], [survey])[0][:, c.core] for c in chunks]
            stitched = np.concatenate(parts, axis=1)
            seams = np.array([c.first_frame for c in chunks[1:]])
            distance = np.abs(np.arange(whole.shape[1])[:, None] - seams).min(1) * upstream.grid.hop / RATE
            rows.append(
                {"pass_s": pass_s, "overlap_s": overlap_s, "chunks": key}
                | errors(stitched, whole, distance)
                | pooled_errors(stitched, whole)
            )
    for row in rows:
        row["chunks"] = len(row["chunks"])
    return rows


def errors(found: Frames, wanted: Frames, distance: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return relative errors of frames: median and largest, before attention and in the last layer."""
    relative = np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)  # (layers, frames)
    rings = np.digitize(distance, EDGES_S) - 1
    by_ring = [relative[:, rings == ring] for ring in range(len(EDGES_S))]
    return {
        "largest_before_attention": float(relative[0].max()),
        "largest": float(relative.max()),
        "median_of_last_layer": float(np.median(relative[-1])),
        "median_of_last_layer_by_distance": [
            float(np.median(ring[-1])) if ring.size else None for ring in by_ring
        ],
    }


def pooled_errors(found: Frames, wanted: Frames) -> dict[str, float]:
    """Return the errors of mean and deviation over all frames, of the worst layer."""
    mean, mean_wanted = found.mean(1), wanted.mean(1)  # (layers, dim)
    cosine = (
        (mean * mean_wanted).sum(-1) / np.linalg.norm(mean, axis=-1) / np.linalg.norm(mean_wanted, axis=-1)
    )
    return {
        "one_less_cosine_of_mean": float(1 - cosine.min()),
        "relative_error_of_mean": _relative(mean, mean_wanted),
        "relative_error_of_deviation": _relative(found.std(1), wanted.std(1)),
    }


def _relative(found: Frames, wanted: Frames) -> float:
    return float((np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)).max())


def surroundings(upstream: Any, wave: Frames) -> list[dict[str, Any]]:
    """Tell how far into a chunk a trained encoder misses what lies beyond, against one pass over 30 s.

    The chunks keep the positions that they have in the 30 s, so that attention alone differs.
    """
    positions = upstream.module.embed_positions.weight
    kept, hop = positions.data.clone(), upstream.grid.hop
    rows = []
    for chunk_s in (10.0, 15.0, 20.0):
        per_frame = []
        for first in range(0, len(wave) - 30 * RATE + 1, 30 * RATE):
            clip = wave[first : first + 30 * RATE]
            (whole,) = upstream.extract([clip])
            survey = upstream.survey([clip])
            for begin_s in np.arange(2.0, 28.0 - chunk_s + 0.1, 2.0):
                begin = round(begin_s * RATE / hop)
                samples = clip[begin * hop : begin * hop + int(chunk_s * RATE)]
                positions.data = kept[begin:]
                (found,) = upstream.extract([samples], [survey])
                positions.data = kept
                count = found.shape[1]
                wanted = whole[:, begin : begin + count]
                index = np.arange(count)
                distance = np.minimum(index, count - 1 - index) * hop / RATE
                per_frame.append(errors(found, wanted, distance))
        by_distance = [one["median_of_last_layer_by_distance"] for one in per_frame]
        row = {"chunk_s": chunk_s, "chunks": len(per_frame)}
        row["largest_before_attention"] = max(one["largest_before_attention"] for one in per_frame)
        rings = zip(*by_distance, strict=True)
        row["median_of_last_layer_by_distance"] = [
            float(np.median(ring)) if None not in ring else None for ring in rings
        ]
        rows.append(row)
    return rows


def cost(weights: str, pass_s: float, folder: Path) -> None:
    """Encode a pass three times; print its CPU time and how much memory it takes at its peak, which Linux tells."""
    import torch

    from subtone import upstreams

    torch.set_num_threads(1)
    upstream = upstreams.load(weights)
    wave = recording(folder, pass_s)
    upstream.extract([wave[:RATE]])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted anew
    before = _memory_kb("VmRSS")
    seconds = []
    for _ in range(3):
        start = time.process_time()
        upstream.extract([wave])
        seconds.append(time.process_time() - start)
    told = {
        "pass_s": pass_s,
        "cpu_s_per_audio_s": round(float(np.median(seconds)) / pass_s, 4),
        "peak_over_loaded_mb": round((_memory_kb("VmHWM") - before) / 1024),
    }
    print(json.dumps(told))


def _memory_kb(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
