"""What a study found, as data: tables, curves, heat maps and sentences, whatever draws them in the end."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from subtone.errors import UsageError

STUDY_MARK = "study.json"  # what tells the folder of a study from any other

Number = float | None


@dataclass(frozen=True)
class Measure:
    """A figure with its interval.

    Parameters
    ----------
    value
        In the unit that its table names.
    low, high
        Ends of the interval; None where there is none.
    """

    value: float
    low: Number = None
    high: Number = None

    def text(self, digits: int = 1) -> str:
        """The figure as it is printed.

        >>> Measure(71.25, 66.0, 75.5).text(), Measure(-3.04).text()
        ('71.2 (66.0 to 75.5)', '−3.0')
        """
        value = _signed(self.value, digits)
        if self.low is None or self.high is None:
            return value
        return f"{value} ({_signed(self.low, digits)} to {_signed(self.high, digits)})"


Cell = str | int | float | Measure | None


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    name
        Short and unique in its study, part of file names.
    title
        What it shows, in a line.
    columns
        Their headings.
    rows
        Each as long as ``columns``; None is an empty cell.
    note
        What a reader must know: unit, how intervals were made, what is missing.
    digits
        After the decimal point.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    digits: int = 1

    def __post_init__(self) -> None:
        _checked_name(self.name)
        for row in self.rows:
            if len(row) != len(self.columns):
                raise UsageError(
                    f"table {self.name!r}: a row of {len(row)} cells under {len(self.columns)} columns"
                )


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Parameters
    ----------
    label
        As in the legend.
    x
        Numbers, or words for a plot by category.
    y
        Values, None where there is none.
    low, high
        Of the interval, point by point; empty for none.
    """

    label: str
    x: tuple[float | str, ...]
    y: tuple[Number, ...]
    low: tuple[Number, ...] = ()
    high: tuple[Number, ...] = ()

    def __post_init__(self) -> None:
        for name in ("y", "low", "high"):
            given = getattr(self, name)
            if len(given) != len(self.x) and (name == "y" or given):
                raise UsageError(
                    f"series {self.label!r}: {len(given)} values of {name} for {len(self.x)} of x"
                )


@dataclass(frozen=True)
class Curves:
    """Lines over one pair of axes."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    note: str = ""
    #: A level to compare with, such as chance, and its name.
    level: tuple[float, str] | None = None

    def __post_init__(self) -> None:
        _checked_name(self.name)


@dataclass(frozen=True)
class HeatMap:
    """A matrix of figures, ``values[row][column]``; None is an empty cell."""

    name: str
    title: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[Measure | None, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        _checked_name(self.name)
        if len(self.values) != len(self.rows) or any(len(row) != len(self.columns) for row in self.values):
            raise UsageError(
                f"heat map {self.name!r}: values must be {len(self.rows)} rows of {len(self.columns)}"
            )


@dataclass(frozen=True)
class Findings:
    """All that a study found.

    Parameters
    ----------
    study
        Its name, as a command takes it.
    title, question
        In words.
    protocol
        What was done, in words: data, division, what was fitted on whom.
    conclusions
        Sentences that follow from the figures.
    limits
        What the study does not show.
    tables, curves, heat_maps
        In the order of a page.
    settings
        JSON-like, whatever a rerun needs.
    """

    study: str
    title: str
    question: str
    protocol: str
    conclusions: tuple[str, ...]
    limits: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    curves: tuple[Curves, ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [one.name for one in self.tables]
        names += [one.name for one in self.curves]
        names += [one.name for one in self.heat_maps]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    f"findings of {self.study!r}: two are called {name!r}; give each its own name"
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON object of ``study.json``; `from_dict` reads it back."""
        record: dict[str, Any] = _finite(asdict(self))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Findings:
        """Read back what `to_dict` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none.
        """
        return cls(
            **{key: record[key] for key in ("study", "title", "question", "protocol")},
            conclusions=tuple(record["conclusions"]),
            limits=tuple(record["limits"]),
            tables=tuple(_table(one) for one in record["tables"]),
            curves=tuple(_curves(one) for one in record["curves"]),
            heat_maps=tuple(_heat_map(one) for one in record["heat_maps"]),
            settings=record["settings"],
        )


def read_findings(folder: str | Path) -> Findings:
    """Read the findings of a study's folder.

    Raises
    ------
    UsageError
        If it holds none, or they cannot be read.
    """
    path = Path(folder) / STUDY_MARK
    try:
        return Findings.from_dict(json.loads(path.read_text(encoding="utf-8"))["findings"])
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name the folder of a finished study") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not the findings of a study ({type(error).__name__}: {error})") from None


def _table(record: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(_cell(cell) for cell in row) for row in record["rows"])
    return Table(**{**record, "columns": tuple(record["columns"]), "rows": rows})


def _curves(record: Mapping[str, Any]) -> Curves:
    series = tuple(
        Series(one["label"], *(tuple(one[key]) for key in ("x", "y", "low", "high")))
        for one in record["series"]
    )
    level = None if record["level"] is None else (record["level"][0], record["level"][1])
    return Curves(**{**record, "series": series, "level": level})


def _heat_map(record: Mapping[str, Any]) -> HeatMap:
    values = tuple(tuple(None if one is None else Measure(**one) for one in row) for row in record["values"])
    lists = {key: tuple(record[key]) for key in ("rows", "columns")}
    return HeatMap(**{**record, **lists, "values": values})


def _cell(value: Any) -> Cell:
    return Measure(**value) if isinstance(value, dict) else value


def _finite(value: Any) -> Any:
    """Turn what JSON cannot say, NaN and infinity, into nothing; tuples into lists."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _checked_name(name: str) -> None:
    if not re.fullmatch(r"[\w.+-]{1,80}", name) or name.startswith("."):
        raise UsageError(
            f"name {name!r} must be part of a file's name: letters, digits, '.', '_', '+' and '-'"
        )


def _signed(number: float, digits: int) -> str:
    text = f"{number:.{digits}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "−")


def rows_of(rows: Sequence[Sequence[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    """Rows as a `Table` takes them."""
    return tuple(tuple(row) for row in rows)
