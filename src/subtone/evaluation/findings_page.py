"""The folder of a study: its findings as data, a page to read, tables as CSV, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subtone.evaluation import findings_plots as plots
from subtone.evaluation.findings import STUDY_MARK, Curves, Findings, HeatMap, Table
from subtone.evaluation.report.exports import csv_text, markdown_text
from subtone.evaluation.results import (
    describe_environment,
    file_names,
    refuse_if_taken,
    sweep,
    whole_folder,
    write_json,
)


def write_findings(
    folder: str | Path,
    findings: Findings,
    *,
    environment: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the folder of a study, whole or not at all.

    It holds ``study.json`` (``{"findings", "environment"}``, which `read_findings` and ``subtone report`` read),
    ``README.md``, ``NAME.csv`` for every table and ``NAME.png`` for every plot and heat map. All is built in a hidden
    folder beside it and renamed at the end.

    Parameters
    ----------
    folder
        Where to; must not exist or be empty, unless ``overwrite``.
    findings
        What the study found.
    environment
        What `describe_environment` gives, by default called without arguments.
    overwrite
        Replace an earlier folder of a study. A folder that holds something else is never replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        If the folder is in use or cannot be written.
    """
    target = Path(folder)
    sweep(target)
    refuse_if_no_study(target, overwrite=overwrite)
    where = describe_environment() if environment is None else dict(environment)
    every: list[Table | Curves | HeatMap] = [*findings.tables, *findings.curves, *findings.heat_maps]
    files = file_names({one.name: one for one in every})
    with whole_folder(target) as building:
        write_json(building / STUDY_MARK, {"findings": findings.to_dict(), "environment": where})
        for table in findings.tables:
            (building / f"{files[table.name]}.csv").write_text(csv_text(table), encoding="utf-8")
        for curves in findings.curves:
            plots.draw_curves(curves, building / f"{files[curves.name]}.png")
        for heat_map in findings.heat_maps:
            plots.draw_heat_map(heat_map, building / f"{files[heat_map.name]}.png")
        (building / "README.md").write_text(_page(findings, where, files), encoding="utf-8")
    return target


def refuse_if_no_study(folder: str | Path, *, overwrite: bool = False) -> None:
    """Check before a long study that its folder can be written at the end; see `refuse_if_taken`."""
    refuse_if_taken(folder, overwrite=overwrite, mark=STUDY_MARK, what="study")


def _page(findings: Findings, environment: Mapping[str, Any], files: Mapping[str, str]) -> str:
    parts = [f"# {_line(findings.title)}", f"**Question.** {findings.question}"]
    if findings.conclusions:
        parts += ["## What came out", _list(findings.conclusions)]
    parts += ["## What was done", findings.protocol]
    for table in findings.tables:
        parts += [f"## {_line(table.title)}", markdown_text(table).rstrip("\n")]
        parts += [table.note] if table.note else []
        parts.append(f"All digits: [`{files[table.name]}.csv`]({files[table.name]}.csv)")
    plots_of: list[Curves | HeatMap] = [*findings.curves, *findings.heat_maps]
    for plot in plots_of:
        parts += [f"## {_line(plot.title)}", f"![{_alternative(plot.title)}]({files[plot.name]}.png)"]
        parts += [plot.note] if plot.note else []
    if findings.limits:
        parts += ["## What this does not show", _list(findings.limits)]
    parts += ["## How it was run", _list(_run(environment))]
    return "\n\n".join(parts) + "\n"


def _run(environment: Mapping[str, Any]) -> list[str]:
    told = []
    if environment.get("command"):
        told.append(f"Command: `{environment['command']}`")
    if environment.get("seeds"):
        told.append(f"Seeds: {', '.join(map(str, environment['seeds']))}")
    if environment.get("date"):
        told.append(f"Date: {environment['date']}")
    machine = environment.get("machine") or {}
    hardware = [environment.get("device"), machine.get("processor")]
    if any(hardware):
        told.append(f"Machine: {', '.join(str(part) for part in hardware if part)}")
    versions = environment.get("versions") or {}
    told.append(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    return told


def _list(sentences: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"- {_line(sentence)}" for sentence in sentences)


def _line(text: str) -> str:
    return " ".join(text.split())


def _alternative(text: str) -> str:
    return _line(text).replace("[", "(").replace("]", ")")
