"""``subtone models``: the trained models that ship with Subtone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from subtone.cli.options import choice, examples, flowing
from subtone.cli.output import json_line, table, write
from subtone.errors import BundleError, nearest

if TYPE_CHECKING:
    from subtone.bundle import ShippedModel

EPILOG = examples("subtone models", "subtone models default", "subtone models --format json")


@flowing
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print the card of this model.")] = None,
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the output.")] = "table",
) -> None:
    """List the models that ship with Subtone, or print the card of one: its data, licence, results and limits."""
    from subtone import bundle

    shipped = {model.name: model for model in bundle.shipped()}
    if name is not None:
        if name not in shipped:
            raise BundleError(f"no model {name!r} ships with Subtone; {nearest(name, shipped)}")
        write(shipped[name].card.read_text(encoding="utf-8").rstrip("\n") + "\n")
    elif format == "json":
        for model in shipped.values():
            write(json_line(_record(model)))
    else:
        rows = [
            (model.name, ", ".join(model.labels), model.upstream, f"{model.size_mb:.1f}")
            for model in shipped.values()
        ]
        write(table(("name", "labels", "upstream", "MB"), rows, right=("MB",)))


def _record(model: ShippedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "labels": list(model.labels),
        "upstream": model.upstream,
        "size_mb": model.size_mb,
        "folder": str(model.folder),
        "card": str(model.card),
    }
