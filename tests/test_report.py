"""A report is one file that asks for nothing, injects nothing, and says what cannot be shown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import subtone
from subtone.errors import UsageError
from subtone.evaluation.findings_page import write_findings
from subtone.evaluation.report import write_report
from subtone.evaluation.report.clips import MOST_BYTES, Clips, opus
from tests.report_cases import RATE, Seen, write_recordings, write_run
from tests.test_findings_page import FINDINGS

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>' {{ 7*7 }}&amp;"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "toy", slices=True)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("audio") / "toy")


def page_of(*runs: Path, out: Path, **options: object) -> Seen:
    path = write_report(list(runs), out / "page.html", overwrite=True, **options)  # type: ignore[arg-type]
    return Seen(path.read_text(encoding="utf-8"))


def test_nothing_is_fetched_from_anywhere(run: Path, recordings: Path, tmp_path: Path) -> None:
    page = page_of(run, out=tmp_path, audio=[recordings])
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "poster", "srcset", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
        assert "url(" not in (attributes.get("style") or "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style is not None
    assert not re.search(r"url\(|@import|http", style.group(1))


def test_the_policy_lets_the_one_script_run_and_nothing_else(run: Path, tmp_path: Path) -> None:
    page = page_of(run, out=tmp_path)
    (policy,) = [
        one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "connect-src" not in policy  # so 'none' holds


def test_the_page_has_landmarks_headings_in_order_and_tables_that_say_what_they_are(
    run: Path, tmp_path: Path
) -> None:
    page = page_of(run, out=tmp_path)
    names = [tag for tag, _ in page.tags]
    assert names.count("main") == names.count("h1") == names.count("nav") == 1
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag in names if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert names.count("caption") == names.count("table")
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    regions = [one for one in page.all("div") if one.get("class") == "scroll"]
    assert all(one["role"] == "region" and one["tabindex"] == "0" and one["aria-label"] for one in regions)
    pictures = [one for one in page.all("svg") if one.get("aria-hidden") != "true"]
    assert pictures
    assert all(one["role"] == "img" and one["aria-label"] for one in pictures)
    identifiers = [one["id"] for _, one in page.tags if "id" in one]
    assert len(set(identifiers)) == len(identifiers)


def test_names_labels_and_files_cannot_inject(tmp_path: Path) -> None:
    files = [f"{number}{HOSTILE}.wav" for number in range(60)]
    labels = (f"anger{HOSTILE}", "b\u202ec\x07", "sadness")
    run = write_run(
        tmp_path / "run", {f"gap{HOSTILE}": 0.1, "sap": 2.0}, labels=labels, files=files,
        protocol={"description": HOSTILE},
        extra={"upstream": {"name": HOSTILE}, "failed": [{"file": HOSTILE, "message": "m"}]},
    )  # fmt: skip
    page = page_of(run, out=tmp_path, title=HOSTILE)
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1
    assert "img" not in names
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in page.text
    assert "{{ 7*7 }}" in page.text
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search("[\u202e\x07]", text)


def test_the_surest_mistakes_can_be_heard(run: Path, recordings: Path, tmp_path: Path) -> None:
    page = page_of(run, out=tmp_path, audio=[recordings])
    sounds = page.all("audio")
    assert 1 <= len(sounds) <= 12
    for one in sounds:
        source = one["src"]
        assert source is not None
        head, _, body = source.partition(",")
        assert head == "data:audio/ogg;base64"
        wave = subtone.load_audio(base64.b64decode(body))
        assert abs(len(wave) - 0.6 * RATE) < 0.05 * RATE
        number = int(re.search(r"clip(\d+)", one["aria-label"] or "").group(1))  # type: ignore[union-attr]
        heard = np.abs(np.fft.rfft(wave[2000:8192])).argmax() * RATE / 6192
        assert heard == pytest.approx(200 + 10 * number, abs=4)


def test_a_mistake_stands_with_its_truth_answer_and_probabilities(run: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(run / "predictions.parquet").reset_index()
    mine = table[table["system"] == "sap"]
    mean = mine.groupby("file")[["anger", "happiness", "sadness"]].mean()
    truth = mine.groupby("file")["truth"].first()
    wrong = mean[mean.idxmax(axis=1) != truth]
    surest = wrong.max(axis=1).idxmax()
    page = page_of(run, out=tmp_path)
    told = page.text.partition("Surest mistakes")[2].partition("Surest mistakes")[2]
    first = told[: told.index("To hear it")]
    assert surest in first
    assert (
        f"{truth[surest]} taken for {wrong.loc[surest].idxmax()} , {100 * wrong.loc[surest].max():.0f} % sure"
        in first
    )


def test_recordings_that_are_not_there_are_told_with_the_way_out(run: Path, tmp_path: Path) -> None:
    assert "--corpus NAME=PATH or --audio DIR" in page_of(run, out=tmp_path).text
    (tmp_path / "empty").mkdir()
    page = page_of(run, out=tmp_path, audio=[tmp_path / "empty"])
    assert "Not found in the folders named" in page.text
    assert not page.all("audio")
    with pytest.raises(UsageError, match="no such folder"):
        write_report([run], tmp_path / "x.html", audio=[tmp_path / "nowhere"])


def test_a_name_never_leads_out_of_the_folders_named(recordings: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copy(recordings / "clip000.wav", tmp_path / "secret.wav")
    clips = Clips([inside])
    for name in ("../secret.wav", str(tmp_path / "secret.wav"), "a/../../secret.wav", "..\\secret.wav"):
        found = clips.get(name, 0.0, None)
        assert found.uri is None
        assert "Not found" in found.remark
    assert Clips([tmp_path]).get("secret.wav", 0.0, None).uri is not None


def test_files_are_found_above_and_below_the_folder_named(recordings: Path, tmp_path: Path) -> None:
    deep = tmp_path / "corpus" / "audio" / "one"
    shutil.copytree(recordings, deep)
    for root, name in ((tmp_path / "corpus", "one/clip001.wav"), (deep.parent, "audio/one/clip001.wav"),
                       (tmp_path / "corpus", "corpus/audio/one/clip001.wav")):  # fmt: skip
        assert Clips([root]).get(name, 0.0, None).uri is not None
    shutil.copytree(recordings, tmp_path / "corpus" / "again" / "one")
    assert Clips([tmp_path / "corpus"]).get("one/clip001.wav", 0.0, None).uri is None  # two are called so


def test_sound_is_cut_and_the_page_does_not_grow_beyond_bounds(tmp_path: Path) -> None:
    write_recordings(tmp_path / "long", clips=1, seconds=16.5)
    clips = Clips([tmp_path / "long"])
    found = clips.get("clip000.wav", 0.0, None)
    assert found.remark == "The first 15 seconds."
    assert found.uri is not None
    assert len(found.uri) < MOST_BYTES / 12
    assert len(subtone.load_audio(base64.b64decode(found.uri.partition(",")[2]))) <= 15.1 * RATE
    part = clips.get("clip000.wav", 1.0, 1.5)
    assert part.remark == ""
    assert part.uri is not None


def test_opus_of_a_single_sample_is_sound() -> None:
    assert len(subtone.load_audio(opus(np.zeros(1, dtype=np.float32)))) >= 1


def test_a_study_is_shown_with_all_that_it_found(tmp_path: Path) -> None:
    folder = write_findings(tmp_path / "study", FINDINGS, environment={"command": "subtone study sap"})
    page = page_of(folder, out=tmp_path)
    for told in ("Does SAP help?", "Which pooling?", "SAP wins.", "Four corpora.", "Acted speech only.",
                 "subtone study sap", "UA over layers", "Trained on, tested on", "chance"):  # fmt: skip
        assert told in page.text
    assert "ends in" not in page.text
    names = [one["download"] for one in page.all("a") if "download" in one]
    assert {"systems.csv", "systems.tex", "layers.csv", "cross.csv"} <= set(names)


@pytest.mark.parametrize(
    "shape",
    [
        {"labels": ("anger",), "systems": {"one": 1.0}},
        {"folds": 1},
        {"folds": 60},
        {"speakers": None},
        {"speakers": 1},
        {
            "systems": {f"system {number} " + "x" * 90: number / 9 for number in range(20)},
            "clips": 24,
            "seeds": 1,
        },
        {"systems": {"perfect": 90.0}},
        {"clips": 3, "speakers": 3},
    ],
    ids=[
        "one class",
        "one fold",
        "60 folds",
        "no speakers",
        "one speaker",
        "20 systems",
        "no mistake",
        "3 clips",
    ],
)
def test_odd_results_give_a_page(shape: dict[str, object], tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", **shape), out=tmp_path)  # type: ignore[arg-type]
    assert "What came out" in page.text
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.text)


def test_an_old_result_without_answers_gives_a_page_that_says_so(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(run, folder)
    for name in ("predictions.parquet", "environment.json", "recipe.yaml"):
        (folder / name).unlink()
    record = json.loads((folder / "metrics.json").read_text())
    for name in ("slices", "calibration", "recipe"):
        record.pop(name, None)
    record["protocol"] = None
    record["systems"]["sap"]["ua_ci"] = [float("nan"), float("nan")]
    (folder / "metrics.json").write_text(json.dumps(record))
    page = page_of(folder, out=tmp_path)
    assert "no predictions.parquet" in page.text
    assert "Surest mistakes" not in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_broken_predictions_leave_the_rest(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(run, folder)
    (folder / "predictions.parquet").write_bytes(b"PAR1 but no more")
    assert "predictions.parquet cannot be read" in page_of(folder, out=tmp_path).text


def test_what_is_no_result_is_refused_in_a_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folders, message in (([], "no result named"), ([tmp_path / "nowhere"], "no such folder"),
                             ([tmp_path / "other"], "no result folder"), ([run, run], "named twice")):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            write_report(folders, tmp_path / "x.html")
    with pytest.raises(UsageError, match="HTML file"):
        write_report([run], tmp_path / "x.pdf")
    assert not (tmp_path / "x.html").exists()


def test_nothing_is_replaced_unasked_and_nothing_half_written_stays(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        write_report([run], page)
    assert page.read_text() == "mine"
    write_report([run], page, overwrite=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["page.html"]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x").write_text("x")
    page.unlink()
    with pytest.raises(UsageError, match="not empty"):
        write_report([run], page, tables=tmp_path / "tables")
    assert not page.exists()
