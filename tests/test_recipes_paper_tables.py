"""The papers' tables: published figures as they were found, ours beside them, and what differs in every row."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from subtone import corpora, recipes
from subtone.cli.entry import run as subtone
from subtone.errors import CorpusError, RecipeError, UsageError
from subtone.evaluation import evaluate, read_metrics
from subtone.evaluation.findings import Findings, Measure, Table, read_findings
from subtone.recipes.data import divide
from subtone.recipes.load import load, load_any
from subtone.recipes.paper_tables.differences import Setup, differences, in_words, not_known
from subtone.recipes.paper_tables.members import plan, tables_for
from subtone.recipes.paper_tables.published import Paper, PublishedTable, paper, papers
from subtone.recipes.paper_tables.schema import PaperTables
from subtone.recipes.paper_tables.setups import setup_of
from tests import synthetic
from tests.test_corpora_iemocap import plant

#: Settings with which members run in a second or two.
TINY = (
    "effort=quick",
    "settings.all.detector={name: energy, options: {min_speech_s: 0.03, min_silence_s: 0.03, speech_pad_s: 0.0}}",
    "settings.all.evaluation={resamples: 100, permutations: 100}",
    "settings.all.protocol={dev_share: 0.4}",
)
SAP = (*TINY, "papers=[hyeon-2024, superb]", "settings.sap.training={components: 8, hidden: 8}")
ROW = Setup(
    "iemocap",
    classes=("anger", "happiness", "neutral", "sadness"),
    clips=5531,
    speakers=10,
    folds="leave-one-session-out",
    num_folds=5,
    dev="random",
    dev_share=0.2,
    speaker_dependent=False,
    upstream="HuBERT",
    models=("hubert-base*",),
    tuned="fine-tuned",
    layers="the last",
)
OURS = replace(ROW, upstream="facebook/hubert-base-ls960", models=())


def run(given: Mapping[str, Path], out: Path, *overrides: str, **options: Any) -> Findings:
    folder = recipes.run("paper-tables", given, out=out, overrides=overrides, **options)
    assert folder == out
    return read_findings(out)


def table(findings: Findings, name: str) -> Table:
    (found,) = (one for one in findings.tables if one.name == name)
    return found


def cells(one: Table, first: str) -> dict[str, Any]:
    (row,) = (row for row in one.rows if row[0] == first)
    return dict(zip(one.columns, row, strict=True))


def states(findings: Findings) -> dict[str, str]:
    return {one["name"]: one["state"] for one in findings.settings["runs"]}


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.manifest(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of tones in the layout of IEMOCAP, every speaker with every one of the four classes."""
    codes = {"ang": "anger", "exc": "happiness", "sad": "sadness", "neu": "neutral"}
    voices = {**synthetic.VOICES, "neutral": (300.0, 0.1)}
    turns = {
        f"Ses0{session}F_impro01_{speaker}{number:03d}": code
        for session in (1, 2)
        for speaker in "FM"
        for number, code in enumerate(codes)
    }
    root = plant(tmp_path_factory.mktemp("corpora") / "IEMOCAP_full_release", turns)
    for number, (turn, code) in enumerate(turns.items()):
        (path,) = root.rglob(f"{turn}.wav")
        path.unlink()  # a link to the one that all turns are
        synthetic.write(path, synthetic.utterance(0.5, *voices[codes[code]], seed=number))
    return root


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What was said while the finished tables were made."""
    return []


@pytest.fixture(scope="module")
def finished(tones: Path, iemocap: Path, told: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tables"
    run(
        {"manifest": tones, "iemocap": iemocap},
        out,
        *SAP,
        on_progress=lambda what, _done, _total: told.append(what),
    )
    return out


def copy_of(finished: Path, folder: Path) -> Path:
    """Tables of which a test may make what it likes."""
    return shutil.copytree(finished, folder / "tables")


# What is known of the papers


def every_table() -> list[tuple[Paper, PublishedTable]]:
    return [(paper(name), one) for name in papers() for one in paper(name).tables]


def test_every_published_figure_has_a_tag_and_a_source() -> None:
    assert {"hyeon-2024", "liu-ma-2024", "morais-2022", "soltani-tehrani-2023"} <= set(papers())
    for name in papers():
        assert paper(name).name == name
        for setup in paper(name).setups.values():
            assert setup.source
            assert all(tag != "not found" for tag in setup.known.values())
    figures = 0
    for _, one in every_table():
        for row in one.rows:
            figures += row.any_figure
            assert one.source_of(row)
            assert (one.tag_of(row) == "not found") == (not row.any_figure)
            named = {*row.wa} if isinstance(row.wa, dict) else set()
            assert named <= set(one.corpora or ())
        for claim in one.claims:
            assert one.source_of(claim)
            assert one.tag_of(claim) != "not found"
    assert figures > 40


def test_no_figure_stands_where_none_was_found() -> None:
    for name in ("hyeon-2024", "soltani-tehrani-2023"):
        one = paper(name).tables[0]
        assert not any(row.any_figure for row in one.rows)
    (gain,) = paper("hyeon-2024").tables[0].claims
    assert (gain.figure("ua"), gain.figure("wa")) == ("+0.43 % relative", "+0.64 % relative")
    assert gain.tag == "second-hand"
    masked = [row for row in paper("liu-ma-2024").tables[0].rows if row.labels[1] == "EMS"]
    assert len(masked) == 2
    assert not any(row.any_figure for row in masked)


def test_the_gains_of_morais_are_differences_of_its_rows() -> None:
    one = paper("morais-2022").tables[0]
    rows = {row.labels[0]: row for row in one.rows}
    assert len(rows) == 11
    assert rows["7"].figure("wa", "ravdess") == "77.07"
    for claim in one.claims:
        more, less = claim.labels[0].split(" less ")
        for measure in ("ua", "wa"):
            wanted = float(getattr(rows[more], measure)) - float(getattr(rows[less], measure))
            assert float(getattr(claim, measure)) == pytest.approx(wanted, abs=1e-9)


def test_members_and_systems_of_every_row_are_there() -> None:
    known = load_any("paper-tables")
    assert isinstance(known, PaperTables)
    for upstreams in ("null", "[a/wav2vec2-base, b/hubert-base]", "b/hubert-base"):
        tables = load_any("paper-tables", [f"upstream={upstreams}"])
        assert isinstance(tables, PaperTables)
        planned = plan(tables, {"shemo": "x", "iemocap": "y"})
        systems = {one.member: one.recipe.system_names for one in planned.runs}
        for _, one in every_table():
            assert set(one.members) <= set(known.members)
            for ours in (one.by_upstream, *(row.ours for row in one.rows)):
                assert all(name in systems[member] for member, name in ours.items() if member in systems)
            for claim in one.claims:
                for member, pair in claim.ours.items():
                    if member in systems:
                        recipe = next(run.recipe for run in planned.runs if run.member == member)
                        assert tuple(pair) in [tuple(compared) for compared in recipe.compare]


# Differences


def test_what_differs_in_nothing_is_called_the_same() -> None:
    assert in_words(OURS, ROW) == "same"
    assert in_words(OURS, replace(ROW, clips=None, layers=None)) == (
        "same as far as is known; not found of the paper: number of clips, layers"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"corpus": "ravdess"}, "other corpus: ravdess, not iemocap"),
        ({"classes": ("anger", "fear")}, "2 classes, not 4"),
        (
            {"classes": ("anger", "fear", "neutral", "sadness")},
            "classes anger, fear, neutral, sadness, not anger, happiness, neutral, sadness",
        ),
        ({"clips": 1440}, "1,440 clips, not 5,531"),
        ({"speakers": 24}, "24 speakers, not 10"),
        ({"num_folds": 4}, "4 folds of one session each, not 5"),
        (
            {"folds": "group-k-fold"},
            "5 folds of several speakers each, not 5 folds of one session each",
        ),
        (
            {"dev_share": 0.1},
            "development: 10 % of training clips at random, not 20 % of training clips at random",
        ),
        ({"dev": "none"}, "development: none, not 20 % of training clips at random"),
        ({"speaker_dependent": True}, "test speakers are heard in training, the paper's are not"),
        ({"upstream": "subtone-mini:speech"}, "upstream subtone-mini:speech, not HuBERT"),
        ({"upstream": "/models/distilhubert"}, "upstream /models/distilhubert, not HuBERT"),
        ({"tuned": "frozen"}, "upstream frozen, not fine-tuned"),
        ({"layers": "a learned mix of all"}, "layers: a learned mix of all, not the last"),
        ({"remarks": ("QUICK",)}, "QUICK"),
    ],
)
def test_each_difference_is_told_alone_and_in_words(change: dict[str, Any], told: str) -> None:
    ours = replace(OURS, **change)
    assert differences(ours, ROW) == (told,)
    assert in_words(ours, ROW) == told


def test_of_joined_upstreams_each_must_be_the_papers() -> None:
    theirs = replace(ROW, upstream="A + HuBERT", models=("a", "hubert-base*"))
    assert differences(replace(OURS, upstream="x/a + hubert-base-ls960"), theirs) == ()
    for other in ("a + distilhubert", "hubert-base-ls960"):
        assert differences(replace(OURS, upstream=other), theirs) == (f"upstream {other}, not A + HuBERT",)


def test_a_paper_that_shares_speakers_is_told_from_one_that_does_not() -> None:
    theirs = replace(ROW, speaker_dependent=True)
    assert differences(OURS, theirs) == ("test speakers are not heard in training, the paper's are",)
    assert differences(replace(OURS, speaker_dependent=True), theirs) == ()
    assert not_known(OURS, replace(ROW, speaker_dependent=None)) == ("whether speakers are kept apart",)


def test_on_the_real_names_of_iemocap_only_the_upstream_differs_from_morais(
    shared: Path, tmp_path: Path
) -> None:
    with gzip.open(shared / "data/emobox/iemocap.csv.gz", "rt", encoding="utf-8") as file:
        turns = {Path(line["wav"]).stem: line["label"] for line in csv.DictReader(file)}
    root = plant(tmp_path / "IEMOCAP_full_release", turns, ".flac")
    recipe = load("e2e-ecapa", ["protocol.leaks=[]"])  # every clip here is the same 10 ms
    given = {"iemocap": root}
    split = divide(recipe, given, corpora.read("iemocap", root))
    truth = split.table["emotion"].to_numpy(object)
    evaluation = evaluate(truth, truth, split.protocol.classes, resamples=1)
    fold = {"fold1-seed0": {"upstreams": {"subtone-mini:speech": {}}}}
    record = {"protocol": split.protocol.to_dict(), "finetuning": fold}
    ours = setup_of(record, recipe, "ecapa", evaluation)
    row = paper("morais-2022").tables[0].rows[4]
    assert in_words(ours, paper("morais-2022").setup_for("iemocap", row)) == (
        "upstream subtone-mini:speech, not wav2vec 2.0 (robust)"
    )
    robust = replace(ours, upstream="facebook/wav2vec2-large-robust")
    assert in_words(robust, paper("morais-2022").setup_for("iemocap", row)) == "same"


# The recipe


def test_the_recipe_is_listed_shown_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "paper-tables" in recipes.names()
    assert subtone(["recipe", "show", "paper-tables"]) == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_any(path) == load_any("paper-tables")
    assert subtone(["recipe", "list"]) == 0
    assert "published figures beside ours" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="has no system of its own; name one of those: sap, "):
        load("paper-tables")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("efort=quick", "unknown key 'efort'; did you mean 'effort'"),
        ("effort=fast", "'full' or 'quick'"),
        ("papers=[hyeon]", "no paper 'hyeon'; did you mean 'hyeon-2024'"),
        ("papers=[]", "'papers'"),
        ("papers=[superb, superb]", "one stands there twice"),
        ("settings.sa.seeds=[0]", "no member 'sa'; did you mean 'sap'"),
        ("settings.sap.training.stps=3", "did you mean 'steps'"),
        ("settings.all.networks.x=null", "nothing to take away"),
        ("members.sap.quik=[]", "did you mean 'quick'"),
        ("members.e2e-pair.instead_of=[e2]", "no member 'e2'; did you mean 'e2e'"),
        ("members.a/b={recipe: sap}", "cannot be part of a folder's name"),
        ("members.sap.recipe=spa", "did you mean 'sap'"),
        ("upstream=[a, a]", "the same one stands there twice"),
        ("upstream=[a, b, c]", "'upstream'"),
        ("protocol.k=3", "unknown key 'protocol'"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_before_anything_is_run(
    setting: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=told):
        run({"manifest": tmp_path / "no.csv"}, tmp_path / "out", setting)
    assert not (tmp_path / "out").exists()


def test_what_is_asked_for_decides_what_is_run() -> None:
    def names(*overrides: str, corpus: str = "ravdess") -> list[str]:
        tables = load_any("paper-tables", overrides)
        assert isinstance(tables, PaperTables)
        return [one.member for one in plan(tables, {corpus: "x"}).runs]

    assert names("papers=[hyeon-2024]") == ["sap"]
    assert names("papers=[superb]") == [], "SUPERB has IEMOCAP alone"
    assert names("papers=[superb]", corpus="iemocap") == ["sap"]
    assert names("papers=[liu-ma-2024]") == ["ems-npc", "ems-mockingjay"]
    assert names("papers=[morais-2022]") == ["e2e-filterbank", "e2e"]
    assert names("papers=[morais-2022]", "upstream=x/hubert-base") == ["e2e-filterbank", "e2e-hubert"]
    assert names("papers=[morais-2022]", "upstream=[x, y]") == ["e2e-filterbank", "e2e-pair"]
    assert names("papers=[morais-2022]", "members.e2e=null") == ["e2e-filterbank"]


def test_two_upstreams_stand_in_the_rows_of_their_kind() -> None:
    tables = load_any("paper-tables", ["papers=[morais-2022]", "upstream=[x/hubert-base, x/wav2vec2-base]"])
    assert isinstance(tables, PaperTables)
    pair = plan(tables, {"ravdess": "x"}).runs[-1]
    assert pair.recipe.upstreams == ("x/wav2vec2-base", "x/hubert-base")
    assert len(pair.recipe.networks) == 8


def test_leaderboards_are_made_for_their_corpora_alone() -> None:
    tables = load_any("paper-tables")
    assert isinstance(tables, PaperTables)

    def names(corpus: str) -> set[str]:
        return {name for name, _ in tables_for(tables, corpus)}

    assert {"superb", "emobox"} <= names("iemocap")
    assert names("berlin") == names("emodb") == names("iemocap") - {"superb"}
    assert names("manifest") == names("emodb") - {"emobox"}


# What comes of it


def test_the_folder_is_that_of_a_study_with_the_papers_rows(finished: Path) -> None:
    findings = read_findings(finished)
    names = {path.name for path in finished.iterdir()}
    assert {"study.json", "README.md", "runs.csv", "recipe.yaml", "runs"} <= names
    assert not any(name.startswith(".") for name in names)
    assert {path.name for path in (finished / "runs").iterdir()} >= {"sap-manifest", "sap-iemocap"}
    assert states(findings) == {"sap-manifest": "run", "sap-iemocap": "run"}
    ours = table(findings, "hyeon-2024-poolings-manifest")
    assert [row[0] for row in ours.rows] == ["GAP", "SAP", "GAP + SAP", "gain of GAP + SAP"]
    row = cells(ours, "GAP + SAP")
    assert row["UA % published"] == row["WA % published"] == row["source"] == "not found"
    record, systems, _ = read_metrics(finished / "runs" / "sap-manifest")
    assert record["recipe"] == "sap"
    assert isinstance(row["UA % here"], Measure)
    assert row["UA % here"].value == pytest.approx(100 * systems["gap+sap"].ua)
    assert row["run here"] == "sap-manifest: gap+sap"
    gain = cells(ours, "gain of GAP + SAP")
    assert gain["UA % published"] == "+0.43 % relative"
    assert gain["source"].startswith("second-hand")
    assert "ours over GAP" in gain["in what ours differs"]


def test_every_row_of_ours_says_in_what_it_differs_and_that_it_was_quick(finished: Path) -> None:
    findings = read_findings(finished)
    told = cells(table(findings, "hyeon-2024-poolings-manifest"), "GAP")["in what ours differs"]
    for part in (
        "other corpus: manifest, not iemocap",
        "4 folds of one speaker each, not 10",
        "upstream fbank+deltas, not one of wav2vec 2.0, HuBERT, WavLM",
        "not found of the paper: classes, number of clips",
    ):
        assert part in told
    on_iemocap = cells(table(findings, "hyeon-2024-poolings-iemocap"), "GAP")["in what ours differs"]
    assert "other corpus" not in on_iemocap
    for one in findings.tables:
        for row in one.rows:
            if one.name != "runs" and dict(zip(one.columns, row, strict=True))["run here"] is not None:
                assert "QUICK EFFORT" in str(row[-1])
    assert any("EFFORT QUICK" in limit for limit in findings.limits)
    assert "EFFORT QUICK" in findings.conclusions[0]
    page = (finished / "README.md").read_text(encoding="utf-8")
    assert "| GAP | not found | not found |" in page


def test_ours_stands_in_the_leaderboard_s_row_of_its_upstream(finished: Path) -> None:
    board = table(read_findings(finished), "superb-frozen-iemocap")
    row = cells(board, "filter banks")
    assert row["WA % published"] == "48.24"
    assert row["run here"] == "sap-iemocap: gap"
    assert "4 folds of one speaker each, not 5 folds of one session each" in row["in what ours differs"]
    assert "upstream" not in row["in what ours differs"]
    other = cells(board, "WavLM large")
    assert other["WA % here"] is None
    assert other["in what ours differs"] == "not run: the upstream at hand is another"


def test_a_second_call_runs_nothing_anew(finished: Path, tones: Path, iemocap: Path) -> None:
    made = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("metrics.json")}
    before = read_findings(finished)
    told: list[str] = []
    again = run(
        {"manifest": tones, "iemocap": iemocap},
        finished,
        *SAP,
        on_progress=lambda what, _done, _total: told.append(what),
    )
    assert states(again) == {"sap-manifest": "taken", "sap-iemocap": "taken"}
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("metrics.json")} == made
    assert again.tables[:-1] == before.tables[:-1]
    assert not any("extracting" in what for what in told)


def test_progress_tells_the_run_and_once_one_has_finished_how_long_the_others_take(
    finished: Path, told: list[str]
) -> None:
    assert finished.is_dir()
    assert any(what.endswith("sap-manifest, run 1 of 2") for what in told)
    assert any("sap-iemocap, run 2 of 2, about" in what and what.endswith("left in all") for what in told)


def test_runs_of_other_settings_are_refused_and_replaced_when_asked(
    finished: Path, tones: Path, tmp_path: Path
) -> None:
    given, out = {"manifest": tones}, copy_of(finished, tmp_path)
    changed = (*SAP, "settings.sap.training.steps=31", "settings.sap.systems.sap=null")
    with pytest.raises(UsageError, match=r"sap-manifest with another .*training\.steps.*--overwrite"):
        run(given, out, *changed)
    findings = run(given, out, *changed, overwrite=True)
    assert states(findings) == {"sap-manifest": "run"}
    assert load(out / "runs/sap-manifest/recipe.yaml").training.steps == 31
    row = cells(table(findings, "hyeon-2024-poolings-manifest"), "SAP")
    assert row["in what ours differs"] == "not run: settings have taken it away"
    assert not (out / "superb-frozen-iemocap.csv").exists(), "tables of the earlier call are gone"
    assert (out / "runs/sap-iemocap/metrics.json").is_file(), "its runs are not"


def test_a_folder_of_something_else_is_left_alone(finished: Path, tones: Path) -> None:
    for other in (tones.parent, finished / "runs" / "sap-manifest"):
        before = sorted(other.iterdir())
        with pytest.raises(UsageError, match="holds no tables of an earlier call"):
            run({"manifest": tones}, other, *SAP)
        assert sorted(other.iterdir()) == before


def test_a_run_that_is_broken_off_goes_on_with_the_same_call(
    finished: Path, tones: Path, iemocap: Path, tmp_path: Path
) -> None:
    given, out = {"manifest": tones, "iemocap": iemocap}, copy_of(finished, tmp_path)
    shutil.rmtree(out / "runs/sap-iemocap")
    (out / "study.json").unlink()

    def until_it_trains(what: str, _done: int, _total: int) -> None:
        if what.startswith("training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(given, out, *SAP, on_progress=until_it_trains)
    assert not (out / "study.json").exists()
    again = run(given, out, *SAP)
    assert states(again) == {"sap-manifest": "taken", "sap-iemocap": "run"}
    assert again.tables[:-1] == read_findings(finished).tables[:-1]


def test_a_member_that_fails_is_told_and_stops_no_other(
    finished: Path, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tones.read_text(encoding="utf-8").replace(",ses0,", ",,").replace(",ses1,", ",,")
    bare = tones.with_name("without-sessions.csv")
    bare.write_text(rows, encoding="utf-8")
    out = copy_of(finished, tmp_path)
    settings = [
        *(*SAP, "papers=[hyeon-2024, soltani-tehrani-2023]"),
        *("members.segment-cnn=null", "members.transfer-cnn=null"),
        "settings.svm-egemaps.protocol.folds=leave-one-session-out",
    ]
    line = ["recipe", "run", "paper-tables", "--corpus", f"manifest={bare}", "--out", str(out)]
    assert subtone([*line, *(part for one in settings for part in ("--set", one))]) == 1
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "svm-egemaps-manifest" in said.err
    assert "1 of 2 runs failed" in said.err
    findings = read_findings(out)
    assert states(findings) == {"sap-manifest": "taken", "svm-egemaps-manifest": "failed"}
    systems = table(findings, "soltani-tehrani-2023-systems-manifest")
    svm = cells(systems, "transfer from a pre-trained CNN")
    assert svm["in what ours differs"] == "not run: settings have taken it away"
    (egemaps,) = (row for row in systems.rows if row[1] == "eGeMAPS")
    assert str(egemaps[-1]).startswith("failed: ")
    assert "session" in str(egemaps[-1])
    assert any("svm-egemaps-manifest failed" in limit for limit in findings.limits)
    assert cells(table(findings, "hyeon-2024-poolings-manifest"), "GAP")["run here"] == "sap-manifest: gap"


def test_a_corpus_that_cannot_be_read_fails_its_runs_and_an_unknown_one_all(
    tones: Path, tmp_path: Path
) -> None:
    given = {"ravdess": tmp_path / "nowhere"}
    findings = run(given, tmp_path / "tables", *TINY, "papers=[hyeon-2024, morais-2022, emobox]")
    assert set(states(findings).values()) == {"failed"}
    rows = table(findings, "morais-2022-table-1-ravdess").rows
    assert len(rows) == 16
    assert str(rows[9][-1]).startswith("not run: text")
    assert rows[9][5:7] == ("69.34", "70.07")
    assert str(rows[6][-1]) == "not run: needs two upstreams (--upstream A --upstream B)"
    assert str(rows[0][-1]).startswith("failed: ")
    board = table(findings, "emobox-intra-corpus-ravdess")
    assert cells(board, "WavLM base")["WA % published"] == "62.10"
    assert cells(board, "fbank+deltas")["WA % published"] is None
    with pytest.raises(CorpusError, match="did you mean 'ravdess'"):
        run({"ravdes": tones}, tmp_path / "other", *TINY)
    with pytest.raises(UsageError, match="no corpus given"):
        run({}, tmp_path / "other", *TINY)
    with pytest.raises(UsageError, match="in one process"):
        run({"manifest": tones}, tmp_path / "other", *TINY, devices=2)
    with pytest.raises(RecipeError, match="takes one upstream, or two that differ"):
        run({"manifest": tones}, tmp_path / "other", *TINY, upstream=["a", "b", "c"])
    assert not (tmp_path / "other").exists()


def test_study_json_has_every_difference_one_by_one(finished: Path) -> None:
    record = json.loads((finished / "study.json").read_text(encoding="utf-8"))["findings"]["settings"]
    (one,) = (entry for entry in record["tables"] if entry["table"] == "hyeon-2024-poolings-manifest")
    assert "4 speakers, not 10" in one["rows"][0]["differences"]
    assert "layers" in one["rows"][0]["not_known"]
    assert yaml.safe_load((finished / "recipe.yaml").read_text())["effort"] == "quick"
