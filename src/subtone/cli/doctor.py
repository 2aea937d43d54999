"""``subtone doctor``: what this installation can do, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from subtone.cli.options import choice, examples, flowing
from subtone.cli.outcome import SOME_FAILED, Stop, say
from subtone.cli.output import json_line, table, write

EPILOG = (
    examples("subtone doctor", "subtone doctor --format json > report.json")
    + "\n\nExit codes: 0 all that should work does; 1 something is broken."
)


@flowing
def doctor(
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the output.")] = "table",
) -> None:
    """Say what this installation can do and what is broken: versions, formats, detectors, devices, models."""
    from subtone.cli.diagnosis import diagnose

    findings = diagnose()
    broken = [finding for finding in findings if finding.state == "broken"]
    if format == "json":
        write(json_line({"ok": not broken, "findings": [asdict(finding) for finding in findings]}))
    else:
        rows = [(finding.area, finding.name, finding.state, finding.detail) for finding in findings]
        write(table(("area", "what", "state", "detail"), rows))
    if broken:
        for finding in broken:
            say(f"error: {finding.area} {finding.name}: {finding.detail}")
        raise Stop(SOME_FAILED)
