"""Plots as SVG: drawn for the width of a phone, in colours of the page's style sheet, which follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from subtone.evaluation.calibration import Reliability
from subtone.evaluation.findings import Curves, Number
from subtone.evaluation.findings_plots import word_places

WIDTH = 400
COLOURS = 8  # --c1 … --c8 of the style sheet
DASHES = ("", "6 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Row:
    """One system of a strip plot, in percent: its figure with interval, and a dot for every fold or speaker."""

    label: str
    value: float
    low: float | None
    high: float | None
    dots: tuple[tuple[str, float], ...]


def tag(name: str, content: object = "", /, **attributes: object) -> Markup:
    """An element with all that goes into it escaped; ``class_`` and ``stroke_width`` lose and change their underscores.

    >>> tag("text", "a<b", class_="x", font_size=2)
    Markup('<text class="x" font-size="2">a&lt;b</text>')
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = escape(content)
    return Markup(f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>")


def picture(parts: Iterable[Markup], width: float, height: float, title: str, description: str) -> Markup:
    """An SVG that says what it shows."""
    head = tag("title", title) + tag("desc", description)
    return tag(
        "svg", head + Markup("").join(parts),
        viewBox=f"0 0 {_number(width)} {_number(height)}", role="img", aria_label=f"{title}. {description}",
        class_="plot",
    )  # fmt: skip


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range.

    >>> ticks(41.0, 68.0)
    [45.0, 50.0, 55.0, 60.0, 65.0]
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(step * n, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def curves_svg(curves: Curves) -> Markup:
    """Lines with their intervals as bands; the legend is the page's (`legend`)."""
    places = word_places(curves)
    lines = [
        ([places[str(x)] if places else float(x) for x in one.x], one.y, one.low, one.high)
        for one in curves.series
    ]
    xs = [x for line in lines for x in line[0] if math.isfinite(x)]
    level = curves.level[0] if curves.level is not None and _finite(curves.level[0]) else None
    every = [*(y for line in lines for part in line[1:] for y in part), level]
    ys = [float(y) for y in every if y is not None and math.isfinite(y)]
    if not xs or not ys:
        return picture(
            [tag("text", "no figures", x=WIDTH / 2, y=40, class_="soft mid")],
            WIDTH,
            80,
            curves.title,
            "Empty.",
        )
    turned = bool(places) and sum(min(len(word), 16) for word in places) > 44
    box = _Box(xs, ys, left=46, top=12, bottom=(84 if turned else 46), height=(318 if turned else 280))
    parts = [*box.grid(ticks(*box.y_range))]
    if places:
        parts += [_word(word, box.x(place), box.floor, turned) for word, place in places.items()]
    else:
        shown = sorted(set(xs))
        at = shown if len(shown) <= 9 and all(x.is_integer() for x in shown) else ticks(*box.x_range)
        parts += [tag("text", _short(x), x=box.x(x), y=box.floor + 17, class_="tick mid") for x in at]
    parts.append(tag("text", _cut(curves.x_label, 56), x=box.middle, y=box.height - 6, class_="soft mid"))
    if level is not None and curves.level is not None:
        y = box.y(level)
        parts.append(tag("line", x1=box.left, x2=box.right, y1=y, y2=y, class_="level"))
        parts.append(tag("text", _cut(curves.level[1], 40), x=box.left + 4, y=y - 4, class_="tick"))
    for number, (x, _, low, high) in enumerate(lines):
        if low and high:
            parts.append(tag("path", d=_band(box, x, low, high), class_=f"band c{number % COLOURS + 1}"))
    for number, (x, y_values, _, _) in enumerate(lines):
        kind = f"c{number % COLOURS + 1}"
        dash = DASHES[number // COLOURS % len(DASHES)] or None
        parts.append(tag("path", d=_line(box, x, y_values), class_=f"line {kind}", stroke_dasharray=dash))
        if len(x) <= 40:
            known = [(px, py) for px, py in zip(x, y_values) if _finite(py)]
            parts += [marker(number, box.x(px), box.y(float(py)), kind) for px, py in known if py is not None]
    top, bottom = max(ys), min(ys)
    description = (
        f"{curves.y_label} over {curves.x_label}; {len(lines)} lines, from {bottom:.1f} to {top:.1f}. "
        "The figures are in the table below."
    )
    return picture(parts, WIDTH, box.height, curves.title, description)


def legend(curves: Curves) -> list[tuple[Markup, str]]:
    """A small picture of each line, and its name."""
    found = []
    for number, one in enumerate(curves.series):
        kind = f"c{number % COLOURS + 1}"
        dash = DASHES[number // COLOURS % len(DASHES)] or None
        line = tag("line", x1=1, x2=27, y1=7, y2=7, class_=f"line {kind}", stroke_dasharray=dash)
        sample = tag(
            "svg", line + marker(number, 14, 7, kind), viewBox="0 0 28 14", class_="key", aria_hidden="true"
        )
        found.append((sample, one.label))
    return found


def marker(number: int, x: float, y: float, kind: str) -> Markup:
    """A dot whose shape tells a line apart where colours don't."""
    form = number % 4
    if form == 0:
        return tag("circle", cx=x, cy=y, r=3.1, class_=f"dot {kind}")
    if form == 1:
        return tag("rect", x=x - 2.8, y=y - 2.8, width=5.6, height=5.6, class_=f"dot {kind}")
    ends = [(0, -3.9), (3.7, 2.8), (-3.7, 2.8)] if form == 2 else [(0, -4.1), (4.1, 0), (0, 4.1), (-4.1, 0)]
    return tag(
        "polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in ends), class_=f"dot {kind}"
    )


def strip_svg(rows: Sequence[Row], title: str, x_label: str, dots: str) -> Markup:
    """Each system's dots over its figure and interval."""
    values = [
        v for row in rows for v in (row.value, row.low, row.high, *(v for _, v in row.dots)) if _finite(v)
    ]
    known = [float(v) for v in values if v is not None]
    if not known:
        return picture(
            [tag("text", "no figures", x=WIDTH / 2, y=40, class_="soft mid")], WIDTH, 80, title, "Empty."
        )
    low, high = min(known), max(known)
    pad = max(1.0, 0.05 * (high - low))
    low, high = max(low - pad, min(low, 0.0)), min(high + pad, max(high, 100.0))
    left, right, step = 10, WIDTH - 44, 56
    height = 12 + step * len(rows) + 40
    floor = height - 36

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = []
    for value in ticks(low, high):
        parts.append(tag("line", x1=x(value), x2=x(value), y1=8, y2=floor, class_="grid"))
        parts.append(tag("text", _short(value), x=x(value), y=floor + 15, class_="tick mid"))
    parts.append(tag("text", x_label, x=(left + right) / 2, y=height - 4, class_="soft mid"))
    radius = 3.6 if max(len(row.dots) for row in rows) <= 60 else 2.4
    for number, row in enumerate(rows):
        top = 12 + step * number
        parts.append(tag("text", _cut(row.label, 48), x=left, y=top + 9, class_="name"))
        for place, (name, value) in enumerate(row.dots):
            if not _finite(value):
                continue
            # A fixed spread keeps equal dots apart without a random number.
            y = top + 22 + 9 * ((place * 0.618) % 1.0 - 0.5)
            dot = tag(
                "circle", tag("title", f"{name}: {value:.1f}"), cx=x(value), cy=y, r=radius, class_="fold"
            )
            parts.append(dot)
        if not _finite(row.value):
            continue
        y = top + 38
        if row.low is not None and row.high is not None and _finite(row.low) and _finite(row.high):
            parts.append(tag("line", x1=x(row.low), x2=x(row.high), y1=y, y2=y, class_="span"))
        at = x(row.value)
        points = f"{at:.1f},{y - 5} {at + 5:.1f},{y} {at:.1f},{y + 5} {at - 5:.1f},{y}"
        parts.append(tag("polygon", points=points, class_="figure"))
        end = x(row.high) if row.high is not None and _finite(row.high) else at
        parts.append(tag("text", f"{row.value:.1f}", x=end + 7, y=y + 4, class_="value"))
    best = max(rows, key=lambda row: row.value if _finite(row.value) else -1.0)
    description = (
        f"{len(rows)} systems; a dot is a {dots}, the bar the figure over all clips with its interval. "
        f"Highest: {best.label}, {best.value:.1f}. The figures are in the table below."
    )
    return picture(parts, WIDTH, height, title, description)


def reliability_svg(bins: Reliability, system: str) -> Markup:
    """Accuracy in bins of confidence beside the diagonal of true probabilities, and how many answers each bin has."""
    side, left, top = 150, 34, 24
    right, floor, under = left + side, top + side, 34
    parts = [
        tag("line", x1=left, x2=right, y1=floor, y2=top, class_="level"),
        *(
            tag("text", f"{v}", x=left - 6, y=floor - side * v / 100 + 4, class_="tick end")
            for v in (0, 50, 100)
        ),
        tag("line", x1=left, x2=right, y1=floor, y2=floor, class_="axis"),
        tag("text", "right (%)", x=0, y=11, class_="soft"),
    ]
    most = max(1, int(bins.clips.max()))
    for number, clips in enumerate(bins.clips.tolist()):
        if not clips:
            continue
        x1, x2 = (left + side * float(edge) for edge in bins.edges[number : number + 2])
        confidence, accuracy = float(bins.confidence[number]), float(bins.accuracy[number])
        name = f"confidence {100 * confidence:.0f} %: {100 * accuracy:.0f} % right of {clips} answers"
        y = floor - side * accuracy
        body = tag("title", name)
        parts.append(
            tag("rect", body, x=x1 + 1, y=y, width=x2 - x1 - 2, height=max(0.8, floor - y), class_="bar")
        )
        at = left + side * confidence
        parts.append(tag("line", x1=at, x2=at, y1=y, y2=floor - side * confidence, class_="gap"))
        tall = under * clips / most
        parts.append(
            tag("rect", x=x1 + 1, y=floor + 22, width=x2 - x1 - 2, height=max(0.8, tall), class_="count")
        )
    parts += [
        tag("text", f"{v}", x=left + side * v / 100, y=floor + 15, class_="tick mid") for v in (0, 50, 100)
    ]
    foot = floor + 22 + under + 16
    parts.append(tag("text", "confidence (%), answers", x=left + side / 2, y=foot, class_="soft mid"))
    description = (
        f"Expected calibration error {100 * bins.error:.1f} points over {int(bins.clips.sum())} answers. "
        "The figures are in the table below."
    )
    return picture(parts, right + 12, foot + 6, f"Reliability of {system}", description)


def wave_svg(
    envelope: tuple[Sequence[float], Sequence[float]],
    speech: Sequence[tuple[float, float]],
    duration_s: float,
    name: str,
) -> Markup:
    """A recording's wave with the stretches in which a detector found speech behind it."""
    width, height, floor = 400, 78, 60
    lows, highs = envelope
    loudest = max([1e-4, *(abs(v) for v in (*lows, *highs))])
    middle, reach = floor / 2, floor / 2 - 2
    step = width / max(1, len(lows))
    tops = [f"{step * (i + 0.5):.1f} {middle - reach * max(v, 0) / loudest:.1f}" for i, v in enumerate(highs)]
    ends = [f"{step * (i + 0.5):.1f} {middle - reach * min(v, 0) / loudest:.1f}" for i, v in enumerate(lows)]
    parts = [
        tag("rect", x=width * a / duration_s, y=0, width=max(1.0, width * (b - a) / duration_s), height=floor,
            class_="speech")
        for a, b in speech
    ]  # fmt: skip
    parts.append(tag("path", d="M" + "L".join([*tops, *reversed(ends)]) + "Z", class_="wave"))
    for second in ticks(0.0, duration_s, 5):
        x = min(max(width * second / duration_s, 1), width - 1)
        place = "tick" if second == 0 else "tick end" if x > width - 14 else "tick mid"
        parts.append(tag("text", f"{second:g} s", x=x, y=height - 4, class_=place))
    spans = ", ".join(f"{a:.1f} to {b:.1f} s" for a, b in speech[:8]) or "none"
    return picture(
        parts, width, height, f"Wave of {name}", f"{duration_s:.1f} seconds; speech found: {spans}."
    )


class _Box:
    """The frame of a plot, and from figures to places in it."""

    def __init__(
        self, xs: list[float], ys: list[float], *, left: int, top: int, bottom: int, height: int
    ) -> None:
        self.left, self.right, self.top = left, WIDTH - 12, top
        self.floor, self.height = height - bottom, height
        self.middle = (self.left + self.right) / 2
        self.x_range = _padded(min(xs), max(xs), 0.03)
        self.y_range = _padded(min(ys), max(ys), 0.06)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.floor - (value - low) / (high - low) * (self.floor - self.top)

    def grid(self, values: Sequence[float]) -> list[Markup]:
        lines = [
            tag("line", x1=self.left, x2=self.right, y1=self.y(v), y2=self.y(v), class_="grid")
            for v in values
        ]
        names = [tag("text", _short(v), x=self.left - 6, y=self.y(v) + 4, class_="tick end") for v in values]
        return [
            *lines,
            *names,
            tag("line", x1=self.left, x2=self.right, y1=self.floor, y2=self.floor, class_="axis"),
        ]


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    pad = share * (high - low) or 1.0
    return low - pad, high + pad


def _line(box: _Box, x: Sequence[float], y: Sequence[Number]) -> str:
    """A path with a gap where there is no figure."""
    path, broken = [], True
    for px, py in zip(x, y):
        if py is None or not (math.isfinite(px) and math.isfinite(py)):
            broken = True
            continue
        path.append(f"{'M' if broken else 'L'}{box.x(px):.1f} {box.y(py):.1f}")
        broken = False
    return "".join(path)


def _band(box: _Box, x: Sequence[float], low: Sequence[Number], high: Sequence[Number]) -> str:
    known = [
        (px, a, b)
        for px, a, b in zip(x, low, high)
        if a is not None and b is not None and math.isfinite(px + a + b)
    ]
    if len(known) < 2:
        return "M0 0"
    there = [f"{box.x(px):.1f} {box.y(b):.1f}" for px, _, b in known]
    back = [f"{box.x(px):.1f} {box.y(a):.1f}" for px, a, _ in reversed(known)]
    return "M" + "L".join([*there, *back]) + "Z"


def _word(word: str, x: float, floor: float, turned: bool) -> Markup:
    text = _cut(word, 16)
    if not turned:
        half = 3.4 * len(text)  # about: what lies at an edge must not be cut
        return tag("text", text, x=min(x, WIDTH - half), y=floor + 17, class_="tick mid")
    turn = f"rotate(-32 {x:.1f} {floor + 14:.1f})"
    return tag("text", text, x=x, y=floor + 14, transform=turn, class_="tick end")


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.floating)) and math.isfinite(value)


def _number(value: object) -> object:
    if isinstance(value, (float, np.floating)):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return value
