"""The curves of a run: a row of numbers every few steps in a CSV file, and a picture of them at the end."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from subtone.files import appears_whole, write_whole


class Curves:
    """A CSV file that grows by a row at a time; the first row decides its columns.

    Parameters
    ----------
    path
        The file.
    after_step
        Rows of later steps belong to a part of the run that was lost, and are taken off.
    """

    def __init__(self, path: Path, after_step: int) -> None:
        self._path = path
        rows = [row for row in read_curves(path) if row["step"] <= after_step]
        self._columns = list(rows[0]) if rows else []
        write_whole(path, self._text(rows).encode())

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; it begins with ``step``."""
        new = [] if self._columns else [dict.fromkeys(row, 0.0)]
        self._columns = self._columns or list(row)
        text = self._text([row])
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(text if new else text.partition("\n")[2])
            file.flush()
            os.fsync(file.fileno())

    def _text(self, rows: list[Mapping[str, float]] | list[dict[str, float]]) -> str:
        if not rows:
            return ""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{value:.7g}" for name, value in row.items()})
        return text.getvalue()


def read_curves(path: Path) -> list[dict[str, float]]:
    """Return the rows of a CSV file of curves; a last row that is cut off does not count."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(whole))]


_FEW = 10


def draw_curves(rows: list[dict[str, float]], path: Path, title: str) -> None:
    """Draw losses, coverage and throughput over the steps as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [row["step"] for row in rows]
    losses = [name for name in rows[0] if name == "loss" or name.startswith("loss_")]
    figure = Figure(figsize=(7, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 1, sharex=True)
    for names, panel, label in (
        (losses, panels[0], "loss"),
        (["coverage"], panels[1], "share of frames masked"),
        (["frames_per_s"], panels[2], "frames per second"),
    ):
        for name in names:
            # Few rows make no line: one alone would be a picture of nothing.
            panel.plot(
                steps, [row[name] for row in rows], label=name, marker="o" if len(rows) < _FEW else None
            )
        panel.set_ylabel(label)
        if len(names) > 1:
            panel.legend()
    panels[0].set_title(title)
    panels[-1].set_xlabel("step")
    with appears_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
