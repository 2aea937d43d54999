"""`write_report`: result folders and studies to one page, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from subtone.errors import UsageError
from subtone.evaluation.report import tables as run_tables
from subtone.evaluation.report import words
from subtone.evaluation.report.blocks import Block, Figures, Page, Part, Section, Words
from subtone.evaluation.report.clips import Clips
from subtone.evaluation.report.exports import csv_text, latex_text
from subtone.evaluation.report.pairs import paired_tests
from subtone.evaluation.report.read import Run, Study, read_folders
from subtone.evaluation.report.render import html
from subtone.evaluation.report.run_part import run_part
from subtone.evaluation.report.study_part import study_part
from subtone.evaluation.results import file_names

MOST_FOLDERS = 20


def write_report(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    audio: Sequence[str | Path] = (),
    title: str | None = None,
    tables: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML file about one or several results; it stands alone and asks the network for nothing.

    Parameters
    ----------
    runs
        Result folders of ``subtone recipe run``, and folders of studies.
    out
        The file, ``.html``.
    audio
        Folders with the recordings, for those that are to be heard.
    title
        Of the page; by default it follows from what is shown.
    tables
        A folder into which every table goes, as CSV and as LaTeX.
    overwrite
        Replace an earlier page, and tables of the same names.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If a folder holds no result, or a file or folder is in use or cannot be written.
    """
    target = Path(out)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"{target}: a report is an HTML file; name it e.g. {target.with_suffix('.html').name}"
        )
    if target.is_dir() or ((target.exists() or target.is_symlink()) and not overwrite):
        raise UsageError(f"{target}: exists; name another file, or pass --overwrite to replace it")
    folder = None if tables is None else Path(tables)
    if folder is not None:
        _refuse_tables(folder, overwrite=overwrite)
    if len(runs) > MOST_FOLDERS:
        raise UsageError(f"{len(runs)} results; one page shows up to {MOST_FOLDERS}")
    roots = [Path(one).expanduser() for one in audio]
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder; name one with the recordings, or leave it away")
    page = page_of(read_folders(runs), Clips(roots), title)
    _write(target, html(page))
    if folder is not None:
        _write_tables(page, folder)
    return target


def page_of(results: Sequence[Run | Study], clips: Clips, title: str | None = None) -> Page:
    """What the page holds.

    Parameters
    ----------
    results
        Runs and studies, in the order of the page.
    clips
        Where recordings come from.
    title
        Of the page.
    """
    runs = [one for one in results if isinstance(one, Run)]
    tests, remarks = paired_tests(runs)
    parts: list[Part] = []
    if len(runs) > 1:
        cautions = words.cautions_between(runs)
        blocks: list[Block] = [Words(tuple(cautions), caution=True)] if cautions else []
        blocks.append(Words(tuple(words.between_runs(runs, tests))))
        blocks.append(Figures(run_tables.systems_table(runs, "all-")))
        made = [test for test in tests if test.run is None]
        paired: list[Block] = [Words(tuple(remarks))]
        if made:
            paired.append(Figures(run_tables.tests_table(made, "between-", "Paired tests between runs")))
        sections = (
            Section("summary", "All runs", tuple(blocks)), Section("tests", "Runs compared", tuple(paired))
        )  # fmt: skip
        parts.append(Part("all", "All runs together", "", sections))
    for number, one in enumerate(results, 1):
        key, prefix = ("one", "") if len(results) == 1 else (f"part{number}", f"{number}-")
        if isinstance(one, Run):
            parts.append(run_part(one, tests, clips, key=key, prefix=prefix))
        else:
            parts.append(study_part(one, key=key, prefix=prefix))
    if title is None:
        title = _title(results)
    about = parts[0].about if len(parts) == 1 else ", ".join(one.name for one in results)
    return Page(title, about, tuple(parts))


def _title(results: Sequence[Run | Study]) -> str:
    if len(results) > 1:
        return f"{len(results)} results"
    (one,) = results
    if isinstance(one, Study):
        return one.findings.title
    recipe, corpus = one.record.get("recipe"), one.record["protocol"].get("corpus")
    return f"{recipe} on {corpus}" if isinstance(recipe, str) and isinstance(corpus, str) else one.name


def _write(target: Path, text: str) -> None:
    building = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with building.open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        building.replace(target)
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written ({error.strerror or error}); make room, or name another file"
        ) from error
    finally:
        building.unlink(missing_ok=True)


def _refuse_tables(folder: Path, *, overwrite: bool) -> None:
    if folder.is_dir():
        if any(folder.iterdir()) and not overwrite:
            raise UsageError(f"{folder}: the folder is not empty; name another, or pass --overwrite")
    elif folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder}: exists and is no folder; name another")


def _write_tables(page: Page, folder: Path) -> None:
    each: Mapping[str, object] = {table.name: table for table in page.tables()}
    names = file_names(each)
    for table in page.tables():
        _write(folder / f"{names[table.name]}.csv", csv_text(table))
        _write(folder / f"{names[table.name]}.tex", latex_text(table))
