"""The one file at the top of a store: it says how the features were made, before any of them is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subtone.errors import StoreError
from subtone.extraction.fingerprint import ABOUT, SCHEMA, differences
from subtone.extraction.scratch import Scratch, fsync_folder

MANIFEST = "store.json"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return how the features in a folder were made; None where there is no store yet.

    Raises
    ------
    StoreError
        If it is damaged, or was written by a Subtone whose stores this one does not read.
    """
    path = folder / MANIFEST
    try:
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder}: is a file; a store is a folder, name another one")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be opened: {error.strerror or error}") from error
    except ValueError as error:
        raise StoreError(f"{path}: is damaged ({error}); extract into another folder") from error
    if not isinstance(found, dict) or not all(
        isinstance(found.get(k) or {}, dict) for k in (ABOUT, "backend")
    ):
        raise StoreError(f"{path}: is damaged (no JSON object); extract into another folder")
    schema = found.get("schema")
    if schema != SCHEMA:
        way = (
            "install a newer Subtone, or name another folder"
            if isinstance(schema, int) and schema > SCHEMA
            else "its features have to be extracted again: name another folder, or delete this one"
        )
        raise StoreError(
            f"{folder}: holds a store of schema {schema}, this version of Subtone has {SCHEMA}; {way}"
        )
    return found


def claim(folder: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Make a folder the store of features made so, or check that it is one; return what its manifest says.

    Raises
    ------
    StoreError
        If it holds features made otherwise (the message says in what), something else, or cannot be written.
    """
    found = read_manifest(folder)
    if found is None:
        _create(folder, made_by)
        # Read back: another run may have been first, with other settings.
        found = read_manifest(folder) or {}
    check_fit(folder, found, made_by)
    return found


def check_fit(folder: Path, found: Mapping[str, Any], made_by: Mapping[str, Any]) -> None:
    """Check that features made so go with those that a store holds.

    Raises
    ------
    StoreError
        If not; it says in what they differ.
    """
    differs = differences(found, made_by)
    if differs:
        raise StoreError(
            f"{folder}: was made with another {', another '.join(differs)}; its features would not fit. Name another "
            "--store folder, or delete this one"
        )


def _is_ours(path: Path) -> bool:
    """Whether something in a folder that is no store yet may stay there: hidden, or functionals of the same clips."""
    return path.name[0] == "." or path.name.startswith("functionals-")


def _create(folder: Path, made_by: Mapping[str, Any]) -> None:
    text = json.dumps(made_by, indent=2, sort_keys=True)
    try:
        if folder.is_dir() and not all(_is_ours(path) for path in folder.iterdir()):
            if (folder / MANIFEST).exists():
                return  # another run has just made it
            raise StoreError(f"{folder}: holds other files and no {MANIFEST}; name an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be opened: {error.strerror or error}") from error
    try:
        with Scratch(folder) as scratch:
            with (scratch / MANIFEST).open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(scratch / MANIFEST, folder / MANIFEST)  # never takes the place of one that is there
            except FileExistsError:
                return
            except OSError:  # a file system without hard links
                (scratch / MANIFEST).rename(folder / MANIFEST)
            fsync_folder(folder)
    except OSError as error:
        raise StoreError(
            f"{folder / MANIFEST}: could not be written: {error}; make room, or name another folder"
        ) from error
