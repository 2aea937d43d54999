"""What a larger encoder makes of clips: some of its layers, frame by frame; and its pooled features.

    python teacher.py --cache CACHE --upstream WHISPER_BASE --layers 2 4 6 --out TEACHER --features FEATURES/name

Of the large corpora every second clip is taken, as `features.py --every 2` does.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cache import GRID, Cache
from features import STATISTICS, chosen
from student import frames

from subtone import upstreams
from subtone.pooling import pool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--layers", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cache = Cache(given.cache)
    network: Any = upstreams.load(given.upstream).module
    network.to(torch.bfloat16)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = chosen(cache, every=2)
    taken = set(rows.tolist())
    counts = np.zeros(len(cache.table), np.int64)
    pooled = []
    total = square = torch.zeros(())
    with (given.out / "frames.f16").open("wb") as out, torch.inference_mode():
        for row, clip in enumerate(cache.table.itertuples()):
            if row not in taken:
                continue
            mel = cache.mels[clip.first_mel : clip.first_mel + clip.mels].astype(np.float32)
            layers = torch.cat(frames(network, torch.from_numpy(mel.T.copy())[None].bfloat16())).float()
            spoken = torch.from_numpy(cache.speech(row).project(GRID, layers.shape[1]))[None].expand(
                len(layers), -1
            )
            found = pool(layers, torch.ones_like(spoken), spoken, STATISTICS)
            pooled.append(torch.cat([found[name] for name in STATISTICS], -1).numpy().astype(np.float16))
            kept = layers[given.layers].transpose(0, 1)  # (frames, layers, dim)
            out.write(kept.numpy().astype(np.float16).tobytes())
            counts[row] = len(kept)
            total, square = total + kept.sum(0).double(), square + kept.square().sum(0).double()
            if len(pooled) % 500 == 0:
                print(len(pooled), len(rows), flush=True)
    mean = total / counts.sum()
    scale = (square / counts.sum() - mean.square()).clamp(min=1e-6).sqrt()
    first = np.concatenate([[0], counts.cumsum()[:-1]])
    about = {
        "shape": list(mean.shape), "first": first.tolist(), "frames": counts.tolist(),
        "mean": mean.tolist(), "scale": scale.tolist(),
    }  # fmt: skip
    (given.out / "teacher.json").write_text(json.dumps(about), encoding="utf-8")
    given.features.parent.mkdir(parents=True, exist_ok=True)
    np.savez(given.features.with_suffix(".npz"), rows=rows, x=np.stack(pooled))


if __name__ == "__main__":
    main()
