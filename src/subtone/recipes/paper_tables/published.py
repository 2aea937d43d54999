"""What is known of the papers' tables: figures, how they were got, and where each was read. Data, in ``figures``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from subtone import corpora
from subtone.recipes.paper_tables.differences import Layers, Setup, Tuned
from subtone.recipes.section import Section

#: How well a fact is known: stated by its authors; read in their released code; told by a third party; our inference;
#: or in no source that could be read.
Tag = Literal["stated", "code", "second-hand", "inferred", "not found"]
MeasureName = Literal["ua", "wa"]
#: In percent; as text where it is printed with other than two decimals.
Printed = float | Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?$")]
Unit = Literal["points", "% relative"]

NOT_FOUND: Tag = "not found"


class SetupSection(Section):
    """How a paper's figures were got; what is left out was not found. Fields as in :class:`Setup`.

    Parameters
    ----------
    tag, source
        Of all fields but those in ``tags``.
    tags
        Field → its own tag.
    """

    corpus: str
    classes: list[str] | None = None
    clips: int | None = Field(default=None, ge=1)
    speakers: int | None = Field(default=None, ge=1)
    folds: str | None = None
    num_folds: int | None = Field(default=None, ge=1)
    dev: str | None = None
    dev_share: float | None = Field(default=None, gt=0, lt=1)
    speaker_dependent: bool | None = None
    upstream: str | None = None
    models: list[str] = []
    tuned: Tuned | None = None
    layers: Layers | None = None
    size: str | None = None
    pretrained_on: str | None = None
    pretraining_steps: int | None = Field(default=None, ge=1)
    tag: Tag
    source: str = Field(min_length=1)
    tags: dict[str, Tag] = {}

    @property
    def setup(self) -> Setup:
        """The same without tags."""
        values = self.model_dump(exclude={"tag", "source", "tags"})
        return Setup(
            **{
                **values,
                "classes": None if self.classes is None else tuple(self.classes),
                "models": tuple(self.models),
            }
        )

    @property
    def known(self) -> dict[str, Tag]:
        """Field → tag, of all that is known but the corpus."""
        names = [field.name for field in fields(Setup) if field.name not in ("corpus", "models", "remarks")]
        return {
            name: self.tags.get(name, self.tag)
            for name in names
            if getattr(self, name) is not None and name != "dev_share"
        }

    @model_validator(mode="after")
    def _known(self) -> SetupSection:
        corpora.get(self.corpus)
        for name in self.tags:
            if getattr(self, name, None) is None or name not in type(self).model_fields:
                raise ValueError(f"tags: {name!r} has no value")
        if self.tag == NOT_FOUND and set(self.known) - set(self.tags):
            raise ValueError("tag: there are values, so they were found somewhere")
        return self


class RowSetup(Section):
    """In what a row's figures were got otherwise than its table's."""

    upstream: str | None = None
    models: list[str] = []
    tuned: Tuned | None = None
    layers: Layers | None = None
    pretrained_on: str | None = None
    pretraining_steps: int | None = None


class Line(Section):
    """What rows and claims have in common.

    Parameters
    ----------
    labels
        Its cells under the table's ``columns``.
    tag, source
        Where its figures are from; null for those of the table.
    """

    labels: list[str]
    tag: Tag | None = None
    source: str | None = None


class Row(Line):
    """A row of a paper's table.

    Parameters
    ----------
    ua, wa
        Published, in percent, or a figure for each corpus; null was not found.
    ours
        Member → the system of its that is meant to be the same; the first member that is run counts.
    not_run
        Why nothing of ours stands in this row, ever.
    setup
        In what it differs from the table's.
    """

    ua: Printed | dict[str, Printed] | None = None
    wa: Printed | dict[str, Printed] | None = None
    ours: dict[str, str] = {}
    not_run: str | None = None
    setup: RowSetup = RowSetup()

    def figure(self, measure: MeasureName, corpus: str) -> str | None:
        """Return a published figure as it is printed; None where none was found."""
        value = self.ua if measure == "ua" else self.wa
        if isinstance(value, dict):
            value = value.get(corpus)
        return f"{value:.2f}" if isinstance(value, float) else value

    @property
    def any_figure(self) -> bool:
        """Whether any was found."""
        return self.ua is not None or self.wa is not None


class Claim(Line):
    """A gain that a paper claims, or that follows from its figures; it stands below the rows.

    Parameters
    ----------
    ua, wa, unit, at_most
        The gain, in what, and whether it is the largest of several.
    ours
        Member → the two systems whose difference is ours, the better one last.
    remark
        What a reader must know to compare them.
    """

    ua: Printed | None = None
    wa: Printed | None = None
    unit: Unit = "points"
    at_most: bool = False
    ours: dict[str, tuple[str, str]]
    remark: str = ""

    def figure(self, measure: MeasureName) -> str | None:
        """Return the claimed gain in words."""
        value = self.ua if measure == "ua" else self.wa
        if value is None:
            return None
        return f"{'up to ' if self.at_most else ''}+{value} {self.unit}"


class PublishedTable(Section):
    """A table of a paper.

    Parameters
    ----------
    name, title
        Of it.
    columns
        Headings of what tells its rows apart.
    measures
        Its figures, in its order.
    tag, source
        Where the figures of its rows are from, but for rows that say another.
    corpora
        It is made for these alone; null for any.
    by_upstream
        System of a member that stands in the row of the upstream that is at hand, whichever that is, and in a row of
        its own if there is none; member → system.
    rows, claims
        See there.
    note
        What a reader must know.
    """

    name: str
    title: str
    columns: list[str] = Field(min_length=1)
    measures: list[MeasureName] = Field(min_length=1)
    tag: Tag
    source: str = Field(min_length=1)
    corpora: list[str] | None = None
    by_upstream: dict[str, str] = {}
    rows: list[Row] = Field(min_length=1)
    claims: list[Claim] = []
    note: str = ""

    def applies_to(self, corpus: str) -> bool:
        """Tell whether it is made for a corpus."""
        return self.corpora is None or corpus in self.corpora

    def tag_of(self, line: Row | Claim) -> Tag:
        """Return the tag of a line's figures."""
        return line.tag or self.tag

    def source_of(self, line: Row | Claim) -> str:
        """Return where a line's figures were read."""
        return line.source or self.source

    @property
    def members(self) -> tuple[str, ...]:
        """Members that it takes figures from."""
        each: list[Iterable[str]] = [self.by_upstream]
        each += [row.ours for row in self.rows] + [claim.ours for claim in self.claims]
        return tuple(dict.fromkeys(member for ours in each for member in ours))

    @model_validator(mode="after")
    def _whole(self) -> PublishedTable:
        for corpus in self.corpora or ():
            corpora.get(corpus)
        lines: list[Row | Claim] = [*self.rows, *self.claims]
        for line in lines:
            if len(line.labels) != len(self.columns):
                raise ValueError(f"{line.labels}: must be {len(self.columns)} labels, as there are columns")
        for row in self.rows:
            if row.any_figure == (self.tag_of(row) == NOT_FOUND):
                raise ValueError(
                    f"{row.labels}: a figure has a tag of where it was found, none has 'not found'"
                )
            if bool(row.ours) == (row.not_run is not None) and not self.by_upstream:
                raise ValueError(f"{row.labels}: either 'ours' or 'not_run'")
        return self


class Paper(Section):
    """What is known of a paper.

    Parameters
    ----------
    name, cite, title
        Of it.
    setups
        Corpus → how its figures were got there; the first is taken for every other corpus.
    tables
        Its tables.
    not_found
        What else is in no source that could be read.
    """

    name: str
    title: str
    cite: str
    setups: dict[str, SetupSection] = Field(min_length=1)
    tables: list[PublishedTable] = Field(min_length=1)
    not_found: list[str] = []

    def setup_for(self, corpus: str, row: Row | None = None) -> Setup:
        """Return how a row's figures were got, on this corpus if there are any, else on the paper's first."""
        section = self.setups.get(corpus) or next(iter(self.setups.values()))
        changes: dict[str, Any] = {} if row is None else row.setup.model_dump(exclude_unset=True)
        return section.model_copy(update=changes).setup

    @model_validator(mode="after")
    def _own(self) -> Paper:
        for corpus, setup in self.setups.items():
            if corpus != setup.corpus:
                raise ValueError(f"setups.{corpus}: is of corpus {setup.corpus!r}")
        return self


@cache
def papers() -> tuple[str, ...]:
    """Return the names of all papers, sorted."""
    return tuple(
        sorted(path.name.removesuffix(".yaml") for path in _home().iterdir() if path.name.endswith(".yaml"))
    )


@cache
def paper(name: str) -> Paper:
    """Return a paper of :func:`papers`."""
    text = (_home() / f"{name}.yaml").read_text(encoding="utf-8")
    return Paper.model_validate(yaml.safe_load(text))


def _home() -> Any:
    return files("subtone.recipes") / "paper_tables" / "figures"
