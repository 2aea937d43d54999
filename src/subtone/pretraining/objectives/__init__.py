"""Objectives of pre-training: what an encoder learns from speech alone."""

from subtone.pretraining.objectives.base import Batch, Losses, Objective, ObjectiveError
from subtone.pretraining.objectives.build import ARCHITECTURES, Architecture, build_objective
from subtone.pretraining.objectives.mockingjay import MockingjayObjective
from subtone.pretraining.objectives.npc import NpcObjective

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Batch",
    "Losses",
    "MockingjayObjective",
    "NpcObjective",
    "Objective",
    "ObjectiveError",
    "build_objective",
]
