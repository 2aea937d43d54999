"""Curves and heat maps of a study as pictures, in the style of `subtone.evaluation.plots`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subtone.evaluation.findings import Curves, HeatMap, Measure, Number, Series
from subtone.evaluation.plots import FAINT, INK, SOFT, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

#: Apart for colour-blind eyes, each at 4.5 : 1 or better on white, as labels have the colour of their line.
COLOURS = ("#1f6391", "#b8354a", "#2f7355", "#7b4fa3", "#96590b", "#146e7a", "#a13a86", "#4f5b66")
STYLES = ("-", "--", ":", "-.")
#: From below zero over zero to above: orange and blue are told apart by all kinds of colour-blind eyes, and by grey.
GAINS = ("#8a4506", "#d98a3d", "#efbd86", "#f8e2c8", "#f5f5f4", "#d6e4f0", "#a3c6e0", "#5f9bc8", "#1b5a8c")
DIRECT = 10  # up to so many lines are named at their ends
LEGIBLE = 4.5  # contrast of text
SHORT = 34  # characters of a label in one line


def draw_curves(curves: Curves, path: str | Path) -> Path:
    """Draw lines with their intervals as bands, each named at its end (or, when there are many, below).

    Parameters
    ----------
    curves
        What to draw; gaps stay gaps.
    path
        Image file to write (``.png``, ``.svg``, ``.pdf``).

    Returns
    -------
    Path
        The file.
    """
    direct = len(curves.series) <= DIRECT
    rows = 0 if direct else math.ceil(len(curves.series) / 3)
    figure = new_figure(8.2, 4.6 + 0.24 * rows)
    axes = figure.add_subplot()
    places = word_places(curves)
    ends: list[tuple[float, float, str, str]] = []
    for number, series in enumerate(curves.series):
        colour = COLOURS[number % len(COLOURS)]
        style: Any = STYLES[number // len(COLOURS) % len(STYLES)]
        x, y = _x(series, places), _numbers(series.y)
        if series.low and series.high:
            axes.fill_between(
                x, _numbers(series.low), _numbers(series.high), color=colour, alpha=0.14, linewidth=0
            )
        axes.plot(
            x, y, color=colour, linestyle=style, linewidth=1.9, marker="o", markersize=4.2,
            markeredgecolor="white", markeredgewidth=0.6, label=_short(series.label), zorder=3,
        )  # fmt: skip
        known = np.flatnonzero(np.isfinite(y))
        if len(known):
            last = known[np.argmax(x[known])]  # names stand on the right, whichever way the points run
            ends.append((float(x[last]), float(y[last]), _short(series.label), colour))
    if curves.level is not None and math.isfinite(curves.level[0]):
        _level(axes, *curves.level)
    if places:
        longest = max(map(len, places))
        turned = longest * len(places) > 70
        axes.set_xticks(
            list(places.values()), [_short(word) for word in places],
            rotation=35 if turned else 0, ha="right" if turned else "center",
        )  # fmt: skip
    _frame(axes, curves.x_label, curves.y_label)
    axes.margins(x=0.03)
    if direct and ends:
        _names(axes, ends)
    elif curves.series:
        figure.legend(
            loc="outside lower center", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK, handlelength=2.6
        )
    _headed(figure, axes, curves.title, curves.note)
    return save_figure(figure, path)


def draw_heat_map(heat_map: HeatMap, path: str | Path) -> Path:
    """Draw a matrix of figures: colour from the lowest to the highest, each figure in its cell.

    Where figures lie on both sides of zero, as gains do, zero is white, what is below it orange and above it blue.

    Parameters
    ----------
    heat_map
        What to draw; empty cells are hatched.
    path
        Image file to write.

    Returns
    -------
    Path
        The file.
    """
    values = np.array([[_value(cell) for cell in row] for row in heat_map.values], dtype=np.float64).reshape(
        len(heat_map.rows), len(heat_map.columns)
    )
    spread = any(cell is not None and cell.low is not None for row in heat_map.values for cell in row)
    width = 2.6 + (1.16 if spread else 0.86) * max(2, len(heat_map.columns))
    figure = new_figure(min(width, 24.0), min(2.3 + 0.56 * max(1, len(heat_map.rows)), 24.0))
    axes = figure.add_subplot()
    if values.size:
        low, high = scale_of(values)
        shades = _shades(has_both_signs(values))
        axes.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=low, vmax=high, aspect="auto")
        for row, column in np.ndindex(values.shape):
            value = float(values[row, column])
            ink = SOFT if math.isnan(value) else _ink_on(shades((value - low) / (high - low)))
            _figures(axes, row, column, heat_map.values[row][column], value, ink)
    ticks = np.arange(len(heat_map.columns))
    names = [_short(name) for name in heat_map.columns]
    turned = bool(names) and max(map(len, names)) > (13 if spread else 9)
    axes.set_xticks(ticks, names, rotation=35 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(np.arange(len(heat_map.rows)), [_short(name) for name in heat_map.rows])
    axes.set_xticks(ticks[1:] - 0.5, minor=True)
    axes.set_yticks(np.arange(len(heat_map.rows))[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2.0)
    axes.tick_params(which="both", length=0, labelsize=9.5, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(heat_map.column_label, color=SOFT, fontsize=10, labelpad=6)
    axes.set_ylabel(heat_map.row_label, color=SOFT, fontsize=10, labelpad=6)
    _headed(figure, axes, heat_map.title, heat_map.note)
    return save_figure(figure, path)


def word_places(curves: Curves) -> dict[str, float]:
    """Where words stand on the x axis, in the order in which the series name them; empty for numbers."""
    given = [value for series in curves.series for value in series.x]
    if not any(isinstance(value, str) for value in given):
        return {}
    words = dict.fromkeys(str(value) for value in given)
    return {word: float(place) for place, word in enumerate(words)}


def scale_of(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The lowest and highest known value, a step apart where all are equal.

    As far from zero as each other where values lie on both sides of it.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if has_both_signs(values):
        most = max(-low, high)
        return -most, most
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def has_both_signs(values: npt.NDArray[np.float64]) -> bool:
    """Whether known values lie on both sides of zero, so that colours should part there."""
    known = values[np.isfinite(values)]
    return bool((known < 0).any() and (known > 0).any())


def _shades(parting: bool) -> Colormap:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gains", GAINS) if parting else colormaps["Blues"]


def _ink_on(colour: Sequence[float]) -> str:
    """Ink, white or black: the first that stands out from a colour by 4.5 : 1 (WCAG), which one of them always does."""
    behind = _luminance(colour)
    if (behind + 0.05) / (_luminance(_rgb(INK)) + 0.05) >= LEGIBLE:
        return INK
    return "white" if 1.05 / (behind + 0.05) >= LEGIBLE else "black"


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _luminance(colour: Sequence[float]) -> float:
    """WCAG's relative luminance of red, green and blue."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def _x(series: Series, places: dict[str, float]) -> npt.NDArray[np.float64]:
    return np.array([places[str(value)] if places else float(value) for value in series.x], dtype=np.float64)


def _numbers(values: tuple[Number, ...]) -> npt.NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _value(cell: Measure | None) -> float:
    # A value read back from JSON may be nothing: what was NaN when the study was written.
    return math.nan if cell is None or cell.value is None else float(cell.value)


def _figures(axes: Axes, row: int, column: int, cell: Measure | None, value: float, ink: str) -> None:
    if cell is None or not math.isfinite(value):
        axes.text(column, row, "–", ha="center", va="center", color=SOFT, fontsize=10)
        return
    where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "color": ink}
    spread = cell.low is not None and cell.high is not None
    axes.annotate(Measure(value).text(), (column, row), (0, 5 if spread else 0), fontsize=10, **where)
    if spread:
        ends = f"{Measure(cell.low).text()} to {Measure(cell.high).text()}"  # type: ignore[arg-type]
        axes.annotate(ends, (column, row), (0, -8), fontsize=7.5, **where)


def _level(axes: Axes, value: float, name: str) -> None:
    axes.axhline(value, color=SOFT, linewidth=1.1, linestyle=(0, (2, 3)), zorder=1)
    axes.annotate(
        name, (0, value), xycoords=("axes fraction", "data"), xytext=(4, 3), textcoords="offset points",
        fontsize=8.5, color=SOFT,
    )  # fmt: skip


def _frame(axes: Axes, x_label: str, y_label: str) -> None:
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5)
    axes.set_xlabel(x_label, color=SOFT, fontsize=10)
    axes.set_ylabel(y_label, color=SOFT, fontsize=10)


def _names(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Name each line beside its end, names pushed apart where lines meet."""
    low, high = axes.get_ylim()
    step = 0.058  # of the height of the axes: a line of text
    wanted = [(y - low) / (high - low) for _, y, _, _ in ends]
    for (x, y, name, colour), place in zip(ends, spread_apart(wanted, step)):
        axes.annotate(
            name, (x, y), xytext=(1.03, place), textcoords="axes fraction", va="center", fontsize=9,
            color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "linewidth": 0.8, "shrinkB": 4},
        )  # fmt: skip


def spread_apart(wanted: list[float], step: float) -> list[float]:
    """Places at least ``step`` apart, in the same order, as near to those wanted as pushing and centring gives.

    >>> [round(place, 2) for place in spread_apart([0.5, 0.5, 0.9], 0.1)]
    [0.45, 0.55, 0.9]
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    groups: list[tuple[list[int], float]] = []  # members, centre
    for i in order:
        members, centre = [i], wanted[i]
        while groups:
            before, other = groups[-1]
            if centre - other >= step * (len(members) + len(before)) / 2:
                break
            groups.pop()
            whole = len(before) + len(members)
            centre = (other * len(before) + centre * len(members)) / whole
            members = before + members
        groups.append((members, centre))
    places = [0.0] * len(wanted)
    for members, centre in groups:
        for rank, i in enumerate(members):
            places[i] = centre + step * (rank - (len(members) - 1) / 2)
    return places


def _headed(figure: Figure, axes: Axes, title: str, note: str) -> None:
    per_line = max(24, round(8 * figure.get_figwidth()))
    below = textwrap.fill(note, round(1.4 * per_line)) if note else ""
    lines = below.count("\n") + 1 if below else 0
    axes.set_title(below, loc="left", fontsize=9, color=SOFT, pad=10, linespacing=1.5)
    axes.annotate(
        textwrap.fill(title, per_line), (0, 1), xytext=(0, 14 + 14 * lines), xycoords="axes fraction",
        textcoords="offset points", fontsize=12.5, weight="bold", color=INK, annotation_clip=False,
    )  # fmt: skip


def _short(text: str) -> str:
    text = " ".join(text.split()).replace("$", r"\$")  # no formulas in names
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"
