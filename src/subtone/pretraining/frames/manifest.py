"""The one file at the top of a frame corpus: it says how the frames were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from subtone.errors import StoreError
from subtone.extraction.fingerprint import differences
from subtone.files import write_whole

MANIFEST = "frames.json"
SCHEMA = 1
#: Longest and shortest utterance in frames of 10 ms.
LONGEST_FRAMES = 2000
SHORTEST_FRAMES = 20
_LIBRARIES = ("numpy", "soxr", "torch")


def made_by(num_mel: int, intensity: str | None) -> dict[str, Any]:
    """Return all that frames depend on beside the audio.

    Parameters
    ----------
    num_mel
        Mel bands.
    intensity
        Fingerprint of the model that scores frames; None for none.
    """
    return {
        "schema": SCHEMA,
        "num_mel": num_mel,
        "longest_frames": LONGEST_FRAMES,
        "shortest_frames": SHORTEST_FRAMES,
        "intensity": intensity,
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return how the frames in a folder were made; None where there is no corpus.

    Raises
    ------
    StoreError
        If it is damaged, or was written by a Subtone whose frames this one does not read.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); name another folder") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise StoreError(
            f"{path}: is not of schema {SCHEMA}, which this version of Subtone reads; name another folder"
        )
    return found


def claim(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Make a folder the corpus of frames made so, or check that it is one. Only for one who has the folder alone.

    Frames that carry intensities serve those who want none; to add to them takes the model, however.

    Raises
    ------
    StoreError
        If it holds frames made otherwise (the message says in what), or something else.
    """
    found = read_manifest(folder)
    if found is None:
        if any(path.name[0] != "." for path in folder.iterdir()):
            raise StoreError(f"{folder}: holds other files and no {MANIFEST}; name an empty folder")
        write_whole(folder / MANIFEST, json.dumps(wanted, indent=2, sort_keys=True).encode())
        return
    needed = wanted if wanted["intensity"] is not None else {**wanted, "intensity": found["intensity"]}
    differs = differences(found, needed)
    if differs:
        raise StoreError(
            f"{folder}: was made with another {', another '.join(differs)}; its frames would not fit. Name another "
            "folder for the frames, or delete this one"
        )
