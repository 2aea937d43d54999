"""Evaluation: metrics with their uncertainty, comparisons, calibration, plots, result folders."""

from __future__ import annotations

from subtone.evaluation.answers import soft_vote
from subtone.evaluation.comparison import Comparison, compare, corrected
from subtone.evaluation.correction import holm
from subtone.evaluation.results import describe_environment, read_metrics, refuse_if_taken, write_results
from subtone.evaluation.scoring import Evaluation, FoldScore, evaluate

__all__ = [
    "Comparison",
    "Evaluation",
    "FoldScore",
    "compare",
    "corrected",
    "describe_environment",
    "evaluate",
    "holm",
    "read_metrics",
    "refuse_if_taken",
    "soft_vote",
    "write_results",
]
