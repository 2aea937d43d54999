"""Result folders and studies as what a page is made from; nothing here draws or words anything."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from subtone.errors import UsageError
from subtone.evaluation.calibrated import Calibration
from subtone.evaluation.comparison import Comparison
from subtone.evaluation.findings import STUDY_MARK, Findings, read_findings
from subtone.evaluation.metrics import Codes, Floats
from subtone.evaluation.results import MARK, read_metrics
from subtone.evaluation.scoring import Evaluation
from subtone.evaluation.slices import Slices

T = TypeVar("T")

VOTE = " (vote)"  # what a recipe adds to a system's name for the vote of its seeds
#: Larger files are no results of ours, and would not make a page that a browser opens.
MOST_BYTES = {MARK: 128 << 20, STUDY_MARK: 128 << 20, "predictions.parquet": 2 << 30}
MOST_ROWS = 20_000_000
MOST_RECIPE_BYTES = 200_000
KEYS = ("file", "start", "end")


@dataclass(frozen=True, eq=False)
class Answers:
    """What one system said of its clips.

    Attributes
    ----------
    clips
        One row a clip: ``file``, ``start``, ``end`` (seconds; NaN where the file's end is meant), ``truth``,
        ``speaker``, ``fold``, and what else the predictions tell.
    labels
        Classes.
    truth
        ``(clips,)`` class numbers.
    codes
        ``(seeds, clips)`` predicted class numbers.
    scores
        ``(seeds, clips, classes)`` probabilities; None where the predictions hold none.
    """

    clips: pd.DataFrame
    labels: tuple[str, ...]
    truth: Codes
    codes: Codes
    scores: Floats | None

    @property
    def speakers(self) -> list[str] | None:
        """The speaker of each clip, told apart by corpus where that is known; None where one is missing."""
        if "speaker" not in self.clips or self.clips["speaker"].isna().any():
            return None
        names = self.clips["speaker"].astype(str)
        if (
            "corpus" in self.clips
            and self.clips["corpus"].notna().all()
            and self.clips["corpus"].nunique() > 1
        ):
            names = self.clips["corpus"].astype(str) + " " + names
        return list(names)


@dataclass(frozen=True, eq=False)
class Run:
    """A result folder of a recipe.

    Attributes
    ----------
    name
        How the page calls it, unique there.
    record
        ``metrics.json``.
    systems, comparisons
        Read from it.
    predictions
        Of all systems and seeds; None where the folder has none.
    recipe
        Text of the resolved recipe, if there is one.
    environment
        ``environment.json``, empty if there is none.
    remarks
        What could not be read, a sentence each.
    """

    name: str
    record: Mapping[str, Any]
    systems: Mapping[str, Evaluation]
    comparisons: tuple[Comparison, ...]
    predictions: pd.DataFrame | None
    recipe: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @cached_property
    def slices(self) -> Mapping[str, Slices]:
        """System → for whom it works, as far as the run tells."""
        return _entries_of(self.record.get("slices"), self.systems, Slices.from_dict)

    @cached_property
    def calibration(self) -> Mapping[str, Calibration]:
        """System → whether its probabilities are true, as far as the run tells."""
        return _entries_of(self.record.get("calibration"), self.systems, Calibration.from_dict)

    @property
    def best(self) -> str:
        """The system with the highest UA, the first of equals."""
        return self.ranked[0]

    @property
    def ranked(self) -> list[str]:
        """Systems by falling UA."""
        return sorted(self.systems, key=lambda name: -np.nan_to_num(self.systems[name].ua, nan=-1.0))

    @cached_property
    def _answers(self) -> dict[str, Answers | None]:
        return {}

    def answers(self, system: str) -> Answers | None:
        """What a system answered; None where the predictions don't tell, or tell of other clips than were measured."""
        if system not in self._answers:
            self._answers[system] = _answers_of(self.predictions, system, self.systems[system])
        return self._answers[system]


@dataclass(frozen=True, eq=False)
class Study:
    """The folder of a study: what it found, and how it was run."""

    name: str
    findings: Findings
    environment: Mapping[str, Any]


def read_folders(folders: Sequence[str | Path]) -> list[Run | Study]:
    """Read result folders and studies.

    Raises
    ------
    UsageError
        If none is named, one twice, or one is neither or cannot be read.
    """
    if not folders:
        raise UsageError("no result named; give one folder or more that 'subtone recipe run' has written")
    paths = [Path(folder).expanduser() for folder in folders]
    whole = [path.resolve() for path in paths]
    for path, resolved in zip(paths, whole, strict=True):
        if whole.count(resolved) > 1:
            raise UsageError(f"{path}: named twice; name each folder once")
    return [_read(path, name) for path, name in zip(paths, _names(whole), strict=True)]


def _read(folder: Path, name: str) -> Run | Study:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name one that 'subtone recipe run' has written")
    for file, most in MOST_BYTES.items():
        path = folder / file
        if path.is_file() and path.stat().st_size > most:
            raise UsageError(
                f"{path}: {path.stat().st_size >> 20} MiB; a page is made of up to {most >> 20} MiB"
            )
    if (folder / STUDY_MARK).is_file():
        return Study(name, read_findings(folder), _environment(json_of(folder / STUDY_MARK), "environment"))
    if not (folder / MARK).is_file():
        raise UsageError(
            f"{folder}: no result folder (it has neither {MARK} nor {STUDY_MARK}); "
            "name one that 'subtone recipe run' or a study has written"
        )
    record, systems, comparisons = read_metrics(folder)
    if not systems:
        raise UsageError(f"{folder / MARK}: holds no system; run the recipe again")
    if not isinstance(record.get("protocol"), dict):
        record["protocol"] = {}
    remarks: list[str] = []
    predictions = _predictions(folder / "predictions.parquet", remarks)
    environment = json_of(folder / "environment.json")
    return Run(
        name=name,
        record=record,
        systems=systems,
        comparisons=tuple(comparisons),
        predictions=predictions,
        recipe=_recipe(folder / "recipe.yaml"),
        environment=environment if isinstance(environment, dict) else {},
        remarks=tuple(remarks),
    )


def json_of(path: Path) -> Any:
    """What a JSON file holds; an empty object where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def _environment(record: Any, key: str) -> Mapping[str, Any]:
    found = record.get(key) if isinstance(record, dict) else None
    return found if isinstance(found, dict) else {}


def _entries_of(record: Any, systems: Mapping[str, Evaluation], read: Callable[[Any], T]) -> dict[str, T]:
    """System → entry of a result; what an older run wrote in another form, or not at all, is left out."""
    found: dict[str, T] = {}
    for system in systems if isinstance(record, dict) else ():
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, IndexError):
            found[system] = read(record[system])
    return found


def _recipe(path: Path) -> str | None:
    try:
        with path.open("rb") as handle:
            text = handle.read(MOST_RECIPE_BYTES + 1)
    except OSError:
        return None
    cut = text[:MOST_RECIPE_BYTES].decode("utf-8", "replace")
    return cut if len(text) <= MOST_RECIPE_BYTES else cut + "\n… (cut)"


def _predictions(path: Path, remarks: list[str]) -> pd.DataFrame | None:
    """The table of predictions with the index as columns and times in seconds."""
    if not path.is_file():
        remarks.append("The folder has no predictions.parquet: what needs single answers is left out.")
        return None
    try:
        import pyarrow.parquet as parquet

        rows = parquet.ParquetFile(path).metadata.num_rows
        if rows > MOST_ROWS:
            remarks.append(f"predictions.parquet has {rows} rows, too many for a page; it was not read.")
            return None
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises whatever a broken file leads it to
        remarks.append(f"predictions.parquet cannot be read ({type(error).__name__}); it was left out.")
        return None
    named = [name for name in table.index.names if name is not None and name not in table.columns]
    table = table.reset_index(named) if named else table
    missing = [name for name in ("file", "system", "truth", "label") if name not in table]
    if missing:
        remarks.append(f"predictions.parquet has no column {missing[0]!r}; it was left out.")
        return None
    for name in ("start", "end"):
        table[name] = _seconds(table[name]) if name in table else (0.0 if name == "start" else np.nan)
    return table.reset_index(drop=True)


def _seconds(column: pd.Series[Any]) -> pd.Series[float]:
    if pd.api.types.is_timedelta64_dtype(column):
        return pd.Series(column.dt.total_seconds(), dtype=float)
    return pd.to_numeric(column, errors="coerce").astype(float)


def _answers_of(table: pd.DataFrame | None, system: str, evaluation: Evaluation) -> Answers | None:
    if table is None:
        return None
    rows = table[table["system"] == system]
    labels = evaluation.labels
    number = {label: code for code, label in enumerate(labels)}
    # A clip that several folds test is told apart by how often it came before.
    seed = rows["seed"].fillna(-1) if "seed" in rows else pd.Series(-1, index=rows.index)
    rows = rows.assign(seed=seed.astype(int), end=rows["end"].fillna(np.inf))
    rows = rows.assign(turn=rows.groupby(["seed", *KEYS]).cumcount())
    parts = [part.set_index([*KEYS, "turn"]) for _, part in rows.groupby("seed")]
    if not parts or any(
        len(part) != len(parts[0]) or not parts[0].index.isin(part.index).all() for part in parts
    ):
        return None
    parts = [part.loc[parts[0].index] for part in parts]
    first = parts[0]
    truth = first["truth"].map(number)
    answers = [part["label"].map(number) for part in parts]
    if len(first) != evaluation.n or truth.isna().any() or any(one.isna().any() for one in answers):
        return None
    scores = None
    if set(labels) <= set(first.columns):
        try:
            scores = np.stack([part[list(labels)].to_numpy(np.float64) for part in parts])
        except (TypeError, ValueError):
            scores = None
    if scores is not None and not (
        np.isfinite(scores).all() and (scores > -1e-6).all() and (np.abs(scores.sum(-1) - 1) < 1e-3).all()
    ):
        scores = None
    told = [name for name in first.columns if name not in {"system", "seed", "label", *labels}]
    clips = first[told].reset_index()
    clips["end"] = clips["end"].replace(np.inf, np.nan)
    return Answers(
        clips=clips,
        labels=labels,
        truth=np.asarray(truth, dtype=np.int64),
        codes=np.stack([np.asarray(one, dtype=np.int64) for one in answers]),
        scores=scores,
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, with as many of those above it as it takes to tell them apart."""
    depth = 1
    while True:
        names = ["/".join(path.parts[-depth:]) for path in folders]
        if len(set(names)) == len(names):
            return names
        depth += 1
