"""A study's part of a page."""

from __future__ import annotations

import json
from dataclasses import replace

from subtone.evaluation.findings import Table
from subtone.evaluation.report import tables
from subtone.evaluation.report.blocks import Block, Facts, Figures, Heat, Part, Plots, Section, Text, Words
from subtone.evaluation.report.read import Study
from subtone.evaluation.report.run_part import environment_facts, plot_of


def study_part(study: Study, *, key: str, prefix: str) -> Part:
    """All that a page says of a study: its question, what came out, every table, plot and heat map, its limits.

    Parameters
    ----------
    study
        The study.
    key
        Of the part, for links.
    prefix
        Of the names of its tables.
    """
    found = study.findings

    def named(table: Table) -> Table:
        return replace(table, name=f"{prefix}{table.name}"[:80])

    plots = [plot_of(one) for one in found.curves]
    pictures: list[Block] = [
        Plots(tuple(replace(one, table=None if one.table is None else named(one.table)) for one in plots))
    ] if plots else []  # fmt: skip
    pictures += [Heat(one, named(tables.heat_map_table(one))) for one in found.heat_maps]
    made = [
        Section(
            "summary", "What came out", (Words(found.conclusions or ("The study draws no conclusion.",)),)
        ),
        Section("protocol", "What was done", (Words((found.protocol,)),) if found.protocol else ()),
        Section("tables", "Tables", tuple(Figures(named(one)) for one in found.tables)),
        Section("plots", "Plots", tuple(pictures)),
        Section("limits", "What this does not show", (Words(found.limits),) if found.limits else ()),
        Section("provenance", "How it was made", _provenance(study)),
    ]
    return Part(key, found.title, found.question, tuple(section for section in made if section.blocks))


def _provenance(study: Study) -> tuple[Block, ...]:
    facts = tuple(
        (name, value)
        for name, value in [("Study", study.findings.study), *environment_facts(study.environment)]
        if value
    )
    settings = study.findings.settings
    text = json.dumps(settings, indent=2, ensure_ascii=False, default=str)[:200_000] if settings else ""
    return (Facts(facts), *((Text("Settings", text),) if text else ()))
