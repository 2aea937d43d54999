"""The folder of a study: whole, readable back, and never in the place of something else."""

from __future__ import annotations

import ast
import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from subtone import evaluation
from subtone.errors import UsageError
from subtone.evaluation import findings_plots
from subtone.evaluation.findings import (
    Curves,
    Findings,
    HeatMap,
    Measure,
    Series,
    Table,
    read_findings,
)
from subtone.evaluation.findings_page import write_findings
from tests.test_report_style import luminance

TABLE = Table(
    "systems",
    "Systems | compared",
    ("system", "UA %", "clips"),
    (("a|b", Measure(71.25, 66.0, 75.5), 12), ("c", Measure(-0.01), None)),
    note="95 % intervals over speakers.",
)
CURVES = Curves(
    "layers",
    "UA over layers",
    "layer",
    "UA (%)",
    (
        Series("gap", (0, 1, 2), (50.0, None, 60.0), (45.0, None, 55.0), (55.0, None, 65.0)),
        Series("sap", (0, 1, 2), (50.5, 58.0, 60.2)),
    ),
    level=(25.0, "chance"),
)
HEAT = HeatMap(
    "cross", "Trained on, tested on", "trained", "tested", ("a", "b"), ("x",), ((Measure(3.0),), (None,))
)
FINDINGS = Findings(
    "sap", "Does SAP help?", "Which pooling?", "Four corpora.", ("SAP wins.",), ("Acted speech only.",),
    (TABLE,), (CURVES,), (HEAT,), {"seeds": [0, 1]},
)  # fmt: skip
WHERE: dict[str, Any] = {"command": "subtone study sap", "seeds": [0], "versions": {"subtone": "0.1"}}


def test_a_study_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = write_findings(tmp_path / "s", FINDINGS, environment=WHERE)
    assert read_findings(folder) == FINDINGS
    assert {file.name for file in folder.iterdir()} == {
        "study.json", "README.md", "systems.csv", "layers.png", "cross.png",
    }  # fmt: skip


def test_its_page_has_all_in_words_and_its_tables_keep_their_columns(tmp_path: Path) -> None:
    page = (write_findings(tmp_path / "s", FINDINGS, environment=WHERE) / "README.md").read_text("utf-8")
    for told in ("# Does SAP help?", "Which pooling?", "- SAP wins.", "Four corpora.", "- Acted speech only.",
                 "`subtone study sap`", "![UA over layers](layers.png)", "| a\\|b | 71.2 (66.0 to 75.5) | 12 |",
                 "| c | 0.0 | – |"):  # fmt: skip
        assert told in page


def test_csv_has_every_digit_and_the_interval(tmp_path: Path) -> None:
    path = write_findings(tmp_path / "s", FINDINGS, environment=WHERE) / "systems.csv"
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows[0] == ["system", "UA %", "UA % low", "UA % high", "clips"]
    assert rows[1] == ["a|b", "71.25", "66.0", "75.5", "12"]
    assert rows[2] == ["c", "-0.01", "", "", ""]


def test_pictures_do_not_change_from_one_writing_to_the_next(tmp_path: Path) -> None:
    one, two = (write_findings(tmp_path / name, FINDINGS, environment=WHERE) for name in "ab")
    for name in ("layers.png", "cross.png"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_only_a_study_is_replaced(tmp_path: Path) -> None:
    folder = write_findings(tmp_path / "s", FINDINGS, environment=WHERE)
    with pytest.raises(UsageError, match="not empty"):
        write_findings(folder, FINDINGS, environment=WHERE)
    write_findings(folder, replace(FINDINGS, tables=()), environment=WHERE, overwrite=True)
    assert not (folder / "systems.csv").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="no study folder"):
        write_findings(tmp_path / "other", FINDINGS, overwrite=True)


def test_odd_figures_are_drawn_too(tmp_path: Path) -> None:
    many = tuple(Series(f"$ystem {n} " + "x" * 60, ("one", "two"), (n, math.nan)) for n in range(40))
    odd = replace(
        FINDINGS,
        tables=(Table("none", "No rows", ("a",), ()),),
        curves=(Curves("many", "M", "x", "y", many), Curves("empty", "E", "x", "y", ())),
        heat_maps=(
            HeatMap("same", "S", "r", "c", ("a",), ("x" * 80,), ((Measure(1.0, 1.0, 1.0),),)),
            HeatMap("nan", "N", "r", "c", ("a",), ("x",), ((Measure(math.nan),),)),
            HeatMap("nothing", "N", "r", "c", (), (), ()),
        ),
    )
    folder = write_findings(tmp_path / "s", odd, environment={})
    assert len(list(folder.glob("*.png"))) == 5
    write_findings(tmp_path / "again", read_findings(folder), environment={})


def test_what_another_module_uses_is_public() -> None:
    folder = Path(evaluation.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("subtone."):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{file.name} takes {', '.join(private)} from {node.module}"


def test_heat_maps_of_gains_part_at_zero_and_every_figure_is_legible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(findings_plots, "save_figure", lambda figure, path: drawn.append(figure) or path)
    for values in ((-3.0, -1.0, 0.0, 2.0, 6.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)):
        row = tuple(map(Measure, values))
        columns = tuple(map(str, values))
        findings_plots.draw_heat_map(HeatMap("n", "t", "r", "c", ("a",), columns, (row,)), tmp_path / "x.png")
        axes = drawn.pop().axes[0]
        (image,) = axes.images
        shown = image.to_rgba(np.array([values]))[0]
        inks = [to_rgb(one.get_color()) for one in axes.texts if one.get_text() in {m.text() for m in row}]
        assert len(inks) == len(values)
        for ink, behind in zip(inks, shown, strict=True):
            low, high = sorted(map(luminance, map(to_hex, (ink, behind))))
            assert (high + 0.05) / (low + 0.05) >= 4.5
        if values[0] < 0:
            assert image.get_clim() == (-6.0, 6.0)
            red, _, blue, _ = shown[0]
            assert red > blue  # below zero
            assert max(shown[2, :3]) - min(shown[2, :3]) < 0.02  # zero has no colour
            red, _, blue, _ = shown[-1]
            assert blue > red
