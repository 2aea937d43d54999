"""Support vector machines on one row of numbers a clip: the classical way, tuned on development rows."""

from __future__ import annotations

from subtone.training.svm.folds import SvmChoice, SvmRun, train_svm
from subtone.training.svm.machine import FittedSvm
from subtone.training.svm.options import SvmOptions

__all__ = ["FittedSvm", "SvmChoice", "SvmOptions", "SvmRun", "train_svm"]
