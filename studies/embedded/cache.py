"""Every clip of the corpora, decoded once: samples, Whisper's log-mel spectrogram, where speech is.

    python cache.py --out CACHE --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb ...

The parts of the study read the cache and never the corpora. Samples are kept as 16-bit integers, spectrograms in half
precision, all clips end to end in one memory-mapped file each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

import subtone
from subtone import corpora
from subtone.audio import audio_digest
from subtone.protocols import speaker_ids
from subtone.speech import SpeechSegments, get_detector
from subtone.upstreams.base import FrameGrid
from subtone.upstreams.whisper import log_mel

LONGEST_S = 30.0
GRID = FrameGrid(hop=320, window=1040, offset=-160, shortest=160)  # Whisper's
NUM_MEL = 80


@dataclass(frozen=True)
class Cache:
    """What `main` wrote; one row of ``table`` a clip."""

    folder: Path

    @cached_property
    def table(self) -> pd.DataFrame:
        """Corpus table, with columns ``first`` and ``samples``, ``first_mel`` and ``mels``, ``starts`` and ``ends``."""
        return pd.read_parquet(self.folder / "table.parquet")

    @cached_property
    def speakers(self) -> npt.NDArray[np.str_]:
        """Corpus and speaker of each clip, as one name."""
        return np.array(
            [f"{c}/{s}" for c, s in zip(self.table["corpus"], self.table["speaker"], strict=True)]
        )

    @cached_property
    def samples(self) -> npt.NDArray[np.int16]:
        return np.memmap(self.folder / "samples.i16", np.int16, "r")

    @cached_property
    def mels(self) -> npt.NDArray[np.float16]:
        """``(mel frames of all clips, 80)``, as Whisper's encoder takes them."""
        return np.memmap(self.folder / "mels.f16", np.float16, "r").reshape(-1, NUM_MEL)

    def wave(self, row: int) -> npt.NDArray[np.float32]:
        """Samples of one clip in [-1, 1]."""
        clip = self.table.iloc[row]
        part = self.samples[clip["first"] : clip["first"] + clip["samples"]]
        return part.astype(np.float32) / 32768

    def speech(self, row: int) -> SpeechSegments:
        """Where one clip holds speech."""
        clip = self.table.iloc[row]
        return SpeechSegments(clip["starts"], clip["ends"], int(clip["samples"]))


def main() -> None:
    """Decode, look, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    named = dict(entry.split("=", 1) for entry in given.corpus)
    table = pd.concat([corpora.read(name, path) for name, path in named.items()])
    given.out.mkdir(parents=True, exist_ok=True)
    detector = get_detector()
    rows = []
    first = first_mel = 0
    torch.set_num_threads(1)
    with (given.out / "samples.i16").open("wb") as samples, (given.out / "mels.f16").open("wb") as mels:
        for number, file in enumerate(table.index.get_level_values("file")):
            wave = subtone.load_audio(file)[: int(LONGEST_S * 16_000)]
            mel = log_mel(torch.from_numpy(wave), NUM_MEL).numpy().astype(np.float16)  # (mel frames, 80)
            found = detector.detect(wave)
            samples.write(np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16).tobytes())
            mels.write(mel.tobytes())
            rows.append((first, len(wave), first_mel, len(mel), found.starts, found.ends))
            first, first_mel = first + len(wave), first_mel + len(mel)
            if number % 1000 == 0:
                print(number, len(table), f"{first / 16_000:.0f} s", flush=True)
    columns = [
        "corpus",
        "emotion",
        "speaker",
        "gender",
        "language",
        "intensity",
        "arousal",
        "sentence",
        "raw",
    ]
    kept = table.reset_index()[["file", *columns]].assign(who=speaker_ids(table))
    kept["digest"] = [audio_digest(f) for f in kept["file"]]
    kept["file"] = [Path(f).name for f in kept["file"]]
    placed = pd.DataFrame(rows, columns=["first", "samples", "first_mel", "mels", "starts", "ends"])
    pd.concat([kept, placed], axis=1).to_parquet(given.out / "table.parquet")


if __name__ == "__main__":
    main()
