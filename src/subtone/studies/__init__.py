"""Studies: questions that many runs answer together, each with one command.

A study is cut into cells that are computed in processes of their own and kept, so that it resumes; what it found is
:class:`subtone.evaluation.findings.Findings`.
"""

from __future__ import annotations

from subtone.studies.run import conclusions, get, names, run, show

__all__ = ["conclusions", "get", "names", "run", "show"]
