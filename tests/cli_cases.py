"""What the tests of the command line share: a run in this process, and a small corpus and model to run on."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from subtone.cli.entry import run

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Ended:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


def subtone_in_a_process(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    """Start the command line in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "subtone", *map(str, arguments)], **options)  # type: ignore[call-overload]


def write_corpus(folder: Path) -> Path:
    """Write a corpus whose two emotions are told apart by pitch: four speakers, sixteen clips; return its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    time = np.arange(9_600) / 16_000
    rows = []
    for speaker in range(4):
        for emotion, pitch_hz in (("anger", 600), ("sadness", 150)):
            for take in range(2):
                name = f"{speaker}-{emotion}-{take}.wav"
                wave = 0.3 * np.sin(2 * np.pi * (pitch_hz + 10 * speaker) * time) * (np.sin(12 * time) > -0.5)
                soundfile.write(folder / name, wave + 0.002 * random.standard_normal(len(time)), 16_000)
                rows.append((name, emotion, f"s{speaker}"))
    manifest = folder / "clips.csv"
    with manifest.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("file", "emotion", "speaker"), *rows])
    return manifest


SMALL = (
    "--set", "detector.name=energy", "--set", "seeds=[0]", "--set", "training.steps=30",
    "--set", "training.components=8", "--set", "training.hidden=8",
)  # fmt: skip
"""Settings under which training takes a second."""


def train_small(manifest: Path, folder: Path) -> Path:
    """Train a model on that corpus, by the command line."""
    assert run(["train", "--corpus", f"manifest={manifest}", "--out", str(folder), *SMALL]) == 0
    return folder
