"""Networks on segments: seconds an epoch over a corpus from a store, and memory as the corpus grows.

    python benchmarks/segments.py --corpus ravdess=PATH --upstream WHISPER --work DIR --out RESULT.json

An epoch of ``segment-cnn`` over all clips of the corpus, segments of each length, beside the rival: the same network,
loss and batches from one array in memory, in a plain loop of PyTorch. They take turns; figures are medians.

Memory: made-up clips of 3 s in a store (six layers of 384 at 50 frames a second; 70 MB a hundred clips, in DIR), a
tenth and then all of them, an epoch in a process of its own each time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subtone import recipes, upstreams
from subtone.evaluation import describe_environment
from subtone.extraction import FeatureMaps, FeatureStore, PooledFeatures, clips_of, extract
from subtone.recipes.data import read_corpora
from subtone.recipes.segment_sources import frames_to_keep
from subtone.speech import SpeechSegments, get_detector
from subtone.training.end_to_end.launching import alone
from subtone.training.end_to_end.network import Batch
from subtone.training.end_to_end.options import FitOptions
from subtone.training.segments.network import SegmentNetwork
from subtone.training.segments.source import Source, WithinClips
from subtone.training.segments.system import SegmentSystem
from subtone.training.segments.train import train_segments
from subtone.training.segments.windows import SegmentOptions, cut

LAYERS, DIM, FRAMES, HOP = 6, 384, 150, 320
MOMENTS = ["gap_mean", "gap_std"]
ONE_EPOCH = FitOptions(epochs=1, average=1, batch_s=64.0)
NOBODY = np.empty(0, np.int64)


def sources(
    corpus: str, path: str, upstream: str, store: Path, lengths: list[float]
) -> tuple[dict[float, Source], np.ndarray]:
    """Return the segments of a corpus at each length, and the class of every clip."""
    recipe = recipes.load("segment-cnn", ["seeds=[0]"])
    table = read_corpora(recipe, {corpus: path})
    encoder = upstreams.load(upstream)
    found = extract(
        clips_of(table),
        encoder,
        get_detector(),
        statistics=(),
        store=store,
        options=frames_to_keep(recipe, encoder, store),
    )
    maps = FeatureMaps(FeatureStore.open(store), found.keys)
    spoken = [s.project(encoder.grid, int(n)) for s, n in zip(maps.speech, maps.lengths, strict=True)]
    hop_s = encoder.grid.hop / encoder.grid.sample_rate_hz
    cuts = {s: cut(maps.lengths.tolist(), spoken, hop_s, SegmentOptions(length_s=s)) for s in lengths}
    classes = sorted(set(table["emotion"].iloc[found.rows]))
    targets = np.array([classes.index(e) for e in table["emotion"].iloc[found.rows]], np.int64)
    return {s: WithinClips(maps, windows) for s, windows in cuts.items()}, targets


def epoch(source: Source, targets: np.ndarray, folder: Path) -> float:
    """Return the seconds of one epoch over all clips, without development."""
    shutil.rmtree(folder, ignore_errors=True)
    system = SegmentSystem(segments=SegmentOptions(length_s=source.windows.frames * source.windows.hop_s))
    run = train_segments(
        alone("fp32"),
        source,
        targets,
        np.arange(len(targets)),
        NOBODY,
        NOBODY,
        int(targets.max()) + 1,
        folder,
        system,
        ONE_EPOCH,
        seed=0,
    )
    return run.stages[-1].seconds


def plain(source: Source, maps: torch.Tensor, targets: np.ndarray) -> float:
    """Return the seconds of the same epoch from memory, ``maps (segments, layers, frames, dim)`` float16."""
    system = SegmentSystem()
    network = SegmentNetwork(source.shape, int(targets.max()) + 1, system.encoder(), system.decision)
    network.standardise(*source.moments(np.arange(len(targets))))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    wanted = torch.from_numpy(targets[source.windows.clips])
    size = max(1, round(ONE_EPOCH.batch_s / (source.windows.frames * source.windows.hop_s)))
    network.train()
    began = time.perf_counter()
    for rows in torch.randperm(len(maps)).split(size):
        logits = network(Batch([maps[rows].float(), torch.arange(len(rows))], (), wanted[rows]))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, wanted[rows]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return time.perf_counter() - began


def made_up(folder: Path, clips: int) -> None:
    """Write a store of made-up clips, or as many as it lacks."""
    rng = np.random.default_rng(0)
    store = FeatureStore(folder, {"statistics": MOMENTS, "frames": list(range(LAYERS))})
    speech = SpeechSegments.whole(FRAMES * HOP)
    for first in range(len(store), clips, 100):
        keys = [f"{n:064x}:0.000000:" for n in range(first, first + 100)]
        pooled = PooledFeatures(
            {name: np.ones((100, LAYERS, DIM), np.float32) for name in MOMENTS},
            np.full(100, FRAMES * HOP),
            np.full(100, FRAMES),
            np.full(100, FRAMES),
            np.zeros(100, bool),
        )
        with store.shard() as shard:
            for key in keys:
                shard.add_frames(key, 0, rng.standard_normal((LAYERS, FRAMES, DIM), np.float32))
                shard.end_clip(key)
            shard.finish(keys, [f"{key[:64]}.wav" for key in keys], pooled, [speech] * 100)


def one_epoch_of(folder: Path, clips: int, work: Path) -> None:
    """Train an epoch on the first clips of a made-up store; print seconds and the peak of the process's memory."""
    store = FeatureStore.open(folder)
    keys = store.keys()[:clips]
    maps = FeatureMaps(store, keys)
    windows = cut(maps.lengths.tolist(), [np.ones(FRAMES, bool)] * clips, HOP / 16_000, SegmentOptions())
    source = WithinClips(maps, windows)
    seconds = epoch(source, np.arange(clips) % 4, work / f"memory-{clips}")
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1000
    print(
        json.dumps(
            {"clips": clips, "segments": len(windows), "seconds": round(seconds, 1), "peak_mb": round(peak)}
        )
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", metavar="NAME=PATH")
    parser.add_argument("--upstream")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--lengths", type=float, nargs="+", default=[0.5, 1.0, 2.0, 3.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        one_epoch_of(given.work / "made-up", given.child, given.work)
        return
    given.work.mkdir(parents=True, exist_ok=True)
    name, path = given.corpus.split("=", 1)
    found, targets = sources(name, path, given.upstream, given.work / "store", given.lengths)
    timed: dict[str, Any] = {}
    for length, source in found.items():
        held = source.read(np.arange(len(source.windows))).half()
        ours, theirs = [], []
        for _ in range(given.repeats):
            ours.append(epoch(source, targets, given.work / "run"))
            theirs.append(plain(source, held, targets))
        del held
        timed[f"{length:g} s"] = {
            "segments": len(source.windows),
            "epoch_s": round(statistics.median(ours), 2),
            "epoch_s_all": [round(s, 2) for s in ours],
            "in_memory_s": round(statistics.median(theirs), 2),
            "times_in_memory": round(statistics.median(t / o for o, t in zip(ours, theirs, strict=True)), 2),
        }
        print(length, timed[f"{length:g} s"], flush=True)
    made_up(given.work / "made-up", given.clips)
    memory = []
    for clips in (given.clips // 10, given.clips):
        command = [sys.executable, __file__, "--work", str(given.work), "--child", str(clips)]
        memory.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(memory[-1], flush=True)
    size = sum(p.stat().st_size for p in (given.work / "made-up").iterdir() if p.is_file())
    result = {
        "corpus": name,
        "clips": len(targets),
        "upstream": Path(given.upstream).name,
        "epochs": timed,
        "memory": memory,
        "memory_store_gb": round(size / 1e9, 2),
        "load_average_1min": os.getloadavg()[0],
        "environment": describe_environment(
            seeds=[0],
            device="cpu",
            command=f"python benchmarks/segments.py --corpus {name}=PATH --upstream {Path(given.upstream).name} "
            "--work DIR --out RESULT.json",
        ),
    }
    text = json.dumps(result, indent=1)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
