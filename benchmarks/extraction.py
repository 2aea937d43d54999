"""Subtone's extraction beside others': same weights, same clips, in turn, each in a process of its own.

    python benchmarks/peers.py PEERS                                   # once: environments of the peers
    python benchmarks/extraction.py --environments PEERS               # 12 minutes on 2 quiet cores
    python benchmarks/extraction.py --environments PEERS --quick       # proves that everything runs, no more

Writes a result as JSON and as a page in Markdown, by default into ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import summary
from harness.aims import judge
from harness.clips import make_set, material
from harness.field import BASELINE, line_up
from harness.measure import Rounds, command_line, memory
from harness.report import page
from harness.worker import environment

from subtone.evaluation import describe_environment

HERE = Path(__file__).resolve().parent
SHAPE = "wav2vec2-base"


def main() -> None:
    """Measure and write."""
    given = arguments()
    few, rounds = (3, 2) if given.quick else (8, 5)
    began, loads = time.perf_counter(), [os.getloadavg()[0]]

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s  {line}", flush=True)

    # Children inherit it: libraries and engines alike then take as many threads as there are cores for them.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    processes, contenders = line_up(given.environments)
    with tempfile.TemporaryDirectory(prefix="subtone-benchmark-") as name:
        work = Path(name)
        weights = make_weights(work / "weights", given.seed)
        source = material(given.audio)
        sets = [
            make_set(source, work / f"clips-{r}", (few,) * 3, np.random.default_rng([given.seed, r]))
            for r in range(rounds + 1)
        ]
        logs, reference = work / "logs", work / "reference"
        logs.mkdir()
        reference.mkdir()
        loading = {"weights": str(weights), "threads": given.threads}
        memories = memory(processes, contenders, sets[0].first(few), loading, logs, say)
        commands = command_line(weights, sets[0], ("fp32", "bf16", "int8"), say)
        with Rounds(processes, contenders, loading, logs, say) as running:
            running.first(sets[0], few)
            if BASELINE not in {one.name for one in running.running()}:
                sys.exit(f"{BASELINE}: {running.results[BASELINE]['skipped']}; nothing to compare with")
            peaks = []
            for number, clips in enumerate(sets[1:], 1):
                say(f"round {number}")
                peaks.append(running.round(clips, few, given.seed + number))
            running.compare(sets[0], few, reference)
            raw_parts = running.parts(sets[0].first(few))
            flops = []
            for clips in sets[1:]:
                some = clips.first(few)
                counted = running.workers["huggingface"].ask("flops", samples=some.samples)
                flops.append(counted["flops"] / some.audio_s)
    results = running.results
    baseline = results[BASELINE]
    table = {}
    for one in contenders:
        table[one.name] = summary.summarise(one, results[one.name], baseline, peaks, flops)
        table[one.name]["load_s"] = running.loaded[one.process].get("seconds")
        if one.name in memories:
            table[one.name]["memory"] = memories[one.name]
    parts: dict[str, dict[str, Any]] = {}
    for one in contenders:
        raw = raw_parts.get(one.precision, {})
        if one.what == "pipeline" and raw and "skipped" not in table[one.name]:
            encoder = table[one.name.removesuffix(", pipeline")]
            parts[one.precision] = raw if "skipped" in raw else summary.shares(raw, encoder, table[one.name])
    loads.append(os.getloadavg()[0])
    result = {
        "aims": judge(table, commands, parts),
        "baseline": BASELINE,
        "contenders": table,
        "command_line": commands,
        "parts": parts,
        "peaks": peaks,
        "gflop_per_audio_s": float(np.median(flops)) / 1e9,
        "weights": f"{SHAPE} shape",
        "seed": given.seed,
        "threads": given.threads,
        "rounds": rounds,
        "clips": {
            "encoder": few,
            "encoder_audio_s": sets[1].first(few).audio_s,
            "pipeline": 3 * few,
            "pipeline_audio_s": sets[1].audio_s,
            "source": "the examples of this repository"
            if given.audio == HERE.parent / "examples"
            else "--audio",
        },
        "load_average": loads,
        "took_s": time.perf_counter() - began,
        "peer_versions": {
            key: running.loaded[key]["versions"]
            for key in ("s3prl", "speechbrain")
            if key in running.loaded and "versions" in running.loaded[key]
        },
        "environment": describe(given),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(page(result), encoding="utf-8")
    say(f"written: {given.out} and {given.out.with_suffix('.md')}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environments", type=Path, help="folder that peers.py has filled")
    parser.add_argument(
        "--audio", type=Path, default=HERE.parent / "examples", help="recordings to cut clips from"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads and cores for everybody")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="3 clips and 2 rounds")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/extraction.json")
    given = parser.parse_args()
    if given.out is None:
        if given.quick:
            parser.error("--quick needs --out: its figures are not to replace a result")
        given.out = HERE / "results" / "extraction.json"
    if len(os.sched_getaffinity(0)) < given.threads:
        parser.error(f"--threads {given.threads}: this process may use {len(os.sched_getaffinity(0))} cores")
    return given


def make_weights(folder: Path, seed: int) -> Path:
    """Save random weights; in a process of its own, so that this one stays small."""
    command = [sys.executable, str(HERE / "contenders" / "weights.py"), SHAPE, str(seed), str(folder)]
    subprocess.run(command, check=True, env=environment())
    return folder


def describe(given: argparse.Namespace) -> dict[str, Any]:
    """Return date, command without anybody's paths, versions and machine."""
    command = "python benchmarks/extraction.py"
    command += " --environments PEERS" if given.environments else ""
    command += " --audio FOLDER" if given.audio != HERE.parent / "examples" else ""
    command += f" --threads {given.threads} --seed {given.seed}" + (" --quick" if given.quick else "")
    told = describe_environment(seeds=[given.seed], device="cpu", command=command)
    for name in ("openvino", "nncf"):
        try:
            told["versions"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    told["machine"]["cpu_flags"] = [flag for flag in wanted if flag in flags]
    told["machine"]["memory_gb"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return told


if __name__ == "__main__":
    main()
