"""What the recipe of the papers' tables may say: which papers, how much effort, and the recipes that it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from subtone.errors import nearest
from subtone.recipes.paper_tables.published import papers as published_papers
from subtone.recipes.schema import CorpusSection
from subtone.recipes.section import Section

#: Of a recipe file: what tells this kind of recipe from a system.
KIND = "paper-tables"
#: Among ``settings``: what holds for every member.
EVERY = "all"

Effort = Literal["full", "quick"]


class MemberSection(Section):
    """One recipe among those that are run, each on each corpus.

    Parameters
    ----------
    recipe
        Its name.
    upstream
        Which one it stands on: its ``"own"``; the ``"given"`` one, the first of two, or its own where none is given;
        of those given the one for a paper's rows of ``"wav2vec"`` or of ``"hubert"``; or ``"both"``.
    instead_of
        Members that are not run where this one is.
    settings
        What differs from that recipe, ``key=value`` as for ``--set``.
    quick
        What differs further with ``effort: quick``.
    """

    recipe: str
    upstream: Literal["own", "given", "wav2vec", "hubert", "both"] = "given"
    instead_of: list[str] = []
    settings: list[str] = []
    quick: list[str] = []


class PaperTables(Section):
    """Tables of papers, made by running the recipes of their systems.

    Parameters
    ----------
    kind, name, title, paper
        What it is.
    papers
        Whose tables are made; see :func:`subtone.recipes.paper_tables.published.papers`.
    effort
        ``"quick"`` trains far shorter than the recipes say, to see the tables' shape; every row of it says so.
    upstream
        One for all systems that take one, or two, of which a fusion joins both; null leaves each recipe its own, which
        works offline.
    corpus
        Which clips take part, as in any recipe; handed on to every member.
    settings
        Member, or ``all`` → settings of your own, as its recipe has them; they win over those of ``members``.
    members
        Name → a recipe that is run. Rows of the tables take their figures from these by name. One that is set to null
        is taken away, and its rows are not run.
    """

    kind: Literal["paper-tables"]
    name: str
    title: str
    paper: str = ""
    papers: list[str] = Field(min_length=1)
    effort: Effort = "full"
    upstream: Annotated[list[str], Field(min_length=1, max_length=2)] | None = None
    corpus: CorpusSection = CorpusSection()
    settings: dict[str, dict[str, Any]] = {}
    members: dict[str, MemberSection] = Field(min_length=1)

    @field_validator("upstream", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("members", mode="before")
    @classmethod
    def _there(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        gone = {name for name, section in value.items() if section is None}
        there = {name: section for name, section in value.items() if name not in gone}
        for name, section in there.items():
            if isinstance(section, dict) and isinstance(section.get("instead_of"), list):
                kept = [other for other in section["instead_of"] if other not in gone]
                there[name] = {**section, "instead_of": kept}
        return there

    @model_validator(mode="after")
    def _known(self) -> PaperTables:
        for paper in self.papers:
            if paper not in published_papers():
                raise ValueError(f"papers: no paper {paper!r}; {nearest(paper, published_papers())}")
        if len(set(self.papers)) < len(self.papers):
            raise ValueError("papers: one stands there twice")
        if self.upstream is not None and len(set(self.upstream)) < len(self.upstream):
            raise ValueError("upstream: the same one stands there twice; name one, or two that differ")
        for member in self.settings:
            if member not in (EVERY, *self.members):
                raise ValueError(f"settings: no member {member!r}; {nearest(member, (EVERY, *self.members))}")
        for name, section in self.members.items():
            if not name.strip(". ") or {"/", "\\"} & set(name):
                raise ValueError(f"members: {name!r} cannot be part of a folder's name; choose another")
            for other in section.instead_of:
                if other not in self.members:
                    raise ValueError(
                        f"members.{name}.instead_of: no member {other!r}; {nearest(other, self.members)}"
                    )
        return self
