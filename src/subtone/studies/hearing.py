"""How the clips of a corpus are heard in a study: the cells of its conditions, and of the sounds around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from subtone import upstreams
from subtone.acoustics.sounds import load_sounds
from subtone.errors import UsageError
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.conditions import Condition
from subtone.studies.encode import encode
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.upstreams import Upstream

SOUNDS = "sounds"
_MOST_BYTES = 8e9


def sounds_cell(folder: str | Path, seed: int, limit: int = 400) -> Cell:
    """Return the cell of the non-speech human sounds of a study."""
    return Cell(SOUNDS, read_sounds, {"folder": str(folder), "seed": seed, "limit": limit})


def read_sounds(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Read, trim and join the recordings of sounds."""
    found = load_sounds(given["folder"], given["limit"], given["seed"])
    starts = np.concatenate([[0], np.cumsum([len(wave) for wave in found.waves])]).astype(np.int64)
    values = {"kinds": list(found.kinds), "left_out": len(found.left_out)}
    return Outcome(values, {"samples": np.concatenate(found.waves), "starts": starts})


@lru_cache(maxsize=2)
def loaded(upstream: str) -> Upstream:
    """Return an upstream by name or folder, as it was when it was first asked for."""
    return upstreams.load(upstream)


def check_memory(upstream: str, seconds: float) -> None:
    """Refuse to keep the frames of so much audio where they would not fit: networks read all of them at once.

    Raises
    ------
    UsageError
        If they would take more than 8 GB.
    """
    known = loaded(upstream)
    frames = seconds * known.grid.sample_rate_hz / known.grid.hop
    size = 2 * frames * known.num_layers * known.dim
    if size > _MOST_BYTES:
        raise UsageError(
            f"the frames of {seconds / 3600:.1f} h of audio take {size / 1e9:.0f} GB, which networks read at once; "
            "leave systems on frames away (--set networks=false) or take fewer clips (--set every.CORPUS=N)"
        )


@dataclass(frozen=True)
class Hearing:
    """How the clips of a corpus are heard, whatever the condition.

    Parameters
    ----------
    material
        The corpus.
    upstream
        Name or folder.
    options
        Arithmetic and seed.
    statistics
        What is pooled.
    detectors
        Name → configuration, as :meth:`subtone.speech.Detector.config` gives it.
    sounds
        Whether there is a cell of sounds.
    cut_s
        Shorten the silences of each clip to so much before the upstream hears it, as the one detector finds them; None
        leaves them.
    """

    material: Material
    upstream: str
    options: StudyOptions
    statistics: tuple[str, ...]
    detectors: Mapping[str, Mapping[str, Any]]
    sounds: bool = False
    cut_s: float | None = None

    def cell(
        self,
        what: Condition,
        *,
        judges: Sequence[str] = (),
        keep_frames: bool = False,
        prefix: str = "heard",
        rehearsal: bool = False,
    ) -> Cell:
        """Return the cell of one condition.

        Parameters
        ----------
        what
            The condition.
        judges
            Cells of networks, which score the test clips of their folds on the way.
        keep_frames
            Keep all frames in half precision, for networks to learn from.
        prefix
            Of the cell's name, where one condition is heard in several ways.
        rehearsal
            Take sounds and draws that no other condition takes, for training.
        """
        given = {
            "upstream": self.upstream,
            "fingerprint": loaded(self.upstream).fingerprint(),
            "backend": self.options.backend,
            "precision": self.options.precision,
            "waves": self.material.waves.name,
            "condition": what.to_dict(),
            "statistics": list(self.statistics),
            "detectors": {name: dict(config) for name, config in self.detectors.items()},
            "sounds": SOUNDS if self.sounds else None,
            "cut_s": self.cut_s,
            "judges": list(judges),
            "keep_frames": keep_frames,
            "rehearsal": rehearsal,
            "seed": self.options.seed,
        }
        needs = (self.material.waves.name, *((SOUNDS,) if self.sounds else ()), *judges)
        name = f"{self.material.name}/{prefix}/{what.label}"
        return Cell(name, encode, given, self.material.seconds * what.length, needs)
