"""What every detector offers: it scores fixed frames, and `rules` applies thresholds and lengths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from subtone.audio.load import regroup
from subtone.errors import AudioError
from subtone.speech.rules import Lengths, segments_from_scores
from subtone.speech.segments import SpeechSegments

Wave: TypeAlias = npt.NDArray[np.float32]


class Detector(ABC):
    """A voice activity detector with its options; it holds no state between calls, so many may share one.

    Attributes
    ----------
    name
        The name that `subtone.speech.get_detector` knows it by.
    options
        Frozen dataclass of thresholds and lengths.
    """

    name: ClassVar[str]
    options: Lengths

    @property
    @abstractmethod
    def frame(self) -> int:
        """Samples a score."""

    @property
    def piece(self) -> int:
        """Frames handed to `_scores` at a time: bounds the memory, and is part of no answer."""
        return 512

    @abstractmethod
    def _scores(self, pieces: Iterable[Wave]) -> Iterator[npt.NDArray[np.floating]]:
        """Yield the scores ``(frames,)`` of each piece, which is whole frames but for the wave's last one."""

    @abstractmethod
    def _thresholds(self, scores: npt.NDArray[np.floating]) -> tuple[float, float]:
        """Return the score at which speech begins and the score below which it ends."""

    def detect(self, wave: Wave) -> SpeechSegments:
        """Find the speech in a wave.

        Parameters
        ----------
        wave
            ``(samples,)`` float in [-1, 1], 16 kHz mono. May be empty, or of one sample.

        Returns
        -------
        Segments in samples; none for silence.

        Raises
        ------
        AudioError
            When the wave is not one-dimensional, or holds NaN or infinite samples.
        """
        return self.detect_blocks([wave])

    def detect_blocks(self, blocks: Iterable[Wave]) -> SpeechSegments:
        """Find the speech in a long recording given in blocks, e.g. by `subtone.audio.read_blocks`.

        Equals `detect` on the joined blocks exactly, wherever they are cut: blocks are regrouped into fixed
        pieces, state is carried from piece to piece, and thresholds and lengths see all scores at once.
        Memory: one block, and one score a frame.
        """
        counted = _Counted(blocks)
        scores = [np.zeros(0, dtype=np.float32), *self._scores(regroup(counted, self.frame * self.piece))]
        joined = np.concatenate(scores)  # (frames,)
        if not len(joined):
            return SpeechSegments.none(counted.samples)
        enter, leave = self._thresholds(joined)
        return segments_from_scores(
            joined,
            frame=self.frame,
            num_samples=counted.samples,
            enter=enter,
            leave=leave,
            lengths=self.options,
        )

    def detect_many(self, waves: Sequence[Wave]) -> list[SpeechSegments]:
        """Find the speech in each of several waves; the same as one by one."""
        return [self.detect(wave) for wave in waves]

    def config(self) -> dict[str, Any]:
        """Return name and options as JSON values; `subtone.speech.load_detector` reads them back."""
        return {"name": self.name, **asdict(self.options)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options})"


class _Counted:
    """Blocks, checked and counted on the way through."""

    def __init__(self, blocks: Iterable[Wave]) -> None:
        self._blocks = blocks
        self.samples = 0

    def __iter__(self) -> Generator[Wave, None, None]:
        for block in self._blocks:
            wave = check_wave(block, first=self.samples)
            self.samples += len(wave)
            yield wave


def check_wave(wave: npt.ArrayLike, *, first: int = 0) -> Wave:
    """Return a wave as float32, or raise `AudioError` where it is no wave."""
    given = np.asarray(wave)
    if given.ndim != 1:
        raise AudioError(f"a wave must be (samples,), mono at 16 kHz, got shape {given.shape}")
    if given.dtype.kind != "f":
        raise AudioError(
            f"a wave must be float in [-1, 1], got {given.dtype}; load it with subtone.load_audio"
        )
    with np.errstate(over="ignore"):
        checked: Wave = given.astype(np.float32, copy=False)
    finite = np.isfinite(checked)
    if not finite.all():
        raise AudioError(
            f"the wave holds NaN or infinite samples, first at sample {first + int(np.argmin(finite))}"
        )
    return checked


def in_frames(piece: Wave, frame: int) -> Wave:
    """Cut a piece into frames, the last one filled with zeros: ``(frames, frame)``."""
    missing = -len(piece) % frame
    if missing:
        piece = np.concatenate([piece, np.zeros(missing, dtype=np.float32)])
    return piece.reshape(-1, frame)  # (frames, frame)
