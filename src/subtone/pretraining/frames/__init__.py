"""Recordings as log-mel frames on disk, decoded once and read by trainers many times."""

from __future__ import annotations

from subtone.pretraining.frames.corpus import FrameCorpus
from subtone.pretraining.frames.prepare import prepare
from subtone.pretraining.frames.sampler import Piece, Sampler

__all__ = ["FrameCorpus", "Piece", "Sampler", "prepare"]
