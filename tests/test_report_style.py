"""The style sheet's colours: text is readable on what lies behind it, in light, in dark and in print (WCAG AA)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

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
    for ink, paper in pairs:
        assert contrast(of[ink], of[paper]) >= 4.5, (ink, paper, contrast(of[ink], of[paper]))


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_lines_and_dots_stand_out(scheme: str) -> None:
    of = colours()[scheme]
    for name in (*(f"c{number}" for number in range(1, 9)), "bad", "good"):
        assert contrast(of[name], of["paper"]) >= 3, name
    assert contrast(of["c1"], of["speech"]) >= 3  # the wave on what the detector found
