"""The figures of the literature beside ours: a section of the page that a result folder begins with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from subtone import corpora as corpora_room
from subtone.evaluation import Evaluation
from subtone.recipes.schema import Recipe


def beside(
    recipe: Recipe, corpora: Mapping[str, str | Path], systems: Mapping[str, Evaluation]
) -> dict[str, str]:
    """Return title → Markdown of the sections to add; none when the recipe names no published figures.

    Parameters
    ----------
    recipe
        With its ``published`` rows.
    corpora
        Corpus → path, as the run was given.
    systems
        What was measured.
    """
    if not recipe.published:
        return {}
    measured_on = {corpora_room.get(name).name for name in corpora}
    lines = [
        "| | upstream | corpus | UA % | WA % | protocol |",
        "|---|---|---|---|---|---|",
    ]
    ours = ", ".join(recipe.upstreams)
    for name in dict.fromkeys(row.system for row in recipe.published):
        one = systems[name]
        lines.append(
            f"| **{name}**, this run | {ours} | {', '.join(sorted(measured_on))} | **{_percent(one.ua, one.ua_ci)}** | "
            f"**{_percent(one.wa, one.wa_ci)}** | see above |"
        )
        lines += [
            f"| {name}, published | {row.what} | {row.corpus} | {row.ua:.2f} | {row.wa:.2f} | {row.protocol} |"
            for row in recipe.published
            if row.system == name
        ]
    if measured_on != {row.corpus for row in recipe.published}:
        lines += [
            "",
            "The published figures are of another corpus: they show what was claimed, not what to compare with.",
        ]
    return {f"Beside the paper ({recipe.paper})": "\n".join(lines)}


def _percent(value: float, interval: tuple[float, float]) -> str:
    return f"{100 * value:.2f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
