"""Decoded clips and tasks that train in a second: what the tests of end-to-end training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from subtone import corpora
from subtone.extraction import clips_of
from subtone.speech import get_detector
from subtone.training.end_to_end.clips import DecodedClips, decode
from subtone.training.end_to_end.finetune import FoldClips
from subtone.training.end_to_end.options import FinetuneOptions, FitOptions
from tests import synthetic

CLASSES = tuple(sorted(synthetic.VOICES))


def decoded(folder: Path, *, speakers: int = 4, takes: int = 2) -> tuple[DecodedClips, np.ndarray]:
    """Return clips of tones of a few speakers, and the class of each."""
    manifest = synthetic.manifest(folder / "corpus", speakers=speakers, takes=takes)
    table = corpora.read("manifest", manifest)
    clips = decode(clips_of(table), folder / "work", get_detector("energy"))
    return clips, np.array([CLASSES.index(str(emotion)) for emotion in table["emotion"]], np.int64)


def fold(folder: Path, **sizes: int) -> FoldClips:
    """Return a fold that tests the last quarter of the clips and develops on the quarter before."""
    clips, targets = decoded(folder, **sizes)
    rows, quarter = np.arange(len(clips)), len(clips) // 4
    return FoldClips(clips, targets, rows[: -2 * quarter], rows[-2 * quarter : -quarter], len(CLASSES))


def options(*, fit: dict[str, Any] | None = None, **changes: Any) -> FinetuneOptions:
    """Return options under which a tiny upstream trains in a second."""
    small = {"epochs": 3, "average": 2, "batch_s": 1.6, "dropout": 0.0, **(fit or {})}
    return FinetuneOptions(
        **{"fit": FitOptions(**small), "crop_s": None, "upstream_learning_rate": 1e-3, **changes}
    )
