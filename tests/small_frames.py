"""A frame corpus that is made in a second, with an intensity that anybody can compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from subtone.pretraining.frames import FrameCorpus, prepare
from tests import synthetic


class Loudness:
    """An intensity that a reader of this file can compute."""

    def __init__(self, name: str = "loudness") -> None:
        self.name = name

    def from_banks(self, log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The mean over bands, squeezed into [0, 1]."""
        return (log_mel.mean(axis=1) / 30).clip(0, 1).astype(np.float32)

    def fingerprint(self) -> str:
        """Its name."""
        return self.name


def corpus(folder: Path, *, clips: int = 14) -> FrameCorpus:
    """Prepare tones of half a second to a second and a half."""
    files = [
        synthetic.write(
            folder / f"{i:02}.wav", synthetic.utterance(0.5 + 0.2 * (i % 6), 100 + 40 * i, seed=i)
        )
        for i in range(clips)
    ]
    return prepare(files, folder / "frames", intensity=Loudness())
