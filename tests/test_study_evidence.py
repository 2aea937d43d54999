"""What the page of conclusions says stands in the results that it is about."""

from __future__ import annotations

import re
from pathlib import Path

STUDY = Path(__file__).resolve().parents[1] / "studies" / "evidence"
INTERVAL = re.compile(r"[−+]?\d[\d.]* ?%? \([−\d][\d.]* to [−\d][\d.]*\)")


def test_each_figure_with_an_interval_stands_in_a_result() -> None:
    results = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted(STUDY.glob("results/*/README.md"))
    )
    said = INTERVAL.findall((STUDY / "conclusions.md").read_text(encoding="utf-8").replace("\n", " "))
    assert len(said) > 15
    for figure in said:
        plain = figure.replace(" %", "").lstrip("+")
        assert plain in results, figure
