"""How fast the shipped model is on one core: encoder, scores with detection, and all of ``predict`` from files.

    OMP_NUM_THREADS=1 python benchmarks/shipped_model.py PATH... [--out benchmarks/results/shipped_model.json]

The files are predicted as they are, and as 16 kHz WAV, for decoding a compressed file costs about as much as everything
but the encoder. CPU seconds of this process, medians of the rounds, what is compared taken in turns.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
import torch

import subtone
from subtone.evaluation import describe_environment


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="recordings; 120 of 3 s are enough")
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = subtone.load(given.model)
    waves = [subtone.load_audio(path) for path in given.paths]
    seconds = sum(map(len, waves)) / 16_000
    with tempfile.TemporaryDirectory() as folder:
        wavs = []
        for number, wave in enumerate(waves):
            wavs.append(str(Path(folder) / f"{number}.wav"))
            soundfile.write(wavs[-1], wave, 16_000)
        stages: dict[str, Callable[[], Any]] = {
            "encoder": lambda: model.upstream.extract(waves),
            "detection and scores": lambda: model.score(waves),
            "predict, WAV files": lambda: model.predict(wavs),
            "predict, the files as given": lambda: model.predict(given.paths),
        }
        spent: dict[str, list[float]] = {name: [] for name in stages}
        for round_number in range(given.rounds + 1):
            for name, stage in stages.items():
                began = time.process_time()
                stage()
                if round_number > 0:  # the first warms up
                    spent[name].append(time.process_time() - began)
    where = describe_environment(command="OMP_NUM_THREADS=1 python benchmarks/shipped_model.py PATH...")
    record = {
        "date": datetime.date.today().isoformat(),
        "command": where["command"],
        "versions": where["versions"],
        "machine": where["machine"],
        "model": given.model,
        "clips": len(waves),
        "suffixes": sorted({Path(path).suffix for path in given.paths}),
        "audio_s": round(seconds, 1),
        "times_real_time": {
            name: {
                "median": round(seconds / statistics.median(each), 1),
                "rounds": [round(seconds / s, 1) for s in each],
            }
            for name, each in spent.items()
        },
    }
    text = json.dumps(record, indent=2) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
