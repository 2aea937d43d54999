"""Run the members that some tables need, one after another, and write the tables."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from subtone.corpora.several import read_several
from subtone.errors import SubtoneError, UsageError, is_out_of_memory
from subtone.evaluation import describe_environment, read_metrics
from subtone.evaluation.findings import STUDY_MARK, Findings, read_findings
from subtone.evaluation.findings_page import write_findings
from subtone.evaluation.results import MARK
from subtone.extraction.progress import duration
from subtone.files import write_whole
from subtone.protocols.clips import checksum, clip_lines, standard_table
from subtone.recipes.data import section_for
from subtone.recipes.load import dump
from subtone.recipes.paper_tables.members import RUNS, Claim, MemberRun, Plan, plan
from subtone.recipes.paper_tables.rows import Outcome, State
from subtone.recipes.paper_tables.schema import KIND, PaperTables
from subtone.recipes.paper_tables.tables import findings_of
from subtone.recipes.progress import OnProgress

#: Runs a recipe: :func:`subtone.recipes.run`, which hands itself over.
RunRecipe = Callable[..., Path | None]
RECIPE = "recipe.yaml"
_PAGE = ".page"


def run_paper_tables(
    tables: PaperTables,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    store: str | Path | None,
    device: str,
    tell: OnProgress,
    overwrite: bool,
    run: RunRecipe,
) -> Path:
    """Run what is not finished yet, and write the folder with the tables.

    Parameters
    ----------
    tables
        Which, and how.
    corpora
        Corpus → your copy of it; every member is run on each for itself.
    out
        Folder of the tables (``study.json``, ``README.md``, CSV), of the recipe, and of all runs (``runs``). It may
        hold those of an earlier call: runs with the same settings on the same clips are taken as they are, or gone
        on with.
    store
        Where members keep features and runs, a folder each; by default beside their results.
    device, tell
        See :func:`subtone.recipes.run`.
    overwrite
        Whether runs of other settings are replaced.
    run
        Runs a member's recipe.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SubtoneError
        If settings do not fit, or the folder holds something else or runs of other settings. What befalls a single run
        is told in its rows instead.
    """
    target = Path(out)
    todo = plan(tables, corpora)
    _refuse_if_other(target)
    members = _Members(todo, target, store, device, tell, overwrite=overwrite, run=run)
    members.check()
    _claim_folder(target, tables)
    outcomes = members.finish()
    tell("writing the tables", 0, 1)
    findings = findings_of(tables, todo, list(corpora), outcomes)
    _write_page(target, findings, device, sorted({s for one in todo.runs for s in one.recipe.seeds}))
    return target


class _Members:
    """The runs of a plan."""

    def __init__(
        self,
        todo: Plan,
        target: Path,
        store: str | Path | None,
        device: str,
        tell: OnProgress,
        *,
        overwrite: bool,
        run: RunRecipe,
    ) -> None:
        self._todo, self._home, self._store = todo, target / RUNS, store
        self._device, self._tell, self._overwrite, self._run = device, tell, overwrite, run
        self._clips: dict[str, str | SubtoneError] = {}
        self._others: set[str] = set()

    def check(self) -> None:
        """Refuse runs of other settings, all at once and before anything is done.

        Raises
        ------
        UsageError
            If there are any, and they may not be replaced.
        """
        told = []
        for one in self._todo.runs:
            clips = self._checksum(one)
            if isinstance(clips, SubtoneError):
                continue  # told with the run
            differs = self._claim(one).differences(one.recipe, clips)
            if differs is None and self._finished(one):
                differs = ["recipe, as it seems: what it was run with is not told"]
            if differs:
                self._others.add(one.name)
                more = ", …" if len(differs) > 3 else ""
                told.append(f"{one.name} with another {', another '.join(differs[:3])}{more}")
        if told and not self._overwrite:
            raise UsageError(
                f"{self._home}: holds runs of other settings: {'; '.join(told)}; pass --overwrite to make these anew, "
                "or name another folder (--out)"
            )

    def finish(self) -> list[Outcome]:
        """Do what is not done; return what came of every run."""
        outcomes: list[Outcome] = []
        took: list[float] = []
        for number, one in enumerate(self._todo.runs):
            place = f"{one.name}, run {number + 1} of {len(self._todo.runs)}"
            if took:  # what was found done took no time and tells nothing
                left = sum(not self._finished(other) for other in self._todo.runs[number:])
                place += f", about {duration(sum(took) / len(took) * left)} left in all"
            began = time.perf_counter()
            outcomes.append(self._outcome(one, place))
            if outcomes[-1].state == "run":
                took.append(time.perf_counter() - began)
        return outcomes

    def _outcome(self, one: MemberRun, place: str) -> Outcome:
        try:
            state = self._do(one, place)
            record, systems, comparisons = read_metrics(self._home / one.name)
        except SubtoneError as error:
            return _failed(one, str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return _failed(one, "memory ran out; give it more, or smaller batches")
        return Outcome(one, state, "", record, systems, tuple(comparisons))

    def _do(self, one: MemberRun, place: str) -> State:
        """Run a member, unless it is done."""
        clips = self._checksum(one)
        if isinstance(clips, SubtoneError):
            raise clips
        if self._finished(one):
            return "taken"
        folder = self._home / one.name
        work = folder.with_name(f"{folder.name}.work")
        if one.name in self._others:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
        self._claim(one).write(one.recipe, clips)
        # Features of recipes that train nothing but classifiers are kept as well, so that a killed run need not extract
        # again; recipes that train upstreams keep theirs in that folder anyway.
        trains = one.recipe.finetuning is not None or one.recipe.pretraining is not None
        kept = work if trains else work / "features"
        self._tell(place, 0, 1)
        self._run(
            one.recipe.name,
            {one.corpus: one.path},
            out=folder,
            overrides=one.overrides,
            store=kept if self._store is None else Path(self._store) / one.name,
            overwrite=one.name in self._others,
            device=self._device,
            on_progress=lambda what, done, total: self._tell(f"{what} · {place}", done, total),
        )
        return "run"

    def _finished(self, one: MemberRun) -> bool:
        return one.name not in self._others and (self._home / one.name / MARK).is_file()

    def _claim(self, one: MemberRun) -> Claim:
        return Claim(self._home / f"{one.name}.json")

    def _checksum(self, one: MemberRun) -> str | SubtoneError:
        """Return the checksum of a run's clips, or why they cannot be read."""
        corpora = {one.corpus: one.path}
        options = section_for(one.recipe, corpora).options
        key = json.dumps([one.corpus, options], sort_keys=True, default=str)
        if key not in self._clips:
            self._tell(f"reading {one.corpus}", 0, 1)
            try:
                self._clips[key] = checksum(clip_lines(standard_table(read_several(corpora, **options))))
            except SubtoneError as error:
                self._clips[key] = error
        return self._clips[key]


def _failed(one: MemberRun, message: str) -> Outcome:
    return Outcome(one, "failed", message, {}, {}, ())


def _refuse_if_other(target: Path) -> None:
    """Refuse a folder that holds something else than tables of an earlier call."""
    if target.is_dir():
        if any(target.iterdir()) and not _is_ours(target):
            raise UsageError(
                f"{target}: the folder is not empty and holds no tables of an earlier call; name another"
            )
    elif target.exists() or target.is_symlink():
        raise UsageError(f"{target}: exists and is no folder; name another")


def _is_ours(target: Path) -> bool:
    try:
        raw = yaml.safe_load((target / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(raw, dict) and raw.get("kind") == KIND


def _claim_folder(target: Path, tables: PaperTables) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_whole(target / RECIPE, dump(tables).encode())
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written ({error.strerror or error}); name another folder"
        ) from None


def _write_page(target: Path, findings: Findings, device: str, seeds: Sequence[int]) -> None:
    """Write the tables beside the runs, file by file: those of an earlier call are replaced, the runs stay."""
    before = _csv_names(target)
    building = target / _PAGE
    shutil.rmtree(building, ignore_errors=True)  # of a call that was killed
    write_findings(building, findings, environment=describe_environment(seeds=seeds, device=device))
    files = sorted(
        building.iterdir(), key=lambda path: path.name == STUDY_MARK
    )  # what makes it a study comes last
    for path in files:
        path.replace(target / path.name)
    building.rmdir()
    for name in before - {path.name for path in files}:
        (target / name).unlink(missing_ok=True)


def _csv_names(target: Path) -> set[str]:
    """Return the files of an earlier call's tables."""
    if not (target / STUDY_MARK).is_file():
        return set()
    try:
        return {f"{table.name}.csv" for table in read_findings(target).tables}
    except UsageError:
        return set()
