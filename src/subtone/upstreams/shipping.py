"""The upstreams that ship inside the package, found by name; no network is asked for them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

ROOT = Path(str(files("subtone"))) / "upstreams" / "shipped"


@dataclass(frozen=True)
class ShippedUpstream:
    """An upstream inside the package: what can be said of it without loading it."""

    name: str
    folder: Path
    size_mb: float
    card: Path


def shipped() -> list[ShippedUpstream]:
    """Return the upstreams inside the package.

    Examples
    --------
    >>> all((one.folder / "config.json").is_file() for one in shipped())
    True
    """
    found = []
    for folder in sorted(ROOT.iterdir()) if ROOT.is_dir() else []:
        if (folder / "config.json").is_file():
            size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            found.append(ShippedUpstream(folder.name, folder, round(size / 1e6, 1), folder / "card.md"))
    return found


def folder_of(name: str) -> Path | None:
    """Return where a shipped upstream lies, or None when none is called so."""
    return next((one.folder for one in shipped() if one.name == name), None)
