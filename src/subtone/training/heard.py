"""Whether an upstream has been taught the emotions of the speakers that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd


class Taught(Protocol):
    """What has a name and knows what it was taught on: an upstream."""

    @property
    def name(self) -> str:
        """What it was loaded by."""

    @property
    def taught_on(self) -> tuple[str, ...]:
        """Corpora that it was trained on with their emotions."""


def taught_on(loaded: Sequence[Taught], table: pd.DataFrame) -> str:
    """Return what a protocol's line must say of upstreams that have heard the corpora with their labels.

    Parameters
    ----------
    loaded
        The upstreams.
    table
        Of the clips.

    Returns
    -------
    str
        Empty when there is nothing to say.
    """
    there = {str(name) for name in table["corpus"].dropna().unique()}
    told = ""
    for one in loaded:
        known = sorted(there & set(one.taught_on))
        if known:
            told += f"; {one.name} was taught on {', '.join(known)} with emotions, TEST SPEAKERS INCLUDED"
        elif one.taught_on:  # under other names, the same recordings may be among them
            told += f"; {one.name} has been taught emotions on {', '.join(one.taught_on)}"
    return told
