"""Whose folder it is: a run's settings beside its files, so that another run does not go on with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from subtone.errors import TrainingError
from subtone.files import sweep_partial, write_whole
from subtone.training.end_to_end.launching import together

RUN = "run.json"
SCHEMA = 1


def claim(
    fabric: Fabric,
    folder: Path,
    about: Mapping[str, Any],
    *,
    whole: Path | None = None,
    way_out: str = "give --store another folder",
) -> None:
    """Make a folder that of a run, or check that it is; all processes do so together.

    Parameters
    ----------
    fabric
        Launched.
    folder
        Made if new.
    about
        What decides the run's result: JSON.
    whole
        The folder that a user would delete to begin anew; ``folder`` when None.
    way_out
        What else a user can do, for the error.

    Raises
    ------
    TrainingError
        If the folder is another run's, or cannot be written; every difference is named.
    """
    wanted = json.loads(json.dumps({"schema": SCHEMA, **about}))
    path = folder / RUN
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differs = _differences(found, wanted)
        except (OSError, ValueError, AttributeError) as error:
            raise TrainingError(f"{path}: is damaged ({error}); delete its folder") from error
        if differs:
            raise TrainingError(
                f"{folder}: holds a run with another {', another '.join(differs)}; {way_out}, or delete "
                f"{whole or folder} to begin anew"
            )
    fabric.barrier()  # all have looked
    together(fabric, lambda: _write(folder, wanted))


def _write(folder: Path, about: Mapping[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partial(folder)
        if not (folder / RUN).exists():
            write_whole(folder / RUN, json.dumps(about, indent=2).encode())
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot be written: {error.strerror or error}; make room, or name another folder"
        ) from error


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name what differs, with both values where they are short.

    >>> _differences({"settings": {"epochs": 3}, "clips": "a"}, {"settings": {"epochs": 4}, "clips": "a"})
    ['settings.epochs (3, now 4)']
    """
    told: list[str] = []
    for name in {**found, **wanted}:
        before, now = found.get(name), wanted.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            told += _differences(before, now, f"{prefix}{name}.")
        elif before != now:
            values = f" ({before}, now {now})" if len(f"{before}{now}") < 60 else ""
            told.append(f"{prefix}{name}{values}")
    return told
