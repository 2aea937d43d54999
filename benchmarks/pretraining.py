"""How much of a pre-training is the network: forward and backward alone against the whole loop, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/pretraining.py [--steps 10] [--rounds 3]

Writes results/pretraining.json. The recordings are synthetic, 1 to 6 s; times are CPU seconds of the whole process,
reading ahead included; medians over rounds in which every case takes its turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from subtone.pretraining.frames import FrameCorpus, Sampler, prepare
from subtone.pretraining.loading import Loader, load
from subtone.pretraining.objectives import build_objective
from subtone.pretraining.options import PretrainOptions
from subtone.pretraining.trainer import Opaque, Trainer

RESULT = Path(__file__).parent / "results" / "pretraining.json"
CLIPS = 160


def corpus_in(folder: Path) -> FrameCorpus:
    """Make recordings of coloured noise and prepare them."""
    import soundfile

    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        wave = rng.normal(size=int(rng.uniform(1, 6) * 16_000)).cumsum()
        soundfile.write(folder / f"{number:03}.wav", 0.3 * wave / np.abs(wave).max(), 16_000)
    return prepare(sorted(folder.glob("*.wav")), folder / "frames")


def measure(
    corpus: FrameCorpus, architecture: str, size: str, precision: str, steps: int
) -> dict[str, float]:
    """Return frames a CPU second of the network alone and of the loop, and the share that the rest takes."""
    options = PretrainOptions.defaults(architecture, size, precision=precision, steps=steps)
    fabric = Fabric(
        accelerator="cpu", devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true"
    )
    objective = build_objective(architecture, options.size, masking=options.masking)
    trainer = Trainer(fabric, objective, options)
    sampler = Sampler(corpus.lengths, options.batch_size, options.crop_frames, options.seed)
    deltas = objective.encoder.options.deltas
    batches = [load(corpus, sampler, number, deltas=deltas, intensity=False) for number in range(steps)]
    frames = sum(loaded.num_frames for loaded in batches)
    generator = torch.Generator()

    def alone() -> float:
        objective.train()
        began = time.process_time()
        for loaded in batches:
            fabric.backward(trainer.model(Opaque(loaded.batch), generator).total)
            objective.zero_grad(set_to_none=True)
        return time.process_time() - began

    def whole() -> tuple[float, float]:
        began = time.process_time()
        with Loader(trainer.numbers(0), corpus, sampler, deltas=deltas, intensity=False) as loader:
            waited = sum(totals.waited_s for _, totals in trainer.steps(loader, 0))
        return time.process_time() - began, waited

    first, (second, waited), third = alone(), whole(), alone()
    return {
        "alone_frames_per_s": frames / ((first + third) / 2),
        "loop_frames_per_s": frames / second,
        "overhead": 1 - (first + third) / 2 / second,
        "waited_s": waited,
    }


def main() -> None:
    """Measure, print and write all cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        corpus = corpus_in(folder)
        cases = list(itertools.product(("mockingjay", "npc"), ("small", "mini"), ("fp32", "bf16")))
        rounds = [
            {case: measure(corpus, *case, arguments.steps) for case in cases} for _ in range(arguments.rounds)
        ]
    finally:
        shutil.rmtree(folder)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"OMP_NUM_THREADS=1 python benchmarks/pretraining.py --steps {arguments.steps} "
        f"--rounds {arguments.rounds}",
        "machine": machine(),
        "torch": torch.__version__,
        "batch_size": PretrainOptions().batch_size,
        "crop_frames": PretrainOptions().crop_frames,
        "cases": [
            {
                **dict(zip(("architecture", "size", "precision"), case, strict=True)),
                **{
                    name: round(statistics.median(one[case][name] for one in rounds), 4)
                    for name in rounds[0][case]
                },
            }
            for case in cases
        ],
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def machine() -> str:
    """Return what the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


if __name__ == "__main__":
    main()
