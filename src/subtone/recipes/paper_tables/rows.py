"""One row: what was published, what ours is, and in what the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from subtone.evaluation import Comparison, Evaluation
from subtone.evaluation.findings import Cell, Measure
from subtone.recipes.paper_tables.differences import AND, Setup, differences, in_words, is_model, not_known
from subtone.recipes.paper_tables.members import MemberRun
from subtone.recipes.paper_tables.published import Claim, MeasureName, Paper, PublishedTable, Row
from subtone.recipes.paper_tables.setups import QUICK, called, setup_of

State = Literal["run", "taken", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Parameters
    ----------
    run
        Which.
    state
        It was ``"run"`` now; ``"taken"`` as it was; or ``"failed"``.
    message
        Of a failure.
    record, systems, comparisons
        What its ``metrics.json`` holds; empty of a failure.
    """

    run: MemberRun
    state: State
    message: str
    record: Mapping[str, Any]
    systems: Mapping[str, Evaluation]
    comparisons: tuple[Comparison, ...]

    def setup(self, system: str) -> Setup:
        """How a system's figures were got."""
        return setup_of(
            self.record, self.run.recipe, system, self.systems[system], shortened=bool(self.run.shortened)
        )


@dataclass(frozen=True)
class Placed:
    """A row of a table on one corpus.

    Parameters
    ----------
    labels
        As in the paper.
    published
        Cells of its measures; None where there is no such figure by its nature.
    source
        Tag, and where it was read if it is not the table's.
    ours
        Cells of the same measures; None where nothing was run.
    run
        Folder's name and system; None where nothing was run.
    differs
        In words; or why nothing was run.
    told
        The same in parts: differences, and what is not known of the paper.
    """

    labels: tuple[str, ...]
    published: tuple[Cell, ...]
    source: str
    ours: tuple[Cell, ...]
    run: str | None
    differs: str
    told: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def same(self) -> bool:
        """Whether a figure of ours stands in it that differs in nothing that is known."""
        return self.run is not None and not self.told[0]

    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order of the table's columns."""
        return (*self.labels, *self.published, self.source, *self.ours, self.run, self.differs)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-like data, differences one by one."""
        return {
            "labels": list(self.labels),
            "published": list(self.published),
            "source": self.source,
            "run": self.run,
            "differences": list(self.told[0]),
            "not_known": list(self.told[1]),
        }


class Placing:
    """Puts what was run on a corpus into the rows of a paper's table.

    Parameters
    ----------
    paper, table
        Which.
    corpus
        Subtone's name of it.
    outcomes
        Member → what came of it on this corpus.
    absent
        Member → why it was not run.
    """

    def __init__(
        self,
        paper: Paper,
        table: PublishedTable,
        corpus: str,
        outcomes: Mapping[str, Outcome],
        absent: Mapping[str, str],
    ) -> None:
        self._paper, self._table, self._corpus = paper, table, corpus
        self._outcomes, self._absent = outcomes, absent

    def rows(self) -> list[Placed]:
        """All rows, in the paper's order."""
        return (
            self._by_upstream()
            if self._table.by_upstream
            else [self._row(r, r.ours) for r in self._table.rows]
        )

    def claims(self) -> list[tuple[Placed, Comparison | None]]:
        """The claimed gains and ours, with the paired test of the table's first measure if there is one."""
        return [self._claim(claim) for claim in self._table.claims]

    def _row(self, row: Row, ours: Mapping[str, str]) -> Placed:
        measures = self._table.measures
        published = tuple(row.figure(measure, self._corpus) or "not found" for measure in measures)
        nothing = Placed(tuple(row.labels), published, self._source(row), (None,) * len(measures), None, "")
        if row.not_run is not None:
            return replace(nothing, differs=f"not run: {row.not_run}")
        member, why = self._member(ours)
        if member is None:
            return replace(nothing, differs=why)
        system, outcome = ours[member], self._outcomes[member]
        if system not in outcome.systems:
            return replace(nothing, differs="not run: settings have taken it away")
        mine, theirs = outcome.setup(system), self._paper.setup_for(self._corpus, row)
        return replace(
            nothing,
            ours=_measures(outcome.systems[system], measures),
            run=f"{outcome.run.name}: {system}",
            differs=in_words(mine, theirs),
            told=(differences(mine, theirs), not_known(mine, theirs)),
        )

    def _member(self, ours: Mapping[str, Any]) -> tuple[str | None, str]:
        """Return the first member that was run, or none and why."""
        there = [member for member in ours if member in self._outcomes]
        if not there:
            why = [self._absent[member] for member in ours if member in self._absent]
            return None, f"not run: {why[-1] if why else 'settings have taken it away'}"
        outcome = self._outcomes[there[0]]
        if outcome.state == "failed":
            return None, f"failed: {outcome.message}"
        return there[0], ""

    def _by_upstream(self) -> list[Placed]:
        """Rows of a leaderboard: ours stands in that of the upstream at hand, or in a last one of its own."""
        table, (member,) = self._table, self._table.by_upstream
        upstream = AND.join(self._outcomes[member].run.recipe.upstreams) if member in self._outcomes else ""
        placed, found = [], False
        for row in table.rows:
            if is_model(upstream, tuple(row.setup.models)):
                placed.append(self._row(row, table.by_upstream))
                found = True
            else:
                another = row.model_copy(update={"not_run": "the upstream at hand is another"})
                placed.append(self._row(another, {}))
        if not found:
            placed.append(self._own_row(upstream))
        return placed

    def _own_row(self, upstream: str) -> Placed:
        measures, (member,) = self._table.measures, self._table.by_upstream
        labels = (called(upstream), *("–" for _ in self._table.columns[1:]))
        row = self._row(Row(labels=list(labels)), self._table.by_upstream)
        row = replace(row, published=(None,) * len(measures), source="no row of its own")
        if row.run is None:
            return row
        mine = replace(self._outcomes[member].setup(self._table.by_upstream[member]), upstream=None)
        theirs = self._paper.setup_for(self._corpus)
        told = (differences(mine, theirs), not_known(mine, theirs))
        return replace(row, differs=in_words(mine, theirs), told=told)

    def _claim(self, claim: Claim) -> tuple[Placed, Comparison | None]:
        measures = self._table.measures
        published = tuple(claim.figure(measure) or "not found" for measure in measures)
        nothing = Placed(
            tuple(claim.labels), published, self._source(claim), (None,) * len(measures), None, ""
        )
        member, why = self._member(claim.ours)
        if member is None:
            return replace(nothing, differs=why), None
        outcome = self._outcomes[member]
        worse, better = claim.ours[member]
        if worse not in outcome.systems or better not in outcome.systems:
            return replace(nothing, differs="not run: settings have taken it away"), None
        paired = {c.metric: c for c in outcome.comparisons if (c.a, c.b) == (worse, better)}
        remarks = [QUICK] if outcome.run.shortened else []
        remarks += [claim.remark] if claim.remark else []
        row = replace(
            nothing,
            ours=tuple(
                _gain(outcome, worse, better, measure, claim.unit, paired.get(measure))
                for measure in measures
            ),
            run=f"{outcome.run.name}: {better} less {worse}",
            differs="; ".join([*remarks, "else as in the rows above"]),
        )
        return row, paired.get(measures[0])

    def _source(self, line: Row | Claim) -> str:
        tag = self._table.tag_of(line)
        return tag if line.source is None else f"{tag}: {line.source}"


def _measures(evaluation: Evaluation, measures: list[MeasureName]) -> tuple[Cell, ...]:
    each = {"ua": (evaluation.ua, evaluation.ua_ci), "wa": (evaluation.wa, evaluation.wa_ci)}
    return tuple(_percent(*each[measure]) for measure in measures)


def _percent(value: float, interval: tuple[float, float]) -> Measure:
    return Measure(100 * value, 100 * interval[0], 100 * interval[1])


def _gain(
    outcome: Outcome, worse: str, better: str, measure: MeasureName, unit: str, paired: Comparison | None
) -> Cell:
    """Return the difference of two systems, with its interval where it was tested."""
    before, after = (getattr(outcome.systems[name], measure) for name in (worse, better))
    points = Measure(100 * (after - before)) if paired is None else _percent(paired.difference, paired.ci)
    if unit == "points":
        return points
    relative = (
        Measure(100 * (after - before) / before).text() + " % relative" if before else "no relative gain"
    )
    return f"{points.text()} points, {relative}"
