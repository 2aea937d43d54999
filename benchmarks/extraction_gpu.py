"""Extraction on a GPU: hours of audio a minute for the shapes of wav2vec2-base and WavLM-large, in bf16.

    python benchmarks/extraction_gpu.py                # writes benchmarks/results/extraction_gpu.json and .md

The share is of the GPU's own bf16 matrix peak, measured between the passes. Without a GPU it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from contenders.flops import count_flops
from contenders.weights import make
from harness.clips import lengths
from harness.report import table

from subtone.evaluation import describe_environment
from subtone.extraction.backends import Backend, open_backend
from subtone.extraction.streams import Streams
from subtone.upstreams import load

HERE = Path(__file__).resolve().parent
SHAPES = ("wav2vec2-base", "wavlm-large")
AIM = 0.5
Wave = npt.NDArray[np.float32]


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="audio a pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "extraction_gpu.json")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: torch sees no CUDA device, and nothing was measured", file=sys.stderr)
        return 2
    found = [measure(shape, given) for shape in SHAPES]
    result = {
        "shapes": found,
        "environment": describe_environment(
            seeds=[given.seed],
            device=torch.cuda.get_device_name(),
            command=f"python benchmarks/extraction_gpu.py --minutes {given.minutes:g} --rounds {given.rounds} "
            f"--seed {given.seed}",
        ),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(page(result), encoding="utf-8")
    print(page(result))
    return 0


def measure(shape: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one shape: Subtone in bf16, plain Hugging Face in bf16 and fp32 one by one."""
    rng = np.random.default_rng(given.seed)
    count = max(8, round(given.minutes * 60 / 5.6))  # the mean of log-uniform lengths in 2 to 12 s
    with tempfile.TemporaryDirectory() as folder:
        weights = make(shape, given.seed, Path(folder) / "weights")
        backend = open_backend(load(str(weights), device="cuda"), "torch", "bf16")
        backend.close = lambda: None  # type: ignore[method-assign]  # streams close what they are given
        plain = {
            dtype: transformers.AutoModel.from_pretrained(weights, dtype=dtype).eval().cuda()
            for dtype in (torch.float32, torch.bfloat16)
        }
    passes: dict[str, Callable[[list[Wave]], None]] = {
        "Subtone bf16": lambda waves: _ours(backend, waves),
        "Hugging Face bf16, one by one": lambda waves: _one_by_one(plain[torch.bfloat16], waves),
        "Hugging Face fp32, one by one": lambda waves: _one_by_one(plain[torch.float32], waves),
    }
    rates: dict[str, list[float]] = {name: [] for name in passes}
    peaks, needed, memory = [], [], 0
    for round_number in range(given.rounds + 1):  # the first is to warm up
        samples = lengths(count, rng).tolist()
        waves = [0.1 * rng.standard_normal(n, np.float32) for n in samples]
        audio_s = sum(samples) / 16_000
        for name, run in passes.items():
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
            began = time.perf_counter()
            run(waves)
            torch.cuda.synchronize()
            if round_number:
                rates[name].append(audio_s / (time.perf_counter() - began))
            if name.startswith("Subtone"):
                memory = max(memory, torch.cuda.max_memory_allocated())
        if round_number:
            peaks.append(_peak_flops())
            needed.append(_flops(plain[torch.float32].config, samples) / audio_s)
    shares = [r * n / p for r, n, p in zip(rates["Subtone bf16"], needed, peaks)]
    return {
        "shape": shape,
        "clips_a_pass": count,
        "audio_s_per_s": rates,
        "hours_a_minute": {name: statistics.median(r) * 60 / 3600 for name, r in rates.items()},
        "bf16_peak_tflops": statistics.median(peaks) / 1e12,
        "gflop_per_audio_s": statistics.median(needed) / 1e9,
        "share_of_peak": statistics.median(shares),
        "aim_met": statistics.median(shares) >= AIM,
        "peak_gpu_memory_gb": memory / 1e9,
        "batch_s": backend.batch_s,
        "streams": backend.streams,
    }


def page(result: dict[str, Any]) -> str:
    """Return the readable page."""
    rows = [
        (
            f"{one['shape']}, {name}",
            f"{hours:.2f}",
            f"{60 * hours:.0f}",
            f"{one['share_of_peak']:.0%}" if name.startswith("Subtone") else "",
            ("met" if one["aim_met"] else "**not met**") if name.startswith("Subtone") else "",
        )
        for one in result["shapes"]
        for name, hours in one["hours_a_minute"].items()
    ]
    environment = result["environment"]
    lines = [
        "# Extraction on a GPU",
        "",
        *table(("", "hours of audio a minute", "× real time", "share of bf16 peak", f"aim {AIM:.0%}"), rows),
        "",
        f"{environment['device']}; encoder alone, waves in host memory, frames of all layers on the device; random "
        f"weights; medians of {len(next(iter(result['shapes'][0]['audio_s_per_s'].values())))} rounds in turn.",
    ]
    for one in result["shapes"]:
        lines.append(
            f"{one['shape']}: {one['gflop_per_audio_s']:.1f} GFLOP a second of audio, matrix peak "
            f"{one['bf16_peak_tflops']:.0f} TFLOP/s, {one['peak_gpu_memory_gb']:.1f} GB of GPU memory at most, batches "
            f"of {one['batch_s']:.0f} s."
        )
    return "\n".join([*lines, f"{environment['date']}: `{environment['command']}`", ""])


def _ours(backend: Backend, waves: list[Wave]) -> None:
    """Encode through the streams that an extraction uses, and drop the frames."""
    with Streams(backend) as streams:
        done = [streams.submit(wave, None, lambda _frames: None) for wave in waves]
        streams.flush()
        for one in done:
            one.result()


def _one_by_one(model: torch.nn.Module, waves: list[Wave]) -> None:
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        for wave in waves:
            normal = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
            hidden = model(
                torch.from_numpy(normal)[None].cuda().to(dtype), output_hidden_states=True
            ).hidden_states
            torch.stack(hidden, 1)  # (1, layers, frames, dim)


def _peak_flops(size: int = 8192, seconds: float = 0.5) -> float:
    """Return the GPU's best rate in bf16 matrix products."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5):
            a @ b
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / 5)
    return 2 * size**3 / best


def _flops(config: transformers.PretrainedConfig, samples: list[int]) -> float:
    """Count what unpadded clips take, on tensors without memory; from every tenth, as the cost is smooth in length."""
    some = sorted(samples)[::10]
    return count_flops(config, some) * sum(samples) / sum(some)


if __name__ == "__main__":
    sys.exit(main())
