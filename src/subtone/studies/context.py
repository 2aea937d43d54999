"""What every study is handed, and what each study is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from subtone.evaluation.findings import Findings
from subtone.speech import get_detector
from subtone.studies.cells import Cell, Earlier
from subtone.studies.hearing import loaded
from subtone.studies.material import Material, gather
from subtone.studies.options import StudyOptions
from subtone.studies.pool import Missing, OnProgress, run_cells
from subtone.training.heard import taught_on


@dataclass(frozen=True)
class Context:
    """A study under way.

    Parameters
    ----------
    corpora
        Corpus → path.
    upstream
        Name or folder.
    options
        Of this study.
    work
        Folder of its cells.
    jobs
        Processes side by side; None for one a core.
    tell
        Told how far it is.
    """

    corpora: Mapping[str, str | Path]
    upstream: str
    options: StudyOptions
    work: Path
    jobs: int | None
    tell: OnProgress

    def gather(self) -> list[Material]:
        """Read, decode and divide the corpora."""
        return gather(
            self.corpora, self.options, self.work, jobs=self.jobs, on_progress=self._telling("reading")
        )

    def run(self, cells: Sequence[Cell]) -> tuple[Earlier, tuple[Missing, ...]]:
        """Compute cells that are not there yet; see :func:`subtone.studies.pool.run_cells`."""
        return run_cells(cells, self.work, jobs=self.jobs, on_progress=self._telling("computing"))

    def detector(self) -> dict[str, object]:
        """Return the configuration of the detector that the options name."""
        section = self.options.detector
        return get_detector(section.name, **section.options).config()

    def taught(self, materials: Sequence[Material]) -> tuple[str, ...]:
        """Return what must be said among the limits of an upstream that has been taught emotions; mostly nothing."""
        tables = pd.concat([one.split.table for one in materials])
        heard = taught_on([loaded(self.upstream)], tables).removeprefix("; ")
        return (
            (f"The upstream is no stranger to emotions: {heard}. Figures may flatter it.",) if heard else ()
        )

    def _telling(self, doing: str) -> OnProgress:
        return lambda sentence, done, total: self.tell(f"{doing}: {sentence}", done, total)


@dataclass(frozen=True)
class Made:
    """What became of a study.

    Parameters
    ----------
    findings
        What it found.
    failed
        Cells, clips or corpora that could not be used, and why.
    """

    findings: Findings
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Study:
    """A study that can be run by name.

    Parameters
    ----------
    name
        As a command takes it.
    question
        What it answers, in a line.
    options
        Its settings.
    make
        What makes it.
    """

    name: str
    question: str
    options: type[StudyOptions]
    make: Callable[[Context], Made]


def failures(
    materials: Sequence[Material], missing: Sequence[Missing], earlier: Earlier | None = None
) -> tuple[tuple[str, str], ...]:
    """Return all that failed: clips that could not be read, those that failed under a condition, and cells."""
    clips = [(f"{one.name}/{file}", why) for one in materials for file, why in one.failed]
    under = [
        (f"{name}: clip {row + 1}", why)
        for name in (earlier if earlier is not None else ())
        for row, why in earlier.values(name).get("failed", ())  # type: ignore[union-attr]
        if isinstance(row, int)
    ]
    return (*clips, *under, *((one.cell, one.message) for one in missing))
