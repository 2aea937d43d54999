"""Evaluation: metrics with their uncertainty, comparisons, calibration, plots, result folders."""

from __future__ import annotations

from subtone.evaluation.answers import soft_vote
from subtone.evaluation.comparison import Comparison, compare
from subtone.evaluation.scoring import Evaluation, FoldScore, evaluate

__all__ = ["Comparison", "Evaluation", "FoldScore", "compare", "evaluate", "soft_vote"]
