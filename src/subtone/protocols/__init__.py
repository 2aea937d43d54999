"""Protocols: who is trained on and who is tested, named by an object that is printed with every score."""

from __future__ import annotations

from subtone.protocols.build import build
from subtone.protocols.clips import speaker_ids
from subtone.protocols.leaks import check_leaks
from subtone.protocols.protocol import DevRule, Fold, FoldsKind, LeakKind, Protocol, Split

__all__ = [
    "DevRule",
    "Fold",
    "FoldsKind",
    "LeakKind",
    "Protocol",
    "Split",
    "build",
    "check_leaks",
    "speaker_ids",
]
