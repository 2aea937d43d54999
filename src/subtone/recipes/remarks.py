"""What a reader of a result must be told besides its figures, and what development chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subtone.evaluation import Evaluation
from subtone.recipes.schema import Recipe
from subtone.training.heard import Taught


def headline(recipe: Recipe) -> str:
    """Return what was run, in a line: the recipe, its paper, its upstream."""
    paper = f" ({recipe.paper})" if recipe.paper else ""
    upstream = f" Upstream: {recipe.upstream}." if recipe.needs_upstream else ""
    return f"Recipe `{recipe.name}`: {recipe.title}{paper}.{upstream}"


def remarks(
    recipe: Recipe,
    systems: Mapping[str, Evaluation],
    *,
    failed: int,
    clips: int,
    not_asked_for: Mapping[str, int],
    upstreams: Sequence[Taught],
    images: Mapping[str, Taught],
) -> list[str]:
    """Return a sentence for each thing that would mislead if it went unsaid.

    Parameters
    ----------
    recipe, systems
        What was measured.
    failed, clips
        Clips that could not be used, and those that there were.
    not_asked_for
        Emotion that the recipe does not ask for → its clips.
    upstreams
        That stand below every system but those on functionals.
    images
        System → pre-trained network that it began as.
    """
    told = []
    if failed:
        told.append(
            f"**{failed} of {clips} clips could not be used** and are in no figure; `metrics.json` names them."
        )
    if not_asked_for:
        counts = ", ".join(f"{name} ({count} clips)" for name, count in not_asked_for.items())
        told.append(f"**Emotions left out**, as the recipe says: {counts}.")
    standing = [*recipe.systems, *(n for n, one in recipe.svms.items() if one.pooled), *recipe.cnns]
    for one in upstreams:
        if one.taught_on and standing:
            told.append(_has_heard(one, standing))
    for name, one in images.items():
        if one.taught_on:
            told.append(_has_heard(one, [name]))
    for name, evaluation in systems.items():
        answers = [
            label
            for label, count in zip(evaluation.labels, evaluation.confusion.sum(0), strict=True)
            if count
        ]
        if len(answers) == 1 and len(evaluation.labels) > 1:
            told.append(
                f"**{name} answered {answers[0]} for every clip**: it has learned nothing, so comparisons with it say "
                "nothing; it may need more epochs or clips."
            )
    return told


def _has_heard(one: Taught, systems: Sequence[str]) -> str:
    return (
        f"**{one.name} has been taught emotions** on {', '.join(one.taught_on)}: on these corpora its systems "
        f"({', '.join(systems)}) have heard the test speakers."
    )


def chosen(machines: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Return title → Markdown of what development chose for each machine and fold; none without any."""
    if not machines:
        return {}
    lines = [
        "Gamma is a multiple of one over the number of features, and so is the cost of a linear kernel.",
        "",
        "| machine | fold | kernel | C | gamma | development UA % |",
        "|---|---|---|---|---|---|",
    ]
    for name, folds in machines.items():
        for number, one in enumerate(folds, 1):
            gamma = "–" if one["gamma"] is None else f"{one['gamma']:g}"
            ua = "–" if one["dev_ua"] is None else f"{100 * one['dev_ua']:.1f}"
            lines.append(f"| {name} | {number} | {one['kernel']} | {one['cost']:g} | {gamma} | {ua} |")
    return {"What development chose": "\n".join(lines)}
