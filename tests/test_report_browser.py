"""A report in Chromium, where that is installed: it fits a phone, runs its script, and asks for nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from subtone.evaluation.report import write_report
from tests.report_cases import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Measured inside the page by a script of the test's own, which needs the policy out of the way.
MEASURE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  const root = document.documentElement;
  root.dataset.wide = `${root.scrollWidth} ${root.clientWidth}`;
  root.dataset.sorted = document.querySelectorAll("thead button").length;
  root.dataset.asked = performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).length;
});</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")
def test_the_page_fits_a_phone_and_its_script_runs(tmp_path: Path) -> None:
    long = "system_" + "x" * 120
    run = write_run(
        tmp_path / "run", {long: 0.4, "sap": 2.0}, files=[f"{'y' * 150}{n}.wav" for n in range(60)]
    )
    page = write_report([run], tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace("</body>", MEASURE)
    (tmp_path / "measured.html").write_text(text, encoding="utf-8")
    frame = '<iframe src="measured.html" width="375" height="800"></iframe>'  # Chromium's windows are 500 wide or more
    (tmp_path / "phone.html").write_text(
        f"<!doctype html>{frame}<script>onload = () => {{ const it = frames[0].document.documentElement.dataset; "
        "document.title = `${it.wide} ${it.sorted} ${it.asked}`; }</script>"
    )
    assert CHROMIUM is not None
    ended = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
         (tmp_path / "phone.html").as_uri()],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    found = re.search(r"<title>(\d+) (\d+) (\d+) (\d+)</title>", ended.stdout)
    assert found, ended.stderr[-500:]
    wide, there, buttons, asked = map(int, found.groups())
    assert there <= 375
    assert wide <= there
    assert buttons > 3
    assert asked == 0
