"""The style sheet's colours: text is readable on what lies behind it, in light, in dark and in print (WCAG AA)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from subtone.evaluation.findings import HeatMap, Measure
from subtone.evaluation.report.render import heat_shades

STYLE = (files("subtone.evaluation.report") / "style.css").read_text(encoding="utf-8")


def colours() -> dict[str, dict[str, str]]:
    """Scheme → variable → colour; dark and print begin as light."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    assert len(blocks) == 3
    each = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    return {"light": each[0], "dark": {**each[0], **each[1]}, "print": {**each[0], **each[2]}}


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    """WCAG's contrast, 1 to 21."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_has_contrast_enough(scheme: str) -> None:
    of = colours()[scheme]
    pairs = [(ink, paper) for ink in ("ink", "soft", "accent", "bad", "good") for paper in ("paper", "panel")]
    pairs += [("warn", "warn-soft"), ("ink", "accent-soft"), ("soft", "accent-soft"), ("paper", "accent")]
    pairs += [("shallow", f"h{level}") for level in range(6)] + [
        ("deep", f"h{level}") for level in range(6, 10)
    ]
    pairs += [("deep" if level in (0, 8) else "shallow", f"d{level}") for level in range(9)]
    for ink, paper in pairs:
        assert contrast(of[ink], of[paper]) >= 4.5, (ink, paper, contrast(of[ink], of[paper]))


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_lines_and_dots_stand_out(scheme: str) -> None:
    of = colours()[scheme]
    for name in (*(f"c{number}" for number in range(1, 9)), "bad", "good"):
        assert contrast(of[name], of["paper"]) >= 3, name
    assert contrast(of["c1"], of["speech"]) >= 3  # the wave on what the detector found


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_shades_of_gains_fall_or_rise_from_zero_to_either_end(scheme: str) -> None:
    of = colours()[scheme]
    steps = [[contrast(of[f"d{4 + side * step}"], of["paper"]) for step in range(5)] for side in (-1, 1)]
    for side in steps:
        assert side == sorted(side), "without colour, shades still say how far from zero"
        assert contrast(of["d0"], of["d4"]) >= 3


def test_a_heat_map_parts_at_zero_only_where_figures_lie_on_both_sides() -> None:
    def shades(*values: float | None) -> list[str | None]:
        row = tuple(None if value is None else Measure(value) for value in values)
        (found,) = heat_shades(HeatMap("n", "t", "r", "c", ("a",), tuple(map(str, values)), (row,)))
        return found

    assert shades(-2.0, 0.0, None, 8.0, 4.0) == ["d3", "d4", None, "d8", "d6"]
    assert shades(-8.0, 2.0) == ["d0", "d5"]
    assert shades(0.0, 5.0, 10.0) == ["h0", "h5", "h9"]
    assert shades(-10.0, -5.0, 0.0) == ["h0", "h5", "h9"]
