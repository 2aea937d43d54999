"""Clips whose intensity a corpus tells: filter banks, speech, level and speaker, held in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from subtone.audio import load_audio
from subtone.errors import AudioError, CorpusError
from subtone.pretraining.intensity.levels import levels_of
from subtone.pretraining.intensity.model import audible, banks_of
from subtone.speech import get_detector
from subtone.upstreams.filterbank import FilterBank

# BAVED's speakers 46 and 53 are one person, each recording there under both numbers.
_TWINS = {("baved", "53")}


@dataclass(frozen=True, eq=False)
class Examples:
    """Clips held in memory, filter banks in half precision: 16 kB a second.

    Attributes
    ----------
    banks
        Each ``(frames, 80)`` float16, raw log-mel.
    speech
        Each ``(frames,)`` bool, never all False.
    levels
        ``(clips,)`` in [0, 1]; NaN where the corpus tells none.
    speakers
        ``(clips,)`` ``corpus/speaker``.
    corpora
        ``(clips,)`` corpus.
    emotions
        ``(clips,)`` emotion, ``""`` where the corpus tells none.
    sentences
        ``(clips,)`` what is said, ``""`` where the corpus tells none.
    failed
        ``(file, message)`` of clips that could not be read.
    """

    banks: tuple[Tensor, ...]
    speech: tuple[Tensor, ...]
    levels: npt.NDArray[np.float64]
    speakers: npt.NDArray[np.str_]
    corpora: npt.NDArray[np.str_]
    emotions: npt.NDArray[np.str_]
    sentences: npt.NDArray[np.str_]
    failed: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.banks)

    def select(self, rows: npt.ArrayLike) -> Examples:
        """Return some of the clips, by a bool mask or by positions."""
        wanted = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            banks=tuple(self.banks[row] for row in wanted),
            speech=tuple(self.speech[row] for row in wanted),
            **{
                name: getattr(self, name)[wanted]
                for name in ("levels", "speakers", "corpora", "emotions", "sentences")
            },
        )


def read_examples(table: pd.DataFrame, on_progress: Callable[[int, int], None] | None = None) -> Examples:
    """Read clips of corpora, find their speech (Silero), and keep filter banks.

    A clip in which no speech is found counts as speech where it is audible. A clip that cannot be read is named in
    ``failed`` and left out; so is one whose speaker is not known, and BAVED's speaker 53, who is its speaker 46.

    Parameters
    ----------
    table
        As corpus readers give it.
    on_progress
        Called with clips done and in all.

    Raises
    ------
    CorpusError
        If no clip is left.
    """
    detector, grid = get_detector(), FilterBank().grid
    levels = levels_of(table)
    banks: list[Tensor] = []
    speech: list[Tensor] = []
    kept: list[int] = []
    failed: list[tuple[str, str]] = []
    names = {
        name: ["" if pd.isna(value) else str(value) for value in table[name].to_numpy(object)]
        for name in ("corpus", "speaker", "emotion", "sentence")
    }
    for row, (file, start, end) in enumerate(table.index):
        if on_progress:
            on_progress(row, len(table))
        if not names["speaker"][row] or (names["corpus"][row], names["speaker"][row]) in _TWINS:
            continue
        start_s, end_s = pd.Timedelta(start).total_seconds(), pd.Timedelta(end).total_seconds()
        try:
            wave = load_audio(Path(file), start_s=start_s, end_s=None if pd.isna(end) else end_s)
        except AudioError as error:
            failed.append((str(file), str(error)))
            continue
        found = banks_of(wave)  # (frames, 80)
        heard = detector.detect(wave).project(grid, len(found))
        banks.append(found.half())
        speech.append(torch.from_numpy(heard if heard.any() else audible(found)))
        kept.append(row)
    if not kept:
        raise CorpusError(
            f"no clip with a known speaker could be read ({len(failed)} failed); check the folder"
        )
    chosen = {name: np.array(_taken(values, kept)) for name, values in names.items()}
    return Examples(
        banks=tuple(banks),
        speech=tuple(speech),
        levels=levels[kept],
        speakers=np.char.add(np.char.add(chosen["corpus"], "/"), chosen["speaker"]),
        corpora=chosen["corpus"],
        emotions=chosen["emotion"],
        sentences=chosen["sentence"],
        failed=tuple(failed),
    )


def _taken(values: Sequence[str], rows: Sequence[int]) -> list[str]:
    return [values[row] for row in rows]
