"""What prediction gives: a result a recording (`FileResult`), and all of them as one table (`Prediction`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError, nearest
from subtone.inference.judge import Note
from subtone.inference.spans import Per
from subtone.speech import SpeechSegments

_NS_A_SAMPLE = 1_000_000_000 // SAMPLE_RATE_HZ  # exact: 62,500
RESERVED = ("file", "start", "end", "label", "speech", "note")
"""Names of columns and levels that no emotion may have."""


@dataclass(frozen=True)
class Failure:
    """A recording that could not be used.

    Attributes
    ----------
    file
        Its name, as it would stand in the table.
    message
        Why, and what to do; names the file.
    position
        Number of its entry among the sources, from 0.
    """

    file: str
    message: str
    position: int = 0


@dataclass(frozen=True, eq=False)
class FileResult:
    """The answers on one recording, in order of time.

    Attributes
    ----------
    file
        Path as given, or ``"<array 0>"`` and the like.
    position
        Number of its entry among the sources, from 0.
    labels
        Emotions, in the order of the columns of ``probabilities``.
    starts, ends
        ``(rows,)`` int64: the samples ``[start, end)`` of the file that each row is about, at 16 kHz.
    probabilities
        ``(rows, labels)`` float64; rows sum to 1, or are NaN where nothing was guessed.
    shares
        ``(rows,)`` float64: share of speech, 0–1.
    notes
        A row's ``""``, or why it has no answer: ``"too short"``, ``"silent"``, ``"no speech"``.
    speech
        Where speech was found, counted from the first sample that was read.
    per
        What a row stands for.
    embeddings
        ``(rows, dim)`` float32, NaN where nothing was scored; None unless asked for.
    offset
        Sample of the file that reading began with: 0 unless a part was asked for.
    """

    file: str
    position: int
    labels: tuple[str, ...]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    notes: tuple[Note, ...]
    speech: SpeechSegments
    per: Per = "file"
    embeddings: npt.NDArray[np.float32] | None = None
    offset: int = 0

    def __len__(self) -> int:
        return len(self.notes)

    @property
    def duration_s(self) -> float:
        """Seconds that were read."""
        return self.speech.num_samples / SAMPLE_RATE_HZ

    @property
    def answers(self) -> tuple[str | None, ...]:
        """The likeliest emotion of each row; None where nothing was guessed."""
        return tuple(
            None if np.isnan(row).any() else self.labels[int(row.argmax())] for row in self.probabilities
        )

    def overall(self) -> dict[str, float] | None:
        """Return one answer for all rows: their mean, weighted by the seconds of speech; None without one."""
        known = ~np.isnan(self.probabilities).any(axis=1)
        if not known.any():
            return None
        weights = (self.shares * (self.ends - self.starts))[known]
        weights = weights if weights.sum() > 0 else np.ones(len(weights))
        mean = weights @ self.probabilities[known] / weights.sum()
        return dict(zip(self.labels, mean.tolist(), strict=True))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as the JSON object of ``subtone predict --format json``.

        ``file``, ``start`` and ``end`` in seconds, ``label``, ``scores`` (label → probability), ``speech`` (share, 0–1)
        and ``note``. Where nothing was guessed, ``label`` is None and ``scores`` is empty.
        """
        for row, label in enumerate(self.answers):
            scores = {} if label is None else dict(zip(self.labels, self.probabilities[row].tolist()))
            yield {
                "file": self.file,
                "start": int(self.starts[row]) / SAMPLE_RATE_HZ,
                "end": int(self.ends[row]) / SAMPLE_RATE_HZ,
                "label": label,
                "scores": scores,
                "speech": float(self.shares[row]),
                "note": self.notes[row],
            }

    def to_json_lines(self) -> str:
        """Return `records`, one JSON object a line, each line ended; valid JSON, without NaN."""
        return json_lines(self.records())


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """Return records as JSON lines, without escapes for letters beyond ASCII.

    >>> json_lines([{"file": "é.wav", "label": None}])
    '{"file": "é.wav", "label": null}\\n'
    """
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)


@dataclass(frozen=True, eq=False)
class Prediction:
    """All answers of a run.

    Attributes
    ----------
    table
        One row an answer, in the order of the sources. Index: audformat's segments (``file`` as given, ``start``,
        ``end``; ``end`` is the actual one, never NaT). Columns: ``label`` (string, ``<NA>`` where nothing was
        guessed), a float column for each emotion (NaN where nothing was guessed), ``speech`` (share, 0–1) and
        ``note`` (``""``, or why nothing was guessed: ``"too short"``, ``"silent"``, ``"no speech"``).
    labels
        The emotions that were to choose from.
    embeddings
        ``(rows, dim)`` float32 in the order of the table; None unless asked for.
    failed
        The recordings that could not be used.
    results
        The same answers, a recording at a time.
    positions
        ``(rows,)`` int64: number of the source that each row came from, to join answers to a corpus table.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    embeddings: npt.NDArray[np.float32] | None = None
    failed: tuple[Failure, ...] = ()
    results: tuple[FileResult, ...] = ()
    positions: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def collect(cls, outcomes: Iterable[FileResult | Failure], labels: tuple[str, ...]) -> Prediction:
        """Join the outcomes of `subtone.inference.iterate`."""
        results: list[FileResult] = []
        failed: list[Failure] = []
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                failed.append(outcome)
            else:
                results.append(outcome)
        counts = [len(result) for result in results]
        with_embeddings = [result.embeddings for result in results if result.embeddings is not None]
        return cls(
            _table(results, labels),
            labels,
            _stack(with_embeddings),
            tuple(failed),
            tuple(results),
            np.repeat(np.array([result.position for result in results], np.int64), counts),
        )

    def __len__(self) -> int:
        return len(self.table)

    def result(self, file: str | None = None) -> FileResult:
        """Return the result of one file; of the only one by default.

        Raises
        ------
        UsageError
            When there is none of this name, or there are several and none was named.
        """
        names = [result.file for result in self.results]
        if file is None and len(names) == 1:
            return self.results[0]
        if file is None:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise UsageError(
                f"there are {len(names)} results ({shown}); name one of them" if names else _none(self)
            )
        if str(file) not in names:
            why = next((failure.message for failure in self.failed if failure.file == str(file)), "")
            raise UsageError(f"no result for {str(file)!r}; {why or nearest(str(file), names)}")
        return self.results[names.index(str(file))]

    def timeline(self, file: str | None = None) -> pd.DataFrame:
        """Return one file's rows with ``start`` and ``end`` as columns, in seconds, ready to plot.

        Raises
        ------
        UsageError
            As `result`.
        """
        return _plain(_table([self.result(file)], self.labels)).drop(columns="file")

    def to_json_lines(self) -> str:
        """Return the rows as JSON lines; see `FileResult.records`."""
        return "".join(result.to_json_lines() for result in self.results)

    def to_csv(self) -> str:
        """Return the table as CSV with a header: times in seconds, empty cells where nothing was guessed."""
        return str(_plain(self.table).to_csv(index=False, lineterminator="\n"))


def _none(prediction: Prediction) -> str:
    first = f": {prediction.failed[0].message}" if prediction.failed else ""
    return f"there are no results{first}"


def _stack(parts: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32] | None:
    """Join embeddings; a recording that was never scored has rows of width 0, which take the others' width."""
    if not parts:
        return None
    width = max(part.shape[1] for part in parts)
    full = [part if part.shape[1] else np.full((len(part), width), np.nan, np.float32) for part in parts]
    return np.concatenate(full)  # (rows, dim)


def _table(results: list[FileResult], labels: tuple[str, ...]) -> pd.DataFrame:
    def joined(parts: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *parts])

    files = [result.file for result in results for _ in range(len(result))]
    starts = joined([result.starts for result in results], np.int64)
    ends = joined([result.ends for result in results], np.int64)
    index = pd.MultiIndex.from_arrays(
        [
            pd.array(files, dtype="string"),
            pd.to_timedelta(starts * _NS_A_SAMPLE, unit="ns"),
            pd.to_timedelta(ends * _NS_A_SAMPLE, unit="ns"),
        ],
        names=["file", "start", "end"],
    )
    scores = np.concatenate([np.zeros((0, len(labels))), *(result.probabilities for result in results)])
    answers = [answer for result in results for answer in result.answers]
    columns: dict[str, Any] = {"label": pd.array(answers, dtype="string")}
    columns.update({label: scores[:, column] for column, label in enumerate(labels)})
    columns["speech"] = joined([result.shares for result in results], np.float64)
    columns["note"] = pd.array([note for result in results for note in result.notes], dtype="string")
    return pd.DataFrame(columns, index=index)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    plain = table.reset_index()
    for name in ("start", "end"):
        plain[name] = plain[name].dt.total_seconds()
    return plain
