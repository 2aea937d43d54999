"""``subtone models``: the trained models and networks that ship with Subtone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from subtone.cli.options import choice, examples, flowing
from subtone.cli.output import json_line, table, write
from subtone.errors import BundleError, nearest

if TYPE_CHECKING:
    from subtone.bundle import ShippedModel
    from subtone.upstreams.shipping import ShippedUpstream

EPILOG = examples("subtone models", "subtone models default", "subtone models --format json")


@flowing
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print the card of this model.")] = None,
    format: Annotated[str, typer.Option(**choice("table", "json"), help="Form of the output.")] = "table",
) -> None:
    """List the models that ship with Subtone, or print the card of one: its data, licence, results and limits.

    Upstreams that ship stand below the models, in a table of their own, and below them the image CNN that recipe
    transfer-cnn starts from; in JSON, a record's kind tells which it is.
    """
    from subtone import bundle
    from subtone.training.segments import shipped_cnn
    from subtone.upstreams import shipping

    shipped, upstreams, cnn = bundle.shipped(), shipping.shipped(), shipped_cnn.card().parent
    if name is not None:
        cards = {one.name: one.card for one in upstreams} | {one.name: one.card for one in shipped}
        cards[cnn.name] = shipped_cnn.card()
        if name not in cards:
            raise BundleError(f"no model {name!r} ships with Subtone; {nearest(name, cards)}")
        write(cards[name].read_text(encoding="utf-8").rstrip("\n") + "\n")
    elif format == "json":
        for model in shipped:
            write(json_line(_record(model)))
        for upstream in upstreams:
            write(json_line({"kind": "upstream", **_where(upstream)}))
        where = {"folder": str(cnn), "card": str(shipped_cnn.card())}
        write(json_line({"kind": "image CNN", "name": cnn.name, "size_mb": shipped_cnn.size_mb(), **where}))
    else:
        rows = [
            (model.name, ", ".join(model.labels), model.upstream, f"{model.size_mb:.1f}") for model in shipped
        ]
        write(table(("name", "labels", "upstream", "MB"), rows, right=("MB",)))
        if upstreams:
            beside = [(one.name, f"{one.size_mb:.1f}") for one in upstreams]
            write("\n" + table(("upstream", "MB"), beside, right=("MB",)))
        write("\n" + table(("image CNN", "MB"), [(cnn.name, f"{shipped_cnn.size_mb():.1f}")], right=("MB",)))


def _record(model: ShippedModel) -> dict[str, Any]:
    return {"kind": "model", "labels": list(model.labels), "upstream": model.upstream, **_where(model)}


def _where(one: ShippedModel | ShippedUpstream) -> dict[str, Any]:
    return {"name": one.name, "size_mb": one.size_mb, "folder": str(one.folder), "card": str(one.card)}
