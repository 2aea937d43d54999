"""Cells of studies: done once, kept whole, taken up again, side by side, and one that fails stops no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from subtone.errors import StoreError, UsageError
from subtone.studies.cells import Cell, path_of, read_outcome
from subtone.studies.pool import run_cells
from tests import study_cells


def cells(trace: Path, *values: int) -> list[Cell]:
    counted = [
        Cell(f"part/{value}", study_cells.count, {"value": value, "trace": str(trace)}) for value in values
    ]
    names = [cell.name for cell in counted]
    return [*counted, Cell("all", study_cells.total, {"of": names}, needs=tuple(names))]


def calls(trace: Path) -> list[str]:
    return trace.read_text().split() if trace.exists() else []


def test_a_cell_sees_what_it_needs(tmp_path: Path) -> None:
    found, missing = run_cells(cells(tmp_path / "trace", 1, 2, 3), tmp_path / "work", jobs=1)
    assert found["all"].values["value"] == 6
    assert found.array("part/3", "row").tolist() == [0, 1, 2]
    assert missing == ()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    run_cells(cells(trace, 1, 2), tmp_path / "work", jobs=1)
    run_cells(cells(trace, 1, 2, 3), tmp_path / "work", jobs=1)
    assert calls(trace) == ["1", "2", "3"]


def test_other_arguments_make_another_cell_and_all_that_need_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    run_cells(cells(tmp_path / "trace", 1, 2), work, jobs=1)
    before = read_outcome(path_of(work, "all")).values
    changed = cells(tmp_path / "trace", 1, 2)
    changed[1] = Cell("part/2", study_cells.count, {"value": 5, "trace": str(tmp_path / "trace")})
    found, _ = run_cells(changed, work, jobs=1)
    assert (before["value"], found["all"].values["value"]) == (3, 6)


def test_a_damaged_outcome_is_computed_anew(tmp_path: Path) -> None:
    trace, work = tmp_path / "trace", tmp_path / "work"
    run_cells(cells(trace, 1), work, jobs=1)
    path_of(work, "part/1").write_bytes(b"half")
    run_cells(cells(trace, 1), work, jobs=1)
    assert calls(trace) == ["1", "1"]
    path_of(work, "part/1").write_bytes(b"half")
    with pytest.raises(StoreError, match="delete it"):
        read_outcome(path_of(work, "part/1"))


def test_a_cell_that_fails_is_named_and_stops_only_those_that_need_it(tmp_path: Path) -> None:
    given = [
        Cell("bad", study_cells.fail, {}),
        Cell("worse", study_cells.crash, {}),
        *cells(tmp_path / "trace", 4),
        Cell("after", study_cells.total, {"of": ["bad"]}, needs=("bad",)),
    ]
    found, missing = run_cells(given, tmp_path / "work", jobs=1)
    assert found["all"].values["value"] == 4
    told = {one.cell: one.message for one in missing}
    assert told["bad"] == "the clip is silent; leave it out"
    assert "ZeroDivisionError" in told["worse"]
    assert "study_cells.py" in told["worse"]
    assert told["after"] == "needs bad, which failed"
    assert not path_of(tmp_path / "work", "bad").exists()


def test_side_by_side_gives_the_same_in_other_processes(tmp_path: Path) -> None:
    found, missing = run_cells(
        [*cells(tmp_path / "trace", 1, 2, 3), Cell("bad", study_cells.fail, {})], tmp_path / "work", jobs=2
    )
    assert found["all"].values["value"] == 6
    assert [one.cell for one in missing] == ["bad"]
    processes = {found[f"part/{n}"].values["process"] for n in (1, 2, 3)}
    assert os.getpid() not in processes


def test_the_time_remaining_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    run_cells(
        cells(tmp_path / "trace", 1, 2),
        tmp_path / "work",
        jobs=1,
        on_progress=lambda s, _d, _t: told.append(s),
    )
    assert told[0] == "0 of 3 cells"
    assert told[1].startswith("1 of 3 cells, under a minute left")
    assert told[-1] == "3 of 3 cells"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Cell("a", study_cells.fail, {}), Cell("a", study_cells.fail, {})], "two cells"),
        ([Cell("a", study_cells.fail, {}, needs=("b",))], "does not stand before it"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(tmp_path: Path, given: list[Cell], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_cells(given, tmp_path, jobs=1)


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="jobs = 0"):
        run_cells([], tmp_path, jobs=0)


def test_an_outcome_keeps_the_order_of_its_arrays(tmp_path: Path) -> None:
    from subtone.studies.cells import Outcome, write_outcome

    array = np.arange(6.0).reshape(2, 3).T  # not one block in its own order
    write_outcome(tmp_path / "one.safetensors", Outcome({}, {"a": array}), "identity", 1.0)
    assert np.array_equal(read_outcome(tmp_path / "one.safetensors").arrays["a"], array)


def test_workers_end_with_a_study_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from subtone.studies.cells import Cell\n"
        "from subtone.studies.pool import run_cells\n"
        "from tests import study_cells\n"
        "if __name__ == '__main__':\n"
        "    given = [\n"
        "        Cell(str(n), study_cells.linger, {'begun': f'{sys.argv[1]}/{n}', 'seconds': 60}) for n in (1, 2)\n"
        "    ]\n"
        "    run_cells(given, Path(sys.argv[1]) / 'work', jobs=2)\n"
    )
    (tmp_path / "study.py").write_text(script)
    root = Path(__file__).parents[1]
    paths = os.pathsep.join([str(root), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "study.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        _wait(lambda: (tmp_path / "1").exists() and (tmp_path / "2").exists())
        process.send_signal(signal.SIGKILL)
        process.wait()
        _wait(lambda: not _group(process.pid))
    finally:
        if _group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def _group(leader: int) -> list[int]:
    """Processes of a session that still compute."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def _wait(until: object, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def test_no_name_leaves_the_folder_or_meets_another(tmp_path: Path) -> None:
    names = ["a/../../b", "a/b", "a b", "a_b", "a/.", "a/%2E", "ä"]
    paths = [path_of(tmp_path, name) for name in names]
    assert len({str(path) for path in paths}) == len(names)
    for path in paths:
        assert ".." not in path.parts
        assert path.is_relative_to(tmp_path)


def test_what_a_killed_writer_left_is_swept_up(tmp_path: Path) -> None:
    left = tmp_path / "work" / "part" / ".1.safetensors.123"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    run_cells(cells(tmp_path / "trace", 1), tmp_path / "work", jobs=1)
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    with pytest.raises(StoreError, match="name another folder"):
        run_cells(cells(tmp_path / "trace", 1), tmp_path / "work", jobs=1)
