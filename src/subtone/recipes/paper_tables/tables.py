"""From what was run to the tables, and to the findings that a page is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from subtone import corpora as corpora_room
from subtone.evaluation import Comparison
from subtone.evaluation.findings import Findings, Table, rows_of
from subtone.recipes.paper_tables.members import RUNS, Plan, tables_for
from subtone.recipes.paper_tables.published import Claim, Paper, PublishedTable, paper
from subtone.recipes.paper_tables.rows import Outcome, Placed, Placing
from subtone.recipes.paper_tables.schema import PaperTables

_CELLS = ("source", "run here", "in what ours differs")


def findings_of(
    tables: PaperTables, plan: Plan, corpora: Sequence[str], outcomes: Sequence[Outcome]
) -> Findings:
    """Return all tables on all corpora.

    Parameters
    ----------
    tables, plan
        What was asked for.
    corpora
        As they were given.
    outcomes
        Of all runs of the plan.
    """
    made: list[Table] = []
    placed: list[Placed] = []
    conclusions: list[str] = []
    records = []
    for corpus in corpora:
        on_corpus = {one.run.member: one for one in outcomes if one.run.corpus == corpus}
        for name, table in tables_for(tables, corpus):
            one = paper(name)
            placing = Placing(one, table, corpora_room.get(corpus).name, on_corpus, plan.absent)
            rows, claims = placing.rows(), placing.claims()
            made.append(_table(one, table, corpus, [*rows, *(row for row, _ in claims)]))
            placed += rows
            conclusions += _gains(one, table, claims)
            records.append(
                {
                    "table": made[-1].name,
                    "paper": name,
                    "corpus": corpus,
                    "rows": [row.to_dict() for row in rows],
                }
            )
    failed = [one for one in outcomes if one.state == "failed"]
    return Findings(
        study=tables.name,
        title=f"{tables.title}: {', '.join(corpora)}",
        question="What do the papers' systems reach here, row by row, and in what does each figure differ from theirs?",
        protocol=(
            "Each recipe was run on each corpus by its own protocol for it; the table of runs has the protocols. A row "
            "names the run that its figure is from, and what is known to differ from how the published figure was got: "
            "corpus, classes, clips, speakers, folds, development rule, upstream and what was done with it. Published "
            "figures are printed as they were found, with how well they are known: stated by their authors, read in "
            "their code, second-hand, inferred, or not found. Where one was not found, none is printed."
        ),
        conclusions=(*_warning(tables), _headline(placed), *conclusions),
        limits=tuple(_limits(tables, placed, failed)),
        tables=(*made, _runs(outcomes)),
        settings={
            **tables.model_dump(mode="json", include={"papers", "effort", "upstream", "settings"}),
            "corpora": list(corpora),
            "runs": [
                {
                    "name": one.run.name,
                    "recipe": one.run.recipe.name,
                    "corpus": one.run.corpus,
                    "state": one.state,
                    "message": one.message,
                    "settings": list(one.run.overrides),
                }
                for one in outcomes
            ],
            "not_run": dict(plan.absent),
            "tables": records,
        },
    )


def _table(one: Paper, table: PublishedTable, corpus: str, rows: Sequence[Placed]) -> Table:
    measures = [measure.upper() for measure in table.measures]
    source, run, differs = _CELLS
    published = [f"{measure} % published" for measure in measures]
    ours = [f"{measure} % here" for measure in measures]
    return Table(
        name=f"{one.name}-{table.name}-{corpus}",
        title=f"{one.cite}: {table.title}, on {corpus}",
        columns=(*table.columns, *published, source, *ours, run, differs),
        rows=rows_of([row.cells() for row in rows]),
        note=_note(one, table, corpora_room.get(corpus).name),
    )


def _note(one: Paper, table: PublishedTable, corpus: str) -> str:
    """Return below a table: where its figures are from, and how well it is known how they were got."""
    setup = one.setups.get(corpus) or next(iter(one.setups.values()))
    known = [
        f"{name.replace('_', ' ')} {_value(getattr(setup, name))} ({tag})"
        for name, tag in setup.known.items()
    ]
    parts = [
        "Ours with 95 % intervals over speakers, the mean over seeds.",
        f"Published figures: {table.tag} ({table.source}), but where a row says otherwise.",
    ]
    if known:
        parts.append(f"How they were got on {setup.corpus}: {', '.join(known)}; from: {setup.source}.")
    if one.not_found:
        parts.append(f"Not found: {'; '.join(one.not_found)}.")
    return " ".join([*parts, table.note] if table.note else parts)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _gains(
    one: Paper, table: PublishedTable, claims: Sequence[tuple[Placed, Comparison | None]]
) -> list[str]:
    """Return a sentence for each claimed gain that was tested here, on the table's first measure."""
    told = []
    for claim, (row, paired) in zip(table.claims, claims, strict=True):
        if paired is not None:
            name = str(row.run).partition(":")[0]
            told.append(f"{one.title}, {name}: {paired.sentence()}; {_claimed(table, claim)}.")
    return told


def _claimed(table: PublishedTable, claim: Claim) -> str:
    figure = claim.figure(table.measures[0])
    if figure is None:
        return "the paper's gain was not found"
    remark = f"; {claim.remark}" if claim.remark else ""
    return f"the paper's gain is {figure} ({table.tag_of(claim)}{remark})"


def _headline(placed: Sequence[Placed]) -> str:
    """Return how much of the tables is filled, and how much of it may be compared."""
    filled = [row for row in placed if row.run is not None]
    same = sum(row.same for row in filled)
    text = f"{len(filled)} of {len(placed)} rows have a figure of ours"
    if not filled:
        return f"{text}."
    if not same:
        return f"{text}; every one differs from the published in ways that its row names, so none reproduces one."
    others = f", {len(filled) - same} differ in ways that their rows name" if same < len(filled) else ""
    return f"{text}; {same} of them differ in nothing that is known of the published ones{others}."


def _warning(tables: PaperTables) -> tuple[str, ...]:
    if tables.effort == "full":
        return ()
    return (
        "EFFORT QUICK: everything was trained far too short, to show the tables' shape. No figure of ours on this page "
        "says anything of a system; leave effort=quick away for those that do.",
    )


def _limits(tables: PaperTables, placed: Sequence[Placed], failed: Sequence[Outcome]) -> list[str]:
    told = list(_warning(tables))
    told += [f"{one.run.name} failed, and its rows are empty: {one.message}" for one in failed]
    taught = sorted({part for row in placed for part in row.told[0] if "TEST SPEAKERS INCLUDED" in part})
    told += [f"Figures that an upstream flatters: {part}." for part in taught]
    told.append(
        "What the papers leave open (see below their tables) is ours, so no row is the paper's system to the letter; "
        "the last column names only what is known to differ."
    )
    told.append("Tests of gains are corrected for their number within a run, not over all runs.")
    return told


def _runs(outcomes: Sequence[Outcome]) -> Table:
    states: Mapping[str, str] = {"run": "run now", "taken": "taken as it was", "failed": "FAILED"}
    return Table(
        name="runs",
        title="Runs",
        columns=("run", "recipe", "corpus", "state", "settings", "protocol, or why it failed"),
        rows=rows_of(
            [
                (
                    one.run.name,
                    one.run.recipe.name,
                    one.run.corpus,
                    states[one.state],
                    "; ".join(one.run.overrides) or "the recipe's",
                    one.message or str(one.record["protocol"]["description"]),
                )
                for one in outcomes
            ]
        ),
        note=f"The result of each is a folder of its own: {RUNS}/RUN.",
    )
