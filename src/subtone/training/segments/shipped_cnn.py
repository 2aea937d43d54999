"""The CNN for pictures that ships inside the package: what can be said of it without loading it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SHIPPED = "subtone-pictures"
"""The CNN that ships with Subtone, for where no other weights can be had."""
FOLDER = Path(str(files("subtone"))) / "training" / "segments" / "shipped" / SHIPPED


def card() -> Path:
    """Return the file that tells its data, licences, figures and limits."""
    return FOLDER / "card.md"


def size_mb() -> float:
    """Return what it weighs on disk, in millions of bytes."""
    return round(sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) / 1e6, 1)
