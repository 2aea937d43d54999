"""Clips for a benchmark: cut from recordings, every one of another length, as in a real corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from subtone.audio import SAMPLE_RATE_HZ, expand, load_audio

SHORTEST_S, LONGEST_S = 2.0, 12.0


@dataclass(frozen=True)
class ClipSet:
    """Some clips, each as samples for those who take arrays and as a FLAC file for those who decode."""

    waves: tuple[str, ...]
    files: tuple[str, ...]
    samples: tuple[int, ...]

    def first(self, count: int) -> ClipSet:
        """Return the first few."""
        return ClipSet(self.waves[:count], self.files[:count], self.samples[:count])

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all."""
        return sum(self.samples) / SAMPLE_RATE_HZ


def material(folder: Path) -> npt.NDArray[np.float32]:
    """Return the first quarter of an hour, at most, of the recordings in a folder, end to end."""
    waves: list[npt.NDArray[np.float32]] = []
    for path in expand(folder):
        waves.append(load_audio(path))
        if sum(map(len, waves)) > 900 * SAMPLE_RATE_HZ:
            break
    return np.concatenate(waves)


def lengths(count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw lengths in samples, log-uniform in 2 to 12 s: one from each of ``count`` strata, in random order.

    Strata keep the sum nearly the same from set to set; within them all is random, so that lengths do not come again.
    """
    quantiles = (np.arange(count) + rng.random(count)) / count
    drawn = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** quantiles * SAMPLE_RATE_HZ
    return rng.permutation(drawn.astype(np.int64))


def make_set(
    source: npt.NDArray[np.float32], folder: Path, sizes: tuple[int, ...], rng: np.random.Generator
) -> ClipSet:
    """Cut clips, in groups of these sizes that are each spread over all lengths, and write them into a folder."""
    folder.mkdir(parents=True)
    samples = np.concatenate([lengths(size, rng) for size in sizes])
    waves, files = [], []
    for number, length in enumerate(samples.tolist()):
        at = int(rng.integers(len(source)))
        wave = np.take(source, np.arange(at, at + length), mode="wrap")
        wave = 0.9 * rng.uniform(0.3, 1) * wave / (np.abs(wave).max() + 1e-9)
        wave += 1e-3 * rng.standard_normal(length)  # no recording is digitally silent
        pcm = np.round(wave * 32767).astype(np.int16)  # (samples,)
        waves.append(str(folder / f"{number}.npy"))
        files.append(str(folder / f"{number}.flac"))
        np.save(waves[-1], pcm.astype(np.float32) / 32768)  # just what the decoder gives
        soundfile.write(files[-1], pcm, SAMPLE_RATE_HZ)
    return ClipSet(tuple(waves), tuple(files), tuple(samples.tolist()))
