"""What a page is made of: parts, sections, and in them sentences, tables and pictures; nothing here knows of HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from subtone.evaluation.findings import HeatMap, Table
from subtone.evaluation.report.clips import Clip
from subtone.evaluation.report.worst import Mistake


@dataclass(frozen=True)
class Words:
    """Sentences; cautions stand out."""

    kind: ClassVar[str] = "words"
    sentences: tuple[str, ...]
    caution: bool = False


@dataclass(frozen=True)
class Figures:
    """A table; ``folded`` ones open at a click."""

    kind: ClassVar[str] = "figures"
    table: Table
    folded: bool = False


@dataclass(frozen=True)
class Plot:
    """A picture, its legend, and its figures as a table."""

    kind: ClassVar[str] = "plot"
    svg: Markup
    title: str
    note: str = ""
    legend: tuple[tuple[Markup, str], ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Plots:
    """Pictures side by side where there is room, four of ``small`` ones, and one table of all their figures."""

    kind: ClassVar[str] = "plots"
    plots: tuple[Plot, ...]
    table: Table | None = None
    small: bool = False


@dataclass(frozen=True)
class Heat:
    """A heat map; ``below`` is a second line in each cell, empty for none."""

    kind: ClassVar[str] = "heat"
    heat_map: HeatMap
    table: Table
    below: tuple[tuple[str, ...], ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Mistakes:
    """Clips on which a system was wrong."""

    kind: ClassVar[str] = "mistakes"
    clips: tuple[tuple[Mistake, Clip], ...]


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Text:
    """A text as it is, folded away."""

    kind: ClassVar[str] = "text"
    title: str
    text: str


@dataclass(frozen=True)
class Headline:
    """The figures that a reader looks for first: name, figure, and what stands below it."""

    kind: ClassVar[str] = "headline"
    system: str
    cards: tuple[tuple[str, str, str], ...]


Block = Words | Figures | Plot | Plots | Heat | Mistakes | Facts | Text | Headline


@dataclass(frozen=True)
class Section:
    """A section with its heading."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Part:
    """A run or a study, or what is said of all."""

    key: str
    title: str
    about: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Page:
    """The whole."""

    title: str
    about: str
    parts: tuple[Part, ...]

    def tables(self) -> Iterator[Table]:
        """Every table, in the order of the page."""
        for part in self.parts:
            for section in part.sections:
                for block in section.blocks:
                    yield from _tables(block)


def _tables(block: Block) -> Iterator[Table]:
    if isinstance(block, (Figures, Heat)):
        yield block.table
    elif isinstance(block, Plots):
        for plot in block.plots:
            yield from _tables(plot)
    if isinstance(block, (Plot, Plots)) and block.table is not None:
        yield block.table
