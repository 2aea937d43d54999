"""Scores that are ready already: brought to other frames, and read from a table."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subtone.errors import UsageError

Curve = npt.NDArray[np.float32]


def align(intensity: npt.ArrayLike, num_frames: int) -> Curve:
    """Stretch a curve of scores linearly over a clip's frames.

    First score to first frame, last to last, linear between: for scores of another hop over the same clip.

    Parameters
    ----------
    intensity
        ``(scores,)``, at least one.
    num_frames
        Frames of the clip, at least 1.

    Returns
    -------
    ndarray
        ``(num_frames,)`` float32.

    Raises
    ------
    UsageError
        If there is no score, one is not finite, or no frame is wanted.

    Source
    ------
    Liu & Ma 2024 align StrengthNet's scores (16 ms) to the frames of the upstream (10 ms) so; their code pads or cuts.

    Examples
    --------
    >>> align([0.0, 1.0], 5)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    values = np.asarray(intensity, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UsageError(
            f"intensity must be one or more finite scores (scores,), got shape {values.shape}"
            + ("" if np.isfinite(values).all() else " with NaN or infinity")
        )
    if num_frames < 1:
        raise UsageError(f"num_frames must be 1 or more, got {num_frames}")
    at = np.linspace(0, len(values) - 1, num_frames) if num_frames > 1 else np.array([(len(values) - 1) / 2])
    curve: Curve = np.interp(at, np.arange(len(values)), values).astype(np.float32)
    return curve


def read_scores(path: str | os.PathLike[str]) -> dict[str, Curve]:
    """Read frame scores from a table, as the code released with EMS has them.

    Parameters
    ----------
    path
        CSV without a header: a clip's name, then its scores, one a column; rows may differ in length.

    Returns
    -------
    dict
        File stem → ``(scores,)`` float32. See `align` for bringing them to frames.

    Raises
    ------
    UsageError
        If the file cannot be read, a clip comes twice or has no score, or a score is no finite number.
    """
    path = Path(path)
    found: dict[str, Curve] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            for number, row in enumerate(csv.reader(handle), 1):
                cells = [cell.strip() for cell in row]
                while cells and not cells[-1]:  # a table of rows padded to one length
                    cells.pop()
                if not cells:
                    continue
                name, where = Path(cells[0]).stem, f"{path}: row {number}: clip {cells[0]!r}"
                if name in found:
                    raise UsageError(f"{where} comes a second time; keep one of the rows")
                scores = [_number(cell, where) for cell in cells[1:]]
                if not scores:
                    raise UsageError(f"{where} has no score; expected its name and then one score a frame")
                found[name] = np.array(scores, np.float32)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV: {error}") from error
    return found


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: {cell!r} is no finite number; expected one score a frame")
    return value
