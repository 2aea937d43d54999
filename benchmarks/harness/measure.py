"""The measurements: memory in fresh processes, time in rounds that all take in turn, errors against the baseline."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders.proc import MemoryWatch
from harness.clips import ClipSet
from harness.field import BASELINE, Contender, Process
from harness.worker import Worker, environment

Figures = dict[str, Any]
Say = Callable[[str], None]


def memory(
    processes: Mapping[str, Process],
    contenders: Sequence[Contender],
    clips: ClipSet,
    loading: Mapping[str, Any],
    logs: Path,
    say: Say,
) -> dict[str, Figures]:
    """Peak memory of each encoder in a fresh process that loads and encodes the clips once."""
    found: dict[str, Figures] = {}
    for one in contenders:
        if one.what != "encoder":
            continue
        process = processes[one.process]
        with Worker(process.python, process.module, logs / f"{one.process}.log") as worker:
            watch = MemoryWatch(worker.pid)
            answer = worker.ask("load", **loading, **process.options)
            if "skipped" not in answer:
                answer = worker.ask("encode", waves=clips.waves, mode=one.mode)
            watch.stop()
        if "skipped" not in answer:
            found[one.name] = {"peak_pss_mb": watch.peak_mb, "peak_rss_bound_mb": watch.bound_mb}
        say(f"memory   {one.name}: {answer.get('skipped') or f'{watch.peak_mb:.0f} MB'}")
    return found


def command_line(weights: Path, clips: ClipSet, precisions: Sequence[str], say: Say) -> dict[str, Figures]:
    """Run `subtone extract` once for each precision, start and all, and watch its memory and CPU."""
    found: dict[str, Figures] = {}
    for precision in precisions:
        with tempfile.TemporaryDirectory() as folder:
            store = str(Path(folder) / "store")
            command = ["extract", "--upstream", str(weights), "--store", store, "--precision", precision]
            command += ["--format", "json", *clips.files]
            began, cpu = time.perf_counter(), _children_cpu_s()
            process = subprocess.Popen(
                [sys.executable, "-m", "subtone", *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                text=True,
            )
            watch = MemoryWatch(process.pid)
            out, err = process.communicate()
            wall = time.perf_counter() - began
            watch.stop()
        if process.returncode:
            last = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            found[precision] = {"skipped": last[:300]}
        else:
            summary = json.loads(out)
            found[precision] = {
                "audio_s": clips.audio_s,
                "wall_s": wall,
                "cpu_s": _children_cpu_s() - cpu,
                "backend": summary["backend"],
                "peak_pss_mb": watch.peak_mb,
                "peak_rss_bound_mb": watch.bound_mb,
            }
        say(f"command  subtone extract --precision {precision}: {found[precision]}")
    return found


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Rounds:
    """All processes, loaded and up; gives each contender its turn in each round.

    Attributes
    ----------
    results
        Name of a contender → its figures.
    """

    def __init__(
        self,
        processes: Mapping[str, Process],
        contenders: Sequence[Contender],
        loading: Mapping[str, Any],
        logs: Path,
        say: Say,
    ) -> None:
        self._contenders, self._say = contenders, say
        self._stack = contextlib.ExitStack()
        self.workers: dict[str, Worker] = {}
        self.loaded: dict[str, Figures] = {}
        self.results: dict[str, Figures] = {one.name: {"rounds": []} for one in contenders}
        for key, process in processes.items():
            worker = self._stack.enter_context(Worker(process.python, process.module, logs / f"{key}.log"))
            self.workers[key] = worker
            self.loaded[key] = worker.ask("load", **loading, **process.options)
            say(f"load     {key}: {self.loaded[key]}")
        for one in contenders:
            if "skipped" in self.loaded[one.process]:
                self.results[one.name]["skipped"] = self.loaded[one.process]["skipped"]

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(None, None, None)

    def running(self) -> list[Contender]:
        """Return who has not been left out."""
        return [one for one in self._contenders if "skipped" not in self.results[one.name]]

    def first(self, clips: ClipSet, few: int) -> None:
        """Everybody's first pass: shapes not seen, caches empty, memory not yet touched."""
        for one in self.running():
            self._turn(one, clips, few, lambda result, answer: result.update(first_pass=answer))

    def round(self, clips: ClipSet, few: int, seed: int) -> Figures:
        """One pass of everybody over clips that nobody has seen, in random order; ours see them once more.

        Encoders get the first ``few`` of the clips, pipelines all.
        """
        order = random.Random(seed).sample(self.running(), len(self.running()))
        for one in order:
            self._turn(one, clips, few, lambda result, answer: result["rounds"].append(answer))
            if one.ours and one.what == "encoder":
                self._turn(one, clips, few, lambda r, answer: r.setdefault("seen_again", []).append(answer))
        peak = self.workers["matrices"].ask("peak")
        self._say(f"         matrix peak: {peak}")
        return peak

    def compare(self, clips: ClipSet, few: int, folder: Path) -> None:
        """Compare everybody's frames with the baseline's."""
        some = clips.first(few)
        (base,) = (one for one in self._contenders if one.name == BASELINE)
        self.workers[base.process].ask(
            "reference", waves=some.waves, mode=dict(base.mode), folder=str(folder)
        )
        for one in self.running():
            worker = self.workers[one.process]
            if one.what == "pipeline":
                error = worker.ask("compare_pipeline", files=some.files, folder=str(folder))
            else:
                error = worker.ask("compare", waves=some.waves, mode=dict(one.mode), folder=str(folder))
            self.results[one.name]["error"] = error
            self._say(f"error    {one.name}: {error}")

    def parts(self, clips: ClipSet) -> dict[str, Figures]:
        """CPU seconds of what surrounds the encoder, measured in the process of each of our pipelines."""
        return {
            one.precision: self.workers[one.process].ask("parts", files=clips.files, waves=clips.waves)
            for one in self.running()
            if one.what == "pipeline"
        }

    def _turn(
        self, one: Contender, clips: ClipSet, few: int, keep: Callable[[Figures, Figures], object]
    ) -> None:
        worker, result = self.workers[one.process], self.results[one.name]
        if "skipped" in result:
            return
        if one.what == "pipeline":
            answer = worker.ask("pipeline", files=clips.files)
        else:
            answer = worker.ask("encode", waves=clips.first(few).waves, mode=dict(one.mode))
        if "skipped" in answer:
            result["skipped"] = answer["skipped"]
            self._say(f"FAILED   {one.name}: {answer['skipped']}")
            return
        keep(result, answer)
        self._say(f"pass     {one.name}: {answer['audio_s'] / answer['wall_s']:.1f} x real time")
