"""The figures in the README are those of the committed studies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {"RAVDESS": "ravdess-loso", "EmoDB": "emodb-4", "nEMO": "nemo"}


def rows(text: str) -> list[list[str]]:
    """Cells of each Markdown table row."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_each_figure_of_the_readme_stands_in_the_studys_table() -> None:
    page = (ROOT / "studies/sap/results/README.md").read_text(encoding="utf-8")
    studied = rows(page)
    header = next(row for row in studied if row[0].startswith("UA %") and "emodb-4" in row)
    table = {row[0]: row for row in studied[studied.index(header) :] if len(row) == len(header)}
    shown = [row for row in rows((ROOT / "README.md").read_text(encoding="utf-8")) if len(row) == 4]
    head = next(row for row in shown if row[0].startswith("UA %"))
    figures = [row for row in shown if re.search(r"\d \(", row[1])]
    assert len(figures) == 4
    for row in figures:
        for cell, column in zip(row[1:], head[1:], strict=True):
            study = COLUMNS[column.split(",")[0]]
            assert cell == table[row[0]][header.index(study)], (row[0], study)


@pytest.mark.parametrize("name", ["default", "default-7"])
def test_the_shipped_models_cards_have_the_figures_of_their_study(name: str) -> None:
    results = json.loads((ROOT / "studies/embedded/results/shipped.json").read_text(encoding="utf-8"))[name]
    card = (ROOT / "src/subtone/models" / name / "card.md").read_text(encoding="utf-8")
    for part in ("speakers", "corpora"):
        assert f"**{100 * results[part]['figures']['ua']:.1f} %**" in card
        assert f"error {100 * results[part]['calibration_error']:.1f} points" in card
    config = json.loads((ROOT / "src/subtone/models" / name / "config.json").read_text(encoding="utf-8"))
    assert config["temperature"] == pytest.approx(results["corpora"]["temperature"])


def test_the_readmes_figures_of_the_shipped_model_are_those_of_its_study() -> None:
    page = rows((ROOT / "studies/embedded/results/README.md").read_text(encoding="utf-8"))
    heard = {
        row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in reversed(page)
    }  # the first table wins
    unheard_table = page[[i for i, row in enumerate(page) if row[0] == "eGeMAPS + LR"][-1]]
    shipped = json.loads((ROOT / "studies/embedded/results/shipped.json").read_text(encoding="utf-8"))[
        "default"
    ]
    own = [100 * fold["ua"] for fold in shipped["corpora"]["figures"]["folds"]]
    expected = {
        "new speakers: `subtone-mini`": heard["`subtone-mini`, with prosody"],
        "new speakers: eGeMAPS, the better of SVM and LR": [
            f"{max(float(a), float(b)):.1f}"
            for a, b in zip(heard["eGeMAPS + SVM"][:4], heard["eGeMAPS + LR"][:4], strict=True)
        ],
        "corpora never heard: `default`": [f"{ua:.1f}" for ua in [*own, sum(own) / 4]],
        "corpora never heard: eGeMAPS + LR": [cell.split(" ")[0] for cell in unheard_table[1:]],
    }
    shown = {row[0]: row[1:] for row in rows((ROOT / "README.md").read_text(encoding="utf-8"))}
    for name, figures in expected.items():
        assert shown[name][: len(figures)] == figures
