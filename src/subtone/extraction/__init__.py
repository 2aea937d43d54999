"""Extraction: recordings become pooled features, in memory or in a store that a later run takes up again."""

from __future__ import annotations

from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.engine import Extraction, StoreSummary, extract, extract_to_store
from subtone.extraction.features import PooledFeatures
from subtone.extraction.maps import FeatureMaps
from subtone.extraction.options import BackendName, ExtractionOptions, Precision
from subtone.extraction.pooled import pool_wave
from subtone.extraction.progress import OnProgress, Progress
from subtone.extraction.readers import Failure
from subtone.extraction.store import FeatureStore

__all__ = [
    "BackendName",
    "Clip",
    "Extraction",
    "ExtractionOptions",
    "Failure",
    "FeatureMaps",
    "FeatureStore",
    "OnProgress",
    "PooledFeatures",
    "Precision",
    "Progress",
    "StoreSummary",
    "clips_of",
    "extract",
    "extract_to_store",
    "pool_wave",
]
