"""Whose folder it is, beside a result that may be replaced."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from subtone.errors import TrainingError
from subtone.training.end_to_end.folder import RUN, claim


def claim_anew(
    fabric: Fabric, folder: Path, about: Mapping[str, Any], *, whole: Path, overwrite: bool
) -> None:
    """Make a folder that of a run beside its result, as :func:`~subtone.training.end_to_end.folder.claim` does.

    Parameters
    ----------
    fabric
        Of one process.
    folder, about, whole
        See there.
    overwrite
        Whether a run of other settings is deleted, as the result is that it belongs to.

    Raises
    ------
    TrainingError
        If the folder is another run's and may not be replaced, or cannot be written.
    """
    way_out = "pass --overwrite to replace it, give the result another folder (--out)"
    try:
        claim(fabric, folder, about, whole=whole, way_out=way_out)
    except TrainingError:
        if not (overwrite and (folder / RUN).exists()):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        claim(fabric, folder, about, whole=whole, way_out=way_out)
