"""Plots that go into a result folder. Matplotlib is imported when one is drawn; no display is needed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from subtone.errors import UsageError
from subtone.evaluation.metrics import recalls
from subtone.evaluation.scoring import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1f2933", "#52606d", "#d9dee3"
DOT, BAR = "#2a6f97", "#d1495b"  # apart in lightness too, so a grey print keeps them
DOTS_PER_INCH = 160


def confusion_matrix(evaluation: Evaluation, path: str | Path, *, title: str | None = None) -> Path:
    """Draw the confusion matrix: rows are the truth, cells show the share of the row and, below it, clips.

    Parameters
    ----------
    evaluation
        What to draw.
    path
        Image file to write (``.png``, ``.svg``, ``.pdf``).
    title
        First line, e.g. the system's name; the second gives UA and WA with their intervals.

    Returns
    -------
    Path
        The file.
    """
    matrix = np.asarray(evaluation.confusion, dtype=np.float64)
    share = np.nan_to_num(recalls(matrix.T, matrix.sum(1)).T)  # (truth, prediction), rows sum to 1
    classes = len(evaluation.labels)
    side = max(4.2, 1.6 + 0.78 * classes)
    figure = new_figure(side + 0.4, side + 0.75)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for row in range(classes):
        for column in range(classes):
            _cell(axes, row, column, share[row, column], matrix[row, column] / evaluation.seeds)
    ticks = np.arange(classes)
    axes.set_xticks(
        ticks,
        list(evaluation.labels),
        rotation=35 if classes > 3 else 0,
        ha="right" if classes > 3 else "center",
    )
    axes.set_yticks(ticks, list(evaluation.labels))
    axes.set_xticks(ticks[1:] - 0.5, minor=True)
    axes.set_yticks(ticks[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2.0)
    axes.tick_params(which="both", length=0, labelsize=9.5, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", color=SOFT, fontsize=10, labelpad=6)
    axes.set_ylabel("true", color=SOFT, fontsize=10, labelpad=6)
    _titles(figure, axes, title or "Confusion matrix", _headline(evaluation))
    return save_figure(figure, path)


def _cell(axes: Axes, row: int, column: int, share: float, clips: float) -> None:
    ink = "white" if share > 0.55 else INK
    if clips == 0:
        axes.text(column, row, "·", ha="center", va="center", color=SOFT, fontsize=10)
        return
    count = f"{clips:.0f}" if abs(clips - round(clips)) < 1e-9 else f"{clips:.1f}"
    weight = "bold" if row == column else "normal"
    where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "color": ink}
    axes.annotate(f"{100 * share:.0f} %", (column, row), (0, 5), fontsize=10, weight=weight, **where)
    axes.annotate(count, (column, row), (0, -8), fontsize=7.5, alpha=0.85, **where)


def fold_strip(
    systems: Mapping[str, Evaluation],
    path: str | Path,
    *,
    metric: Literal["ua", "wa"] = "ua",
    title: str | None = None,
) -> Path:
    """Draw each system's folds as dots beside its overall value and interval.

    Parameters
    ----------
    systems
        Name -> evaluation, drawn from top to bottom.
    path
        Image file to write.
    metric
        ``"ua"`` or ``"wa"``.
    title
        First line.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If there is no system, or the metric is unknown.
    """
    if not systems:
        raise UsageError("fold_strip: no systems to draw")
    if metric not in ("ua", "wa"):
        raise UsageError(f"fold_strip: metric {metric!r} is unknown; known: ua, wa")
    figure = new_figure(7.0, 1.65 + 0.62 * len(systems))
    axes = figure.add_subplot()
    for row, evaluation in enumerate(systems.values()):
        values = 100.0 * np.array([getattr(fold, metric) for fold in evaluation.folds])
        # A fixed spread keeps equal folds apart without a random number.
        spread = 0.09 * ((np.arange(len(values)) * 0.618) % 1.0 - 0.5)
        axes.scatter(values, row - 0.17 + spread, s=26, color=DOT, alpha=0.55, linewidths=0, zorder=2)
        low, high = (100.0 * end for end in getattr(evaluation, f"{metric}_ci"))
        value = 100.0 * getattr(evaluation, metric)
        axes.plot([low, high], [row + 0.17] * 2, color=BAR, linewidth=2.6, solid_capstyle="round", zorder=3)
        axes.plot(value, row + 0.17, "D", color=BAR, markersize=6.5, markeredgecolor="white", zorder=4)
        axes.annotate(
            f"{value:.1f}",
            (high, row + 0.17),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=BAR,
        )
    axes.set_yticks(range(len(systems)), list(systems))
    axes.set_ylim(len(systems) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5)
    axes.set_xlabel(f"{metric.upper()} (%)", color=SOFT, fontsize=10)
    some = next(iter(systems.values()))
    _titles(
        figure,
        axes,
        title or f"{metric.upper()} by fold",
        f"dots: folds   bar: all clips, {100 * some.confidence:g} % interval over {some.ci_units} "
        f"{some.ci_unit}s",
    )
    return save_figure(figure, path)


def _headline(evaluation: Evaluation) -> str:
    values = (("UA", evaluation.ua, evaluation.ua_ci), ("WA", evaluation.wa, evaluation.wa_ci))
    parts = [
        f"{name} {100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        for name, value, (low, high) in values
    ]
    counts = [f"{evaluation.n} clips"]
    if evaluation.ci_unit == "speaker":
        counts.append(f"{evaluation.ci_units} speakers")
    if evaluation.seeds > 1:
        counts.append(f"{evaluation.seeds} seeds")
    over = "" if evaluation.ci_unit == "speaker" else " over clips"
    return f"{'   '.join(parts)}\n{', '.join(counts)}; {100 * evaluation.confidence:g} % intervals{over}"


def new_figure(width: float, height: float) -> Figure:
    """Begin an empty picture in the style of all others; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # The margin keeps the title off the edge.
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.14)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _titles(figure: Figure, axes: Axes, title: str, below: str) -> None:
    # A long name is broken rather than let it push the drawing together.
    title = textwrap.fill(title, max(24, round(6.5 * figure.get_figwidth())))
    axes.set_title(below, loc="left", fontsize=9.5, color=SOFT, pad=10, linespacing=1.5)
    lines = below.count("\n") + 1
    axes.annotate(
        title,
        (0, 1),
        xytext=(0, 14 + 15 * lines),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=12.5,
        weight="bold",
        color=INK,
        annotation_clip=False,
    )


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a picture; the same picture gives the same bytes."""
    path = Path(path)
    # No dates, no versions.
    metadata: dict[str, Any] = {"Software": None} if path.suffix.lower() == ".png" else {}
    figure.savefig(path, metadata=metadata)
    return path
