"""A page as one HTML file that asks for nothing: no address leads out, and a policy forbids what might slip in."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from subtone.evaluation.findings import Cell, HeatMap, Measure, Table
from subtone.evaluation.findings_plots import has_both_signs, scale_of
from subtone.evaluation.report.blocks import Page
from subtone.evaluation.report.exports import EMPTY, cell_text, csv_text, latex_text

MOST_ROWS = 200  # of a table on the page; its exports have all
MOST_EXPORT = 2_000_000  # characters
LEVELS = 10  # of a heat map, --h0 … of the style sheet
SIDE = 4  # levels below zero, and above it, where figures lie on both sides: --d0 … of the style sheet
#: Controls, and marks that turn the direction of writing: what they hide should be seen.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


def html(page: Page) -> str:
    """The page as text; every name, label and sentence is escaped."""
    import jinja2

    here = files(__package__)
    style = (here / "style.css").read_text(encoding="utf-8")
    script = (here / "sort.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=seen,
    )
    environment.filters.update(
        csv_uri=csv_uri,
        latex_uri=latex_uri,
        cell=_cell,
        sort_key=_sort_key,
        shades=heat_shades,
        is_figure=_is_figure,
        joined=_joined,
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    from markupsafe import Markup

    return environment.get_template("page.html.j2").render(
        page=page, policy=policy, style=Markup(style), script=Markup(script), most_rows=MOST_ROWS, empty=EMPTY
    )


def seen(value: Any) -> Any:
    """What goes into the page, with unseen characters made visible.

    >>> seen("a\\u202eb")
    'a\\ufffdb'
    """
    from markupsafe import Markup

    if isinstance(value, Markup):
        return Markup(_clean(str(value)))
    return _clean(value) if isinstance(value, str) else value


def _joined(text: str) -> str:
    """A sentence in which no line ends between a figure and its sign."""
    return text.replace(" %", "\u00a0%")


def _clean(text: str) -> str:
    return _UNSEEN.sub("\ufffd", text).encode("utf-8", "replace").decode("utf-8")


def csv_uri(table: Table) -> str | None:
    """A table as a CSV file's ``data:`` address; None where it would be too long for a page."""
    return _uri("text/csv", csv_text(table))


def latex_uri(table: Table) -> str | None:
    """The same as LaTeX."""
    return _uri("application/x-tex", latex_text(table))


def _uri(kind: str, text: str) -> str | None:
    if len(text) > MOST_EXPORT:
        return None
    return f"data:{kind};charset=utf-8,{quote(text.encode('utf-8', 'replace'), safe='')}"


def heat_shades(heat_map: HeatMap) -> list[list[str | None]]:
    """Class of each cell in the style sheet: ``h0`` to ``h9`` from the lowest to the highest; None for empty ones.

    Where figures lie on both sides of zero, it is ``d0`` to ``d8``, with zero in the middle.
    """
    import numpy as np

    values = np.array([[_value(cell) for cell in row] for row in heat_map.values], dtype=np.float64).reshape(
        len(heat_map.rows), len(heat_map.columns)
    )
    low, high = scale_of(values)
    parting = has_both_signs(values)

    def shade(value: float) -> str | None:
        if not math.isfinite(value):
            return None
        if parting:
            return f"d{SIDE + round(SIDE * value / high)}"
        return f"h{min(LEVELS - 1, int(LEVELS * (value - low) / (high - low)))}"

    return [[shade(value) for value in row] for row in values.tolist()]


def _value(cell: Measure | None) -> float:
    return math.nan if cell is None or cell.value is None else float(cell.value)


def _cell(cell: Cell, digits: int) -> tuple[str, str]:
    """A cell's text, and its interval apart."""
    text = cell_text(cell, digits)
    if isinstance(cell, Measure) and text.endswith(")"):
        figure, _, interval = text.partition(" (")
        return figure, interval[:-1]
    return text, ""


def _sort_key(cell: Cell) -> str | None:
    """What a column is sorted by; None for its text."""
    value = cell.value if isinstance(cell, Measure) else cell
    if isinstance(value, (int, float)) and math.isfinite(value):
        return f"{float(value):.10g}"
    return None


def _is_figure(cell: Cell) -> bool:
    return isinstance(cell, (int, float, Measure))
