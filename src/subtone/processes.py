"""Which one this is, of several processes that do the same work together."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Whether this process is the one to speak and to write; torchrun and Lightning Fabric tell by the environment."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def several() -> bool:
    """Whether a launcher has started more than this process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
