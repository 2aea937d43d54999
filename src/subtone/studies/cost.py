"""What pooling over speech costs beside pooling over all frames: time and memory, for a clip and for a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any, get_args

import numpy as np
from pydantic import Field, model_validator

from subtone import corpora
from subtone.audio import SAMPLE_RATE_HZ, load_audio
from subtone.errors import SubtoneError, UsageError
from subtone.extraction import BackendName, Precision, clips_of
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.context import Context, Made, Study, failures
from subtone.studies.cost_findings import SYSTEMS, Measured, findings_of
from subtone.studies.options import StudyOptions
from subtone.studies.systems import POOLED

#: Longest that one measurement may take.
PATIENCE_S = 3600.0


class CostOptions(StudyOptions):
    """Settings of the study; those of emotions, folds and tests have no use in it, and `engines` stands for `backend`.

    Parameters
    ----------
    seconds
        Of audio from each corpus, whole clips from its first one on.
    engines
        ``BACKEND/PRECISION``; one that cannot be used is named with the reason.
    rounds
        Processes that measure an engine, with all other engines between them.
    repeats
        Passes over the clips in each of these processes.
    """

    seconds: float = Field(default=60.0, gt=0)
    engines: list[str] = Field(
        default=["torch/fp32", "torch/bf16", "openvino/fp32", "openvino/bf16", "openvino/int8"], min_length=1
    )
    rounds: int = Field(default=3, ge=1)
    repeats: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _engines_known(self) -> CostOptions:
        backends = [one for one in get_args(BackendName) if one != "auto"]
        for engine in self.engines:
            backend, _, precision = engine.partition("/")
            if backend not in backends or precision not in get_args(Precision):
                raise ValueError(
                    f"engines: {engine!r} must be one of {', '.join(backends)}, '/', and one of "
                    f"{', '.join(get_args(Precision))}, e.g. torch/fp32"
                )
        if len(set(self.engines)) < len(self.engines):
            raise ValueError("engines: one stands there twice")
        if (self.backend, self.precision) != ("auto", "fp32"):
            raise ValueError("backend, precision: this study measures several; name them in engines")
        return self


@dataclass(frozen=True)
class _Clips:
    """The clips of a corpus that are measured."""

    corpus: str
    places: tuple[tuple[str, float, float | None], ...]
    lengths_s: tuple[float, ...]


def make(context: Context) -> Made:
    """Make the study; one measurement at a time, whatever ``jobs`` says."""
    options = context.options
    assert isinstance(options, CostOptions)
    chosen, unread = _choose(context, options)
    cells = [cell for clips in chosen for cell in _cells(context, options, clips)]
    earlier, missing = replace(context, jobs=1).run(cells)
    if len(missing) == len(cells):
        raise UsageError(f"nothing could be measured; the first: {missing[0].cell}: {missing[0].message}")
    bad = {one.cell for one in missing}
    found = [_read(clips, options, earlier, bad) for clips in chosen]
    return Made(findings_of(context, options, found), (*unread, *failures((), missing)))


def _choose(context: Context, options: CostOptions) -> tuple[list[_Clips], tuple[tuple[str, str], ...]]:
    """Take whole clips until there is audio enough; name what cannot be read."""
    if not context.corpora:
        raise UsageError("no corpus given; pass --corpus NAME=PATH")
    known = [corpora.get(name).name for name in context.corpora]
    for name in options.every:
        if corpora.get(name).name not in known:
            raise UsageError(f"every: corpus {name!r} is not among those given ({', '.join(known)})")
    chosen, unread = [], []
    for name, path in context.corpora.items():
        table = corpora.read(name, path, **options.reading_of(name)).iloc[:: options.every.get(name, 1)]
        places: list[tuple[str, float, float | None]] = []
        lengths: list[float] = []
        for clip in clips_of(table):
            if sum(lengths) >= options.seconds:
                break
            try:
                wave = load_audio(clip.file, start_s=clip.start_s, end_s=clip.end_s)
            except SubtoneError as error:
                unread.append((clip.file, str(error)))
                continue
            places.append((clip.file, clip.start_s, clip.end_s))
            lengths.append(len(wave) / SAMPLE_RATE_HZ)
        if not places:
            raise UsageError(f"corpus {name!r}: no clip could be read")
        chosen.append(_Clips(name, tuple(places), tuple(lengths)))
    return chosen, tuple(unread)


def _cells(context: Context, options: CostOptions, clips: _Clips) -> Iterator[Cell]:
    order = {
        "upstream": context.upstream,
        "detector": context.detector(),
        "clips": [list(place) for place in clips.places],
        "repeats": options.repeats,
        "fit": asdict(options.fit),
        "classes": 4 if options.classes is None else len(options.classes),
        "libraries": _libraries(),
    }
    everyone = {name: {"statistics": list(POOLED[name]), "detects": name != "gap"} for name in SYSTEMS}
    seconds = sum(clips.lengths_s)
    for number in range(options.rounds):
        for engine in options.engines:
            mine = {**order, **_engine(engine), "systems": everyone, "seed": options.seed + number}
            for what in ("clip", "folder"):
                name = _name(clips.corpus, what, engine, str(number))
                yield Cell(name, run_process, {**mine, "what": what}, seconds * options.repeats)
    for engine in options.engines:
        for system in SYSTEMS:
            mine = {**order, **_engine(engine), "systems": {system: everyone[system]}, "seed": options.seed}
            for what in ("clip memory", "folder memory"):
                yield Cell(
                    _name(clips.corpus, what, engine, system), run_process, {**mine, "what": what}, seconds
                )


def _engine(engine: str) -> dict[str, str]:
    backend, _, precision = engine.partition("/")
    return {"backend": backend, "precision": precision}


def _name(corpus: str, what: str, engine: str, which: str) -> str:
    return f"{corpus}/{what.replace(' ', '-')}/{engine.replace('/', '-')}/{which}"


def _libraries() -> dict[str, str | None]:
    """Releases of what computes: with another one all is measured anew, and what was not there may be by now."""
    found: dict[str, str | None] = {}
    for name in ("torch", "openvino", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def run_process(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Carry out one order of `subtone.studies.cost_process` in a fresh process.

    Returns
    -------
    Outcome
        Its answer, and ``load``, the machine's load average while it ran; None where the system does not tell.

    Raises
    ------
    SubtoneError
        If the process ends without an answer.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(os.path.abspath(one) for one in sys.path)),
    }
    if given["what"].startswith("clip"):  # on one thread, the detector's products included
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "subtone.studies.cost_process"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise SubtoneError(f"took longer than {PATIENCE_S:g} s; measure less with --set seconds=20") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SubtoneError(f"the process that measures ended without an answer: {said[:300]}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Outcome({**json.loads(lines[-1]), "load": load})


def _read(clips: _Clips, options: CostOptions, earlier: Earlier, bad: set[str]) -> Measured:
    unavailable: dict[str, str] = {}
    latency: dict[tuple[str, str], list[Any]] = {}
    cpu: dict[tuple[str, str], list[Any]] = {}
    passes: dict[tuple[str, str], list[dict[str, float]]] = {}
    memory: dict[tuple[str, str], dict[str, float | None]] = {}
    loads: list[float] = []

    def answer(what: str, engine: str, which: str) -> Mapping[str, Any]:
        name = _name(clips.corpus, what, engine, which)
        if name in bad:
            return {}
        values = earlier[name].values
        if "unavailable" in values:
            unavailable[engine] = values["unavailable"]
            return {}
        loads.extend([values["load"]] if values["load"] is not None else [])
        return values

    for engine in options.engines:
        for number in map(str, range(options.rounds)):
            one = answer("clip", engine, number)
            for name in one.get("wall", ()):
                latency.setdefault((engine, name), []).extend(one["wall"][name])
                cpu.setdefault((engine, name), []).extend(one["cpu"][name])
            for name, several in answer("folder", engine, number).get("passes", {}).items():
                passes.setdefault((engine, name), []).extend(several)
        for name in SYSTEMS:
            one = answer("clip memory", engine, name)
            whole = answer("folder memory", engine, name)
            memory[engine, name] = {
                "opening": one.get("opening_mb"),
                "clip": one.get("working_mb"),
                "folder": whole.get("working_mb"),
            }
    return Measured(
        clips.corpus,
        clips.lengths_s,
        {key: np.array(values) for key, values in latency.items()},
        {key: np.array(values) for key, values in cpu.items()},
        passes,
        memory,
        unavailable,
        tuple(loads),
    )


STUDY = Study(
    "cost",
    "What does pooling over speech cost in time and memory, for one clip and for a folder?",
    CostOptions,
    make,
)
