"""What every study is handed, and what each study is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd

from subtone.errors import UsageError
from subtone.evaluation.findings import Findings
from subtone.speech import get_detector
from subtone.studies.cells import Cell, Earlier
from subtone.studies.hearing import loaded
from subtone.studies.material import Material, gather
from subtone.studies.options import StudyOptions
from subtone.studies.pool import Missing, OnProgress, run_cells
from subtone.training.heard import taught_on


class Planned(Protocol):
    """What a study has to do for one corpus."""

    @property
    def material(self) -> Material:
        """The corpus."""

    @property
    def cells(self) -> Sequence[Cell]:
        """Its cells, each behind those that it needs; those of decoded clips and of all corpora not among them."""


P = TypeVar("P", bound=Planned)


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

    def run_planned(
        self, planned: Sequence[P], basis: Sequence[Cell] = ()
    ) -> tuple[list[P], Earlier, tuple[tuple[str, str], ...]]:
        """Compute the cells of all corpora; one with a cell that fails is left out, and the others go on.

        Parameters
        ----------
        planned
            What there is to do for each corpus.
        basis
            Cells that all of them need.

        Returns
        -------
        list, Earlier, tuple of (str, str)
            Corpora of which all is there, the outcomes, and whatever failed, with the reason.

        Raises
        ------
        UsageError
            If no corpus could be finished.
        """
        waves = [one.material.waves for one in planned]
        earlier, missing = self.run([*waves, *basis, *(cell for one in planned for cell in one.cells)])
        bad = {one.cell for one in missing}
        whole = [one for one in planned if not bad & {cell.name for cell in one.cells}]
        if not whole:
            raise UsageError(
                f"no corpus could be finished; the first: {missing[0].cell}: {missing[0].message}"
            )
        return whole, earlier, failures([one.material for one in planned], missing, earlier)

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
    under: list[tuple[str, str]] = []
    if earlier is not None:
        decoded = {one.waves.name for one in materials}  # whose failures are told above
        for name in earlier:
            failed = () if name in decoded else earlier.values(name).get("failed", ())
            under += [(f"{name}: clip {row + 1}", why) for row, why in failed]
    return (*clips, *under, *((one.cell, one.message) for one in missing))
