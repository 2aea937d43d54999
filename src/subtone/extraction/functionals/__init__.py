"""Functionals by openSMILE: one row of hand-made acoustic numbers a clip, computed once and kept by content."""

from __future__ import annotations

from subtone.extraction.functionals.extract import Functionals, functionals
from subtone.extraction.functionals.smile import FunctionalSet, Smile

__all__ = ["FunctionalSet", "Functionals", "Smile", "functionals"]
