"""Work for the cells of tests: at the top of a module, so that other processes find it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from subtone.errors import UsageError
from subtone.studies.cells import Earlier, Outcome


def count(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Leave a trace of having been called, and return what was given."""
    with Path(given["trace"]).open("a") as file:
        file.write(f"{given['value']}\n")
    return Outcome({"value": given["value"], "process": os.getpid()}, {"row": np.arange(given["value"])})


def total(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Add up earlier cells."""
    return Outcome({"value": sum(earlier[name].values["value"] for name in given["of"])})


def fail(_given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Fail as a user's mistake does."""
    raise UsageError("the clip is silent; leave it out")


def crash(_given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Fail as nobody foresaw."""
    raise ZeroDivisionError("division by zero")


def linger(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Take a while, and tell when it began."""
    Path(given["begun"]).touch()
    time.sleep(given["seconds"])
    return Outcome({})
