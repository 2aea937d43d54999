"""Subtone: the encoder alone, called as the engine calls it, and the whole way from recordings to a store."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import proc
import torch
from worker import Skipped, Wave, cosines, seconds

from subtone.audio import load_audio
from subtone.errors import SubtoneError
from subtone.extraction import clips_of, extract, extract_to_store
from subtone.extraction.options import ExtractionOptions
from subtone.extraction.pooled import ClipPooling
from subtone.pooling import STATISTICS
from subtone.speech import SpeechSegments, get_detector
from subtone.upstreams import load

#: What a user of GAP alone would keep.
_GAP = ("gap_mean", "gap_std")
#: The share of a pipeline's audio that is not looked at: processes start, and the first clips are read ahead.
_START = 1 / 3


class Way:
    """One backend in one precision."""

    def load(self, weights: str, threads: int, backend: str, precision: str) -> dict[str, str]:  # noqa: ARG002
        """Load the upstream and open the backend; threads are as many as there are cores for this process."""
        if backend == "openvino" and importlib.util.find_spec("openvino") is None:
            raise Skipped("OpenVINO is not installed")
        from subtone.extraction.backends import open_backend

        self._upstream = load(weights)
        try:
            self._backend = open_backend(self._upstream, backend, precision)
        except SubtoneError as error:  # not there, or refused because features would change
            raise Skipped(str(error)) from error
        # Streams close what they were given; this one is used again and again, as a run uses it for hours.
        self._backend.close = lambda: None  # type: ignore[method-assign]
        self._options = ExtractionOptions(backend=backend, precision=precision)
        found = {}
        for name in ("subtone", "torch", "transformers", "openvino", "nncf", "onnxruntime"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found

    def frames(self, waves: list[Wave]) -> Iterator[Any]:
        """Yield the frames of all layers, through the streams that an extraction uses."""
        from subtone.extraction.streams import Streams

        waiting: deque[Future[Any]] = deque()
        with Streams(self._backend) as streams:
            for wave in waves:
                waiting.append(streams.submit(wave, None, lambda frames: frames))
                if len(waiting) > streams.ahead:
                    yield waiting.popleft().result()
            streams.flush()
            while waiting:
                yield waiting.popleft().result()

    def pipeline(self, files: list[str]) -> dict[str, Any]:
        """Extract recordings into a fresh store, and time what comes after the first third of the audio.

        The end of the run is in it: a core that has nothing more to do, the shard that is written, processes that stop.
        """
        self._reuse_backend()
        marks: list[tuple[float, float, float]] = []  # audio, wall and CPU seconds after each clip

        def mark(state: Any) -> None:
            marks.append((state.audio_s, time.perf_counter(), proc.cpu_s(os.getpid())))

        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            summary = extract_to_store(
                self._upstream,
                Path(folder) / "store",
                files,
                detector=get_detector("silero"),
                options=self._options,
                on_progress=mark,
            )
            end = time.perf_counter(), proc.cpu_s(os.getpid())
        if summary.failed:
            raise RuntimeError(f"{len(summary.failed)} clips failed, e.g. {summary.failed[0]}")
        audio = marks[-1][0]
        first = next(mark for mark in marks if mark[0] >= _START * audio)
        return {
            "audio_s": audio - first[0],
            "wall_s": end[0] - first[1],
            "cpu_s": end[1] - first[2],
            "whole_audio_s": audio,
            "whole_wall_s": end[0] - began,
        }

    def compare_pipeline(self, files: list[str], folder: str) -> dict[str, float]:
        """Compare the mean frames that a whole extraction gives with those of the reference."""
        self._reuse_backend()
        found = extract(clips_of(files), self._upstream, get_detector("silero"), options=self._options)
        worst, cosine = 0.0, 1.0
        for number, ours in enumerate(found.features.statistics["gap_mean"]):  # (layers, dim)
            right = np.load(Path(folder) / f"{number}.npy").mean(1)
            worst = max(worst, float(np.linalg.norm(ours - right) / np.linalg.norm(right)))
            cosine = min(cosine, float(cosines(ours, right).min()))
        return {"worst_relative_l2": worst, "worst_cosine": cosine}

    def parts(self, files: list[str], waves: list[str]) -> dict[str, float]:
        """Return the CPU seconds that each part takes of these clips, one after the other on one thread."""
        read = [np.load(path) for path in waves]
        detector, threads = get_detector("silero"), torch.get_num_threads()
        detector.detect(read[0])
        torch.set_num_threads(1)
        cpu = {"audio_s": seconds(read)}
        began = time.process_time()
        for file in files:
            load_audio(file)
        cpu["decoding_s"] = time.process_time() - began
        began = time.process_time()
        speech = [detector.detect(wave) for wave in read]
        cpu["silero_s"] = time.process_time() - began
        frames = [self._backend.encode([wave])[0] for wave in read]
        began = time.process_time()
        self._pool(read, speech, frames, tuple(STATISTICS))
        cpu["pooling_s"] = time.process_time() - began
        began = time.process_time()
        self._pool(read, speech, frames, _GAP)
        cpu["pooling_gap_s"] = time.process_time() - began
        torch.set_num_threads(threads)
        return cpu

    def _pool(
        self,
        waves: Sequence[Wave],
        speech: Sequence[SpeechSegments],
        frames: Sequence[torch.Tensor],
        names: Sequence[str],
    ) -> None:
        for wave, spoken, found in zip(waves, speech, frames, strict=True):
            work = ClipPooling.plan(self._upstream, len(wave), spoken, names)
            work.finish(work.part(chunk, found) for chunk in work.chunks)  # one: the clips are short

    def _reuse_backend(self) -> None:
        """Give the engine the backend that is open: a run opens it once, and how long that takes is told apart."""
        from subtone.extraction import engine

        engine.open_backend = lambda *_, **__: self._backend
