"""The command line: thin commands over the rooms below, one small file each.

Nothing heavy is imported until a command needs it, so that ``subtone --help`` answers at once. Results go to stdout,
everything else to stderr.
"""

from __future__ import annotations

from subtone.cli.entry import main

__all__ = ["main"]
