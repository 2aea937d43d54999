"""Results and studies as one page that stands alone: no script, font or picture is fetched from anywhere."""

from __future__ import annotations

from subtone.evaluation.report.build import write_report

__all__ = ["write_report"]
