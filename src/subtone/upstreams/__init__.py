"""Upstreams: a waveform becomes frames, layers × frames × dim, on a declared grid.

`load` opens filter banks, local folders and hub models; an `Upstream` then has ``extract`` for features and
``encode`` for training. Knows nothing of emotions.
"""

from __future__ import annotations

from subtone.errors import UpstreamError
from subtone.upstreams.base import Encoded, FrameGrid, Upstream, Wave
from subtone.upstreams.filterbank import FilterBank, FilterBankOptions
from subtone.upstreams.loading import load, load_from_config
from subtone.upstreams.registry import register
from subtone.upstreams.surveys import Survey

__all__ = [
    "Encoded",
    "FilterBank",
    "FilterBankOptions",
    "FrameGrid",
    "Survey",
    "Upstream",
    "UpstreamError",
    "Wave",
    "load",
    "load_from_config",
    "register",
]
