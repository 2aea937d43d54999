"""Pooled features of every clip of the cache, by any upstream, as they are or over a worse line.

python features.py --cache CACHE --upstream NAME_OR_FOLDER --out FEATURES/name [--line telephone] [--precision bf16]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
import torch
from cache import GRID, NUM_MEL, Cache
from student import frames

from subtone import upstreams
from subtone.extraction import pool_wave
from subtone.pooling import pool
from subtone.speech import SpeechSegments
from subtone.upstreams.whisper import WhisperUpstream, log_mel

STATISTICS = ("gap_mean", "gap_std", "sap_mean", "sap_std")
Wave = npt.NDArray[np.float32]


def telephone(wave: Wave, _rng: np.random.Generator) -> Wave:
    """Narrow-band telephone: 8 kHz, 300 to 3400 Hz, eight bits by the mu law."""
    narrow = soxr.resample(wave, 16_000, 8_000)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / 8_000)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    narrow = np.fft.irfft(spectrum, len(narrow))
    narrow = narrow / max(np.abs(narrow).max(), 1e-6)
    squeezed = np.round(127 * np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)) / 127
    narrow = np.sign(squeezed) * np.expm1(np.abs(squeezed) * np.log(256)) / 255
    out = soxr.resample(0.5 * narrow, 8_000, 16_000)
    return np.resize(out, len(wave)).astype(np.float32)


def noise(wave: Wave, rng: np.random.Generator) -> Wave:
    """Pink noise, 5 to 15 dB below the clip."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    hiss = np.fft.irfft(spectrum, len(wave))
    ratio = 10 ** (-rng.uniform(5, 15) / 20)
    return (wave + hiss * ratio * np.sqrt((wave**2).mean() / max((hiss**2).mean(), 1e-12))).astype(np.float32)


LINES: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {"telephone": telephone, "noise": noise}
SILENCE = "silence"  # the one line that moves where speech is


def silence(wave: Wave, speech: SpeechSegments, rng: np.random.Generator) -> tuple[Wave, SpeechSegments]:
    """Half a second to six seconds without a voice at both ends, digital silence or faint noise."""
    before, after = (int(16_000 * rng.uniform(0.5, 6)) for _ in range(2))
    level = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(-4, -2.5)
    longer = level * rng.standard_normal(before + len(wave) + after)
    longer[before : before + len(wave)] = wave
    moved = SpeechSegments(speech.starts + before, speech.ends + before, len(longer))
    return longer.astype(np.float32), moved


def extract(
    cache: Cache, rows: npt.NDArray[np.int64], upstream: str, line: str | None = None, precision: str = "bf16"
) -> npt.NDArray[np.float32]:
    """Pooled features ``(rows, layers, statistics * dim)``.

    ``bf16`` is for Whisper's family only: a thousandth of the figures' intervals, twice as fast. Where speech is, was
    found in the clip as it is.
    """
    loaded = upstreams.load(upstream)
    network: Any = loaded.module
    found = []
    for number, row in enumerate(rows):
        clip = cache.table.iloc[row]
        speech = cache.speech(row)
        if line is not None or precision == "fp32":
            wave = cache.wave(row)
            if line == SILENCE:
                wave, speech = silence(wave, speech, np.random.default_rng(int(row)))
            elif line is not None:
                wave = LINES[line](wave, np.random.default_rng(int(row)))
        if precision == "fp32":
            found.append(pool_wave(loaded, wave, speech, STATISTICS).matrix(STATISTICS)[0])
        else:
            assert isinstance(loaded, WhisperUpstream)
            if line is not None:
                mel = log_mel(torch.from_numpy(wave), NUM_MEL)
            else:
                kept = cache.mels[clip["first_mel"] : clip["first_mel"] + clip["mels"]]
                mel = torch.from_numpy(kept.astype(np.float32))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                layers = frames(network, mel.T.contiguous()[None])
            stacked = torch.cat([layer.float() for layer in layers])  # (layers, frames, dim)
            spoken = torch.from_numpy(speech.project(GRID, stacked.shape[1]))[None].expand(len(stacked), -1)
            pooled = pool(stacked, torch.ones_like(spoken), spoken, STATISTICS)
            found.append(torch.cat([pooled[name] for name in STATISTICS], -1).numpy())
        if number % 1000 == 999:
            print(number + 1, len(rows), flush=True)
    return np.stack(found).astype(np.float32)


def chosen(cache: Cache, every: int = 1, of_all: bool = False) -> npt.NDArray[np.int64]:
    """Clips with an emotion; every n-th of the large corpora, or of all."""
    rows = np.flatnonzero(cache.table["emotion"].notna().to_numpy())
    if of_all:
        return rows[rows % every == 0]
    large = cache.table["corpus"].isin(("nemo", "ased", "ravdess")).to_numpy()[rows]
    return rows[~large | (rows % every == 0)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--line", choices=(*LINES, SILENCE))
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip of the large corpora")
    parser.add_argument("--of-all", action="store_true", help="every n-th of all corpora")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cache = Cache(given.cache)
    rows = chosen(cache, given.every, given.of_all)
    x = extract(cache, rows, given.upstream, given.line, given.precision)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        given.out.with_suffix(".npz"),
        rows=rows,
        x=x.astype(np.float16 if np.abs(x).max() < 6e4 else np.float32),
    )
    print(json.dumps({"wrote": given.out.name, "shape": list(x.shape)}))


if __name__ == "__main__":
    main()
