"""Corpora of tones that are made in a second: emotions that a small classifier can tell apart, for every speaker."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 16_000
#: Emotion → pitch in Hz and level of its tones.
VOICES = {"anger": (600.0, 0.5), "sadness": (150.0, 0.05), "happiness": (1200.0, 0.2)}


def utterance(
    seconds: float = 0.6, pitch_hz: float = 200.0, level: float = 0.3, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Return a faint hiss with two tones in it, ``(samples,)``: two runs of speech to the energy detector."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    position = times / seconds
    inside = ((position > 0.1) & (position < 0.4)) | ((position > 0.7) & (position < 0.9))
    wave = rng.normal(0, 1e-3, len(times)) + level * inside * np.sin(2 * np.pi * pitch_hz * times)
    return wave.astype(np.float32)


def write(path: Path, wave: npt.NDArray[np.float32]) -> Path:
    """Write a wave as 16-bit PCM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE)
    return path


def manifest(
    folder: Path, *, speakers: int = 4, takes: int = 2, emotions: Sequence[str] = tuple(VOICES)
) -> Path:
    """Write a corpus in which every speaker says every emotion, two speakers a session; returns its manifest."""
    rows = []
    for speaker in range(speakers):
        for emotion in emotions:
            pitch, level = VOICES[emotion]
            for take in range(takes):
                name = f"s{speaker}/{emotion}_{take}.wav"
                wave = utterance(
                    0.45 + 0.05 * take, pitch * (1 + 0.02 * speaker), level, hash_of(speaker, emotion, take)
                )
                write(folder / name, wave)
                side = "test" if speaker == 0 else "dev" if speaker == 1 else "train"
                rows.append((name, emotion, f"s{speaker}", f"ses{speaker // 2}", f"t{take}", side))
    path = folder / "clips.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "emotion", "speaker", "session", "sentence", "split"))
        writer.writerows(rows)
    return path


def hash_of(speaker: int, emotion: str, take: int) -> int:
    """Return a seed of the clip's own, so that no two clips are the same audio."""
    return speaker * 1000 + sorted(VOICES).index(emotion) * 100 + take
