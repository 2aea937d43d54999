"""Aggregation: frames and masks become one vector a clip, by plain pooling or by something learned.

Beside the poolings stands ECAPA-TDNN, whose batch norms :func:`settle` moves once a training step. Knows
nothing of emotions; scores are a head's.
"""

from __future__ import annotations

from subtone.aggregation.alignment import align
from subtone.aggregation.batch_norm import StepBatchNorm, settle
from subtone.aggregation.build import Aggregator, AggregatorOptions, build_aggregator
from subtone.aggregation.ecapa import Ecapa

__all__ = ["Aggregator", "AggregatorOptions", "Ecapa", "StepBatchNorm", "align", "build_aggregator", "settle"]
