"""Confidence against accuracy, a panel a system."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subtone.errors import UsageError
from subtone.evaluation.calibrated import Calibration, ReliabilityBin
from subtone.evaluation.plots import BAR, DOT, FAINT, INK, SOFT, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = 2.7
COLUMNS = 4


def reliability_diagrams(calibration: Mapping[str, Calibration], path: str | Path) -> Path:
    """Draw each system's accuracy over its confidence, before and after its temperature.

    A dot's area grows with its share of the answers; on the diagonal a system is right as often as it claims.

    Parameters
    ----------
    calibration
        Name → what was measured.
    path
        Image file to write (``.png``, ``.svg``, ``.pdf``).

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If there is no system.
    """
    if not calibration:
        raise UsageError("reliability_diagrams: no systems to draw")
    columns = min(COLUMNS, len(calibration))
    rows = math.ceil(len(calibration) / columns)
    figure = new_figure(0.4 + PANEL_INCHES * columns, 0.5 + (PANEL_INCHES + 0.3) * rows)
    for place, (name, one) in enumerate(calibration.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        _panel(axes, one)
        _titled(axes, name, one)
        if place // columns == rows - 1 or place + columns >= len(calibration):
            axes.set_xlabel("confidence", color=SOFT, fontsize=9)
        if place % columns == 0:
            axes.set_ylabel("accuracy", color=SOFT, fontsize=9)
    told = {"as given": DOT}
    if any(one.bins_after for one in calibration.values()):
        told["at temperatures of development clips"] = BAR
    axes = figure.axes[0]
    figure.legend(
        [axes.plot([], [], "o", color=colour, markersize=4.5)[0] for colour in told.values()],
        list(told),
        loc="outside lower center",
        ncols=2,
        fontsize=8.5,
        frameon=False,
        labelcolor=SOFT,
    )
    return save_figure(figure, path)


def _titled(axes: Axes, name: str, one: Calibration) -> None:
    after = "" if one.ece_after is None else f", {100 * one.ece_after:.1f} % after"
    axes.set_title(f"ECE {100 * one.ece:.1f} %{after}", loc="left", fontsize=8.5, color=SOFT)
    axes.annotate(
        textwrap.fill(name, 30),
        (0, 1),
        xytext=(0, 19),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9.5,
        weight="bold",
        color=INK,
        annotation_clip=False,
    )


def _panel(axes: Axes, one: Calibration) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.4, zorder=1)
    _dots(axes, one.bins, DOT)
    if one.bins_after:
        _dots(axes, one.bins_after, BAR)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(length=0, labelcolor=INK, labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def _dots(axes: Axes, bins: Sequence[ReliabilityBin], colour: str) -> None:
    filled = [one for one in bins if one.answers]
    x, y = ([getattr(one, name) for one in filled] for name in ("confidence", "accuracy"))
    most = max(one.answers for one in filled)
    axes.plot(x, y, color=colour, linewidth=1.0, alpha=0.6, zorder=2)
    sizes = [6.0 + 50.0 * one.answers / most for one in filled]
    axes.scatter(x, y, s=sizes, color=colour, alpha=0.85, linewidths=0, zorder=3)
