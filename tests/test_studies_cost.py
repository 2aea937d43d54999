"""The study of cost: what it times, what it remembers of engines that are not there, and a whole small study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subtone import upstreams
from subtone.errors import SubtoneError, UsageError
from subtone.extraction.backends import open_backend
from subtone.speech import Detector, SpeechSegments, get_detector
from subtone.studies import cost, cost_process
from subtone.studies import run as studies
from subtone.studies.cells import Earlier, Outcome
from subtone.studies.cost_findings import PHASES, more, quartiles
from subtone.studies.cost_process import ChildPeaks, System, peak_mb
from subtone.studies.systems import POOLED
from subtone.training.options import FrozenOptions
from tests.synthetic import manifest, utterance, write

ENERGY = get_detector("energy", min_speech_s=0.03, min_silence_s=0.03, speech_pad_s=0.0)
FIT = FrozenOptions(components=8)


class Clock:
    """Time that passes only where somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_a_clip_is_divided_into_its_phases_and_nothing_is_lost() -> None:
    clock = Clock()
    upstream = upstreams.load("fbank:20")
    backend = open_backend(upstream)

    class Slow(type(ENERGY)):  # type: ignore[misc]
        def detect(self, wave: Any) -> SpeechSegments:
            clock.now += 3.0
            return super().detect(wave)

    class SlowBackend:
        def encode(self, *given: Any) -> Any:
            clock.now += 5.0
            return backend.encode(*given)

    def system(detector: Detector | None, name: str) -> System:
        return System(upstream, SlowBackend(), detector, POOLED[name], FIT, 3)  # type: ignore[arg-type]

    wave = utterance(0.5)
    assert PHASES == ("detection", "encoder", "pooling", "classifier")
    assert system(Slow(ENERGY.options), "gap+sap").run(wave, clock) == [3.0, 5.0, 0.0, 0.0]
    assert system(None, "gap").run(wave, clock) == [0.0, 5.0, 0.0, 0.0]


def test_ratios_are_of_pairs_measured_beside_each_other() -> None:
    # A machine that is ten times slower for a while changes no ratio.
    assert more([11.0, 110.0, 11.0], [10.0, 100.0, 10.0]).text() == "10.0 (10.0 to 10.0)"
    assert quartiles([4.0]).text() == "4.0 (4.0 to 4.0)"


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
def test_a_child_s_peak_is_its_own_and_not_that_of_the_one_who_started_it() -> None:
    held = np.ones(40_000_000)  # 320 MB
    program = "import time; x = bytearray(50_000_000); time.sleep(0.5)"
    with ChildPeaks() as peaks:
        subprocess.run([sys.executable, "-I", "-c", program], check=True)
    own = peak_mb()
    assert own is not None
    assert own > held.nbytes / 1e6
    assert 50 < peaks.peak_mb < 150


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("engines=[onnx/fp32]", "torch/fp32"),
        ("engines=[torch/fp32, torch/fp32]", "twice"),
        ("backend=torch", "name them in engines"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(setting: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        studies.run("cost", {"manifest": "nowhere"}, out=tmp_path / "out", settings=[setting])


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
def test_a_process_of_its_own_answers_with_its_memory(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.wav", utterance(0.5))
    order = {
        "what": "clip memory",
        "upstream": "fbank:20",
        "backend": "torch",
        "precision": "fp32",
        "detector": ENERGY.config(),
        "systems": {"gap+sap": {"statistics": POOLED["gap+sap"], "detects": True}},
        "clips": [(str(clip), 0.0, None)],
        "fit": asdict(FIT),
        "classes": 3,
    }
    found = cost.run_process(order, Earlier({})).values
    assert 50 < found["working_mb"] <= found["opening_mb"] + 50
    assert found["load"] >= 0


def test_a_process_that_ends_without_an_answer_is_told_with_its_last_words() -> None:
    order = {"what": "nothing"}
    with pytest.raises(SubtoneError, match="without an answer: KeyError"):
        cost.run_process(order, Earlier({}))


def in_this_process(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Measure as the study does but for a process of its own, which takes seconds to start."""
    return Outcome({**cost_process.answer(json.loads(json.dumps(given))), "load": 1.0})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cost")
    table = manifest(folder / "corpus", speakers=1)
    (folder / "corpus" / "s0" / "anger_1.wav").write_bytes(b"no audio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "run_process", in_this_process)
        out, failed = studies.run(
            "cost",
            {"manifest": table},
            out=folder / "out",
            upstream="fbank:20",
            settings=[
                "seconds=1",
                "rounds=1",
                "repeats=2",
                "engines=[torch/fp32, torch/bf16]",
                "detector.name=energy",
                "training={components: 8}",
            ],
            jobs=2,
        )
    assert [os.path.basename(file) for file, _ in failed] == ["anger_1.wav"]
    return out


def test_a_study_times_clip_and_folder_and_measures_memory_with_and_without_a_detector(ran: Path) -> None:
    findings = json.loads((ran / "study.json").read_text())["findings"]
    tables = {one["name"]: one for one in findings["tables"]}
    systems = ["GAP alone, no detector", "SAP", "GAP ‖ SAP"]
    clip = {row[1]: row for row in tables["clip-manifest"]["rows"]}
    assert list(clip) == systems
    assert clip["GAP alone, no detector"][3] < clip["GAP ‖ SAP"][3]
    assert [row[1] for row in tables["folder-manifest"]["rows"]] == [*systems, "all statistics, into a store"]
    assert all(row[2]["value"] > 0 for row in tables["folder-manifest"]["rows"])
    assert [row[1] for row in tables["memory-manifest"]["rows"]] == systems
    if sys.platform == "linux":
        assert all(50 < row[3] < 3000 for row in tables["memory-manifest"]["rows"])


def test_an_engine_that_is_not_to_be_had_is_named_with_the_reason(ran: Path) -> None:
    findings = json.loads((ran / "study.json").read_text())["findings"]
    (table,) = (one for one in findings["tables"] if one["name"] == "unavailable")
    assert [row[0] for row in table["rows"]] == ["torch bf16"]
    assert "no network" in table["rows"][0][1]
    assert sum("was not measured" in sentence for sentence in findings["conclusions"]) == 1
