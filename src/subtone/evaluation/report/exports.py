"""A table as CSV with all its digits, as LaTeX (booktabs) and as Markdown with those that are printed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace

from subtone.evaluation.findings import Cell, Measure, Table

EMPTY = "–"  # what is printed where there is no figure

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": r"$-$",
    "–": r"--",
    "‖": r"$\Vert$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
}


def cell_text(cell: Cell, digits: int = 1) -> str:
    """A cell as it is printed; a dash where there is no figure.

    >>> cell_text(Measure(71.25, 66.0, 75.5)), cell_text(float("nan")), cell_text(-2.0, 2), cell_text(7)
    ('71.2 (66.0 to 75.5)', '–', '−2.00', '7')
    """
    if cell is None or isinstance(cell, str):
        return cell or EMPTY
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return str(cell).replace("-", "−")
    measure = cell if isinstance(cell, Measure) else Measure(cell)
    if not _known(measure.value):
        return EMPTY
    if not (_known(measure.low) and _known(measure.high)):
        measure = replace(measure, low=None, high=None)
    return measure.text(digits)


def csv_text(table: Table) -> str:
    """A table as CSV (RFC 4180, UTF-8): figures as they are, an interval's ends in columns of their own.

    >>> print(csv_text(Table("t", "T", ("system", "UA"), (("a, b", Measure(0.5, 0.25, 1.0)),))), end="")
    system,UA,UA low,UA high
    "a, b",0.5,0.25,1.0
    """
    columns = [_columns_of(table, number) for number in range(len(table.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for names in columns for name in names])
    for row in table.rows:
        writer.writerow([value for cell, names in zip(row, columns) for value in _values(cell, len(names))])
    return out.getvalue()


def latex_text(table: Table) -> str:
    """A table as LaTeX for the package booktabs: first column left, figures right, every character escaped."""
    kinds = "".join("r" if _is_figures(table, number) else "l" for number in range(len(table.columns)))
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escaped(table.title)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _latex_row(table.columns),
        r"\midrule",
        *(_latex_row([cell_text(cell, table.digits) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\smallskip\footnotesize {latex_escaped(table.note)}"] if table.note else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is; line ends become spaces.

    >>> print(latex_escaped(r"50 % of a_b & \c"))
    50 \% of a\_b \& \textbackslash{}c
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def markdown_text(table: Table) -> str:
    """A table as GitHub's Markdown, without its title."""
    lines = [_markdown_row(table.columns), "|" + "---|" * len(table.columns)]
    lines += [_markdown_row([cell_text(cell, table.digits) for cell in row]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _is_figures(table: Table, number: int) -> bool:
    cells = [row[number] for row in table.rows]
    return number > 0 and any(not isinstance(cell, (str, type(None))) for cell in cells)


def _columns_of(table: Table, number: int) -> list[str]:
    """The names of a column, three where a cell of it has an interval."""
    name = table.columns[number]
    cells = [row[number] for row in table.rows]
    spread = any(isinstance(cell, Measure) and cell.low is not None for cell in cells)
    return [name, f"{name} low", f"{name} high"] if spread else [name]


def _values(cell: Cell, width: int) -> list[object]:
    figures = [cell.value, cell.low, cell.high] if isinstance(cell, Measure) else [cell, None, None]
    return ["" if isinstance(one, float) and not math.isfinite(one) else one for one in figures[:width]]


def _latex_row(cells: Sequence[str]) -> str:
    escaped = [latex_escaped(cell) for cell in cells]
    # A cell that begins with a bracket would be taken for an option of the line end before it.
    return " & ".join("{" + cell + "}" if cell.startswith(("[", "*")) else cell for cell in escaped) + r" \\"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = [" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells]
    return "| " + " | ".join(cell.replace("<", "&lt;") for cell in escaped) + " |"
