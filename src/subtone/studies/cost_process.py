"""A process that measures what pooling costs: ``python -m subtone.studies.cost_process``.

It reads an order (JSON) from its standard input and prints the answer as its last line. Each measurement has a process
of its own, so that nothing that ran before is in its memory.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from subtone import upstreams
from subtone.audio import load_audio
from subtone.classifier import PooledClassifier, Reduction
from subtone.errors import SubtoneError, UsageError
from subtone.extraction import Clip, ExtractionOptions, Progress, extract
from subtone.extraction.backends import Backend, open_backend
from subtone.extraction.pooled import ClipPooling
from subtone.speech import Detector, SpeechSegments, load_detector
from subtone.studies.cost_findings import STORE
from subtone.training.options import FrozenOptions
from subtone.upstreams import Upstream

Wave = npt.NDArray[np.float32]

#: The share of a folder's audio that is not looked at: processes start, and the first clips are read ahead.
START = 1 / 3


def main() -> None:
    """Carry out the order on the standard input."""
    print(json.dumps(answer(json.load(sys.stdin))), flush=True)


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one order.

    Parameters
    ----------
    order
        As :func:`subtone.studies.cost.run_process` is given it; ``what`` names the measurement.

    Returns
    -------
    dict
        What the function of that name gives, or ``{"unavailable": why}``.
    """
    works: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "clip": clip,
        "folder": folder,
        "clip memory": clip_memory,
        "folder memory": folder_memory,
    }
    try:
        return works[order["what"]](order)
    except SubtoneError as error:
        return {"unavailable": str(error)}


class System:
    """One way of pooling with all that it needs, from a wave to scores.

    Parameters
    ----------
    upstream, backend
        Give the frames.
    detector
        Finds speech; None where nothing depends on it.
    statistics
        What is pooled.
    fit, classes
        Shape of the classifier. Its weights are random: what it costs does not depend on them.
    """

    def __init__(
        self,
        upstream: Upstream,
        backend: Backend,
        detector: Detector | None,
        statistics: Sequence[str],
        fit: FrozenOptions,
        classes: int,
    ) -> None:
        self._upstream, self._backend, self._detector = upstream, backend, detector
        self._statistics = tuple(statistics)
        shape = (upstream.num_layers, upstream.dim * len(self._statistics))
        width = shape[1] if fit.layers == "mix" else shape[0] * shape[1]
        basis = None if fit.components is None else torch.randn(width, min(fit.components, width))
        self._reduction = Reduction(torch.zeros(shape), torch.ones(shape), basis, fit.layers).eval()
        self._classifier = PooledClassifier(
            self._reduction.num_layers, self._reduction.dim, classes, head=fit.head, hidden=fit.hidden
        ).eval()

    @torch.inference_mode()
    def run(self, wave: Wave, clock: Callable[[], float] = time.perf_counter) -> list[float]:
        """Score a wave; return the seconds that each of `subtone.studies.cost_findings.PHASES` took."""
        marks = [clock()]
        speech = SpeechSegments.whole(len(wave)) if self._detector is None else self._detector.detect(wave)
        marks.append(clock())
        work = ClipPooling.plan(self._upstream, len(wave), speech, self._statistics)
        planned = clock() - marks[-1]  # weights of the frames: part of pooling
        survey = self._upstream.survey([wave]) if work.needs_survey else None
        spent = {"encoder": 0.0, "pooling": planned}
        parts = []
        for chunk in work.chunks:
            began = clock()
            frames = self._backend.encode([wave[chunk.start : chunk.end]], [survey])[0]
            encoded = clock()
            parts.append(work.part(chunk, frames))
            spent["encoder"] += encoded - began
            spent["pooling"] += clock() - encoded
        began = clock()
        features = work.finish(parts)
        spent["pooling"] += clock() - began
        began = clock()
        joined = np.concatenate([features.statistics[name] for name in self._statistics], axis=-1)
        self._classifier(self._reduction(torch.from_numpy(joined)))
        return [marks[1] - marks[0], spent["encoder"], spent["pooling"], clock() - began]


def clip(order: Mapping[str, Any]) -> dict[str, Any]:
    """Measure clips one at a time, on one thread; all systems hear a clip in turn, in an order that is drawn.

    Returns
    -------
    dict
        ``wall`` and ``cpu``: system → ``[pass][clip][phase]`` seconds.
    """
    torch.set_num_threads(1)
    upstream, backend = _opened(order)
    waves = _waves(order)
    systems = {name: _system(order, name, upstream, backend) for name in order["systems"]}
    for system in systems.values():  # buffers, caches and kernels are made by the first clips
        for wave in waves[:2]:
            system.run(wave)
    rng = np.random.default_rng(order["seed"])
    wall: dict[str, list[list[list[float]]]] = {name: [] for name in systems}
    cpu: dict[str, list[list[list[float]]]] = {name: [] for name in systems}
    for _ in range(order["repeats"]):
        for name in systems:
            wall[name].append([])
            cpu[name].append([])
        for wave in waves:
            # Once for each clock: reading the other one would be part of what is measured.
            for name in rng.permutation(list(systems)).tolist():
                wall[name][-1].append(systems[name].run(wave))
            for name in rng.permutation(list(systems)).tolist():
                cpu[name][-1].append(systems[name].run(wave, time.process_time))
    return {"wall": wall, "cpu": cpu}


def folder(order: Mapping[str, Any]) -> dict[str, Any]:
    """Measure whole extractions in memory, and one into a store, in an order that is drawn.

    Returns
    -------
    dict
        System, or `STORE` → ``[pass]`` of ``{"wall_s", "audio_s", "steady_wall_s", "steady_audio_s"}``; steady is
        what comes after the first third of the audio.
    """
    upstream, detector = upstreams.load(order["upstream"]), load_detector(order["detector"])
    _opened_for(order, upstream).close()  # told before anything is measured
    rng = np.random.default_rng(order["seed"])
    names = [*order["systems"], STORE]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    _extract(order, names[0], upstream, detector)
    for _ in range(order["repeats"]):
        for name in rng.permutation(names).tolist():
            found[name].append(_extract(order, name, upstream, detector))
    return {"passes": found}


def clip_memory(order: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the memory of this process: its peak until all is open, and while it scores clips.

    Returns
    -------
    dict
        ``opening_mb`` and ``working_mb``, 10^6 bytes; None where the system does not tell.
    """
    upstream, backend = _opened(order)
    (name,) = order["systems"]
    system = _system(order, name, upstream, backend)
    waves = _waves(order)
    opening = peak_mb()
    forget_peak()
    for wave in waves:
        system.run(wave)
    return {"opening_mb": opening, "working_mb": peak_mb()}


def folder_memory(order: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the memory of an extraction: the peak of this process and of those that read for it, together.

    Returns
    -------
    dict
        ``working_mb``, 10^6 bytes; None where the system does not tell.
    """
    upstream, detector = upstreams.load(order["upstream"]), load_detector(order["detector"])
    (name,) = order["systems"]
    with ChildPeaks() as children:
        _extract(order, name, upstream, detector)
    own = peak_mb()
    return {"working_mb": None if own is None else own + children.peak_mb}


def _system(order: Mapping[str, Any], name: str, upstream: Upstream, backend: Backend) -> System:
    one = order["systems"][name]
    detector = load_detector(order["detector"]) if one["detects"] else None
    return System(
        upstream, backend, detector, one["statistics"], FrozenOptions(**order["fit"]), order["classes"]
    )


def _opened(order: Mapping[str, Any]) -> tuple[Upstream, Backend]:
    upstream = upstreams.load(order["upstream"])
    return upstream, _opened_for(order, upstream)


def _opened_for(order: Mapping[str, Any], upstream: Upstream) -> Backend:
    backend = open_backend(upstream, order["backend"], order["precision"])
    if backend.precision != order["precision"]:
        raise UsageError(
            f"{upstream.name} has no network, and so no other precision than {backend.precision}"
        )
    return backend


def _waves(order: Mapping[str, Any]) -> list[Wave]:
    return [load_audio(file, start_s=start_s, end_s=end_s) for file, start_s, end_s in order["clips"]]


def _extract(order: Mapping[str, Any], name: str, upstream: Upstream, detector: Detector) -> dict[str, float]:
    options = ExtractionOptions(backend=order["backend"], precision=order["precision"])
    clips = [Clip(*one) for one in order["clips"]]
    marks: list[tuple[float, float]] = []  # audio, wall seconds after each clip

    def mark(state: Progress) -> None:
        marks.append((state.audio_s, time.perf_counter()))

    with tempfile.TemporaryDirectory() as into:
        began = time.perf_counter()
        if name == STORE:
            store = Path(into) / "store"
            found = extract(clips, upstream, detector, store=store, options=options, on_progress=mark)
        else:
            statistics = order["systems"][name]["statistics"]
            found = extract(
                clips, upstream, detector, statistics=statistics, options=options, on_progress=mark
            )
        end = time.perf_counter()
    if found.failed:
        raise UsageError(found.failed[0].message)
    audio_s = marks[-1][0]
    first = next(one for one in marks if one[0] >= START * audio_s)
    if first[0] == audio_s:  # a single long clip, or one at the end: there is no steady part
        first = (0.0, began)
    return {
        "wall_s": end - began,
        "audio_s": audio_s,
        "steady_wall_s": end - first[1],
        "steady_audio_s": audio_s - first[0],
    }


def peak_mb(status: Path = Path("/proc/self/status")) -> float | None:
    """Return the highest resident size of a process so far, in 10^6 bytes; None where the system does not tell."""
    # Not getrusage: what a process was started by counts into its figure.
    for line in _text(status).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def forget_peak() -> None:
    """Begin anew with the peak; where the system does not offer that, it stays what it was."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # no such system, or a process that has just ended
        return ""


class ChildPeaks:
    """Looks at the processes that this one starts, every 20 ms; a context manager.

    Attributes
    ----------
    peak_mb
        Sum of the peaks of all of them, 10^6 bytes.
    """

    def __init__(self) -> None:
        self._peaks: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def peak_mb(self) -> float:
        """Of all together."""
        return sum(self._peaks.values())

    def __enter__(self) -> ChildPeaks:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        own = _text(Path("/proc/self/cmdline"))
        while not self._end.wait(0.02):
            for task in Path("/proc/self/task").glob("*/children"):
                for child in _text(task).split():
                    peak = peak_mb(Path(f"/proc/{child}/status"))
                    # Until it has become a program of its own, a child has the memory of this process.
                    if peak is not None and _text(Path(f"/proc/{child}/cmdline")) != own:
                        self._peaks[child] = max(peak, self._peaks.get(child, 0.0))


if __name__ == "__main__":
    main()
