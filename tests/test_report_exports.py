"""Tables of a report: CSV that is read back as it was, LaTeX that compiles whatever the names are."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from urllib.parse import unquote

from subtone.evaluation import read_metrics
from subtone.evaluation.findings import Measure, Table
from subtone.evaluation.report import write_report
from subtone.evaluation.report.exports import csv_text, latex_escaped, latex_text
from tests.report_cases import Seen, write_run

TRICKY = ("a,b", 'c"d', "e\nf", "g_h & 50 % $x$ #1 {y} ~ ^ \\z", "=1+1", "ü − ≤")


def test_csv_reads_back_as_it_was_written() -> None:
    rows = tuple((name, Measure(1 / 3, -0.5, 2.0), 7, None) for name in TRICKY)
    text = csv_text(Table("t", "T", ("name, with comma", "UA", "n", "none"), rows))
    back = list(csv.reader(io.StringIO(text)))
    assert back[0] == ["name, with comma", "UA", "UA low", "UA high", "n", "none"]
    assert [row[0] for row in back[1:]] == list(TRICKY)
    assert all(
        float(row[1]) == 1 / 3 and float(row[2]) == -0.5 and row[4] == "7" and row[5] == ""
        for row in back[1:]
    )


def test_figures_that_are_none_are_empty_cells() -> None:
    rows = (("a", float("nan"), Measure(float("inf"))),)
    assert list(csv.reader(io.StringIO(csv_text(Table("t", "T", ("x", "y", "z"), rows)))))[1] == ["a", "", ""]


def test_latex_leaves_no_special_character_unescaped() -> None:
    text = latex_escaped("".join(TRICKY))
    bare = re.sub(r"\\[a-zA-Z]+\{\}|\\[&%$#_{}]|\$\\[a-zA-Z]+\$|\$-\$", "", text)
    assert not re.search(r"[\\&%$#_{}~^]", bare)


def test_latex_has_booktabs_and_as_many_cells_as_columns() -> None:
    table = Table(
        "my_table",
        "UA & WA",
        ("system", "UA %"),
        (("[a]", Measure(71.25, 66.0, 75.5)), ("b_c", None)),
        "50 %",
    )
    text = latex_text(table)
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}", r"\caption{UA \& WA}",
                 r"\label{tab:my-table}", r"{[a]} & 71.2 (66.0 to 75.5) \\", r"b\_c & -- \\", r"50 \%"):  # fmt: skip
        assert part in text


def test_every_table_of_the_page_can_be_had_and_lies_in_the_folder_too(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", slices=True)
    page = Seen(
        write_report([run], tmp_path / "p.html", tables=tmp_path / "tables").read_text(encoding="utf-8")
    )
    links = {one["download"]: one["href"] for one in page.all("a") if "download" in one}
    on_disk = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "tables").iterdir()}
    assert links.keys() == on_disk.keys()
    for name, address in links.items():
        assert address is not None
        head, _, body = address.partition(",")
        assert (
            head == f"data:{'text/csv' if str(name).endswith('.csv') else 'application/x-tex'};charset=utf-8"
        )
        assert unquote(body) == on_disk[str(name)]
    assert len(page.all("table")) == len(links) / 2


def test_exported_figures_are_those_that_were_measured(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_report([run], tmp_path / "p.html", tables=tmp_path / "tables")
    with (tmp_path / "tables" / "systems.csv").open(encoding="utf-8", newline="") as handle:
        rows = {row["system"]: row for row in csv.DictReader(handle)}
    _, systems, comparisons = read_metrics(run)
    for name, one in systems.items():
        assert float(rows[name]["UA %"]) == 100 * one.ua
        assert float(rows[name]["UA % high"]) == 100 * one.ua_ci[1]
    with (tmp_path / "tables" / "tests.csv").open(encoding="utf-8", newline="") as handle:
        (test,) = csv.DictReader(handle)
    assert float(test["p"]) == comparisons[0].p
