"""Processes that read recordings ahead of the encoder: decoding, resampling and voice activity side by side with it.

Apart from speed they are a wall: a decoder that crashes on a damaged file takes a process down, and the clip is named.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from subtone.audio.parts import HELD_S
from subtone.errors import AudioError, SubtoneError
from subtone.extraction.clips import Clip
from subtone.extraction.reader_process import Died, ReaderProcess
from subtone.extraction.turns import Turns
from subtone.speech import SpeechSegments
from subtone.speech.base import Wave

#: Clips in work or waiting to be taken, to a process.
AHEAD = 8
#: Bytes of samples that wait to be taken, from which on no further clip is begun.
WAITING_BYTES = 64 << 20
_TRIES = 2
_PAUSES_S = (0.2, 1.0)  # between tries to start a process


@dataclass(frozen=True)
class Failure:
    """A clip that could not be used.

    Parameters
    ----------
    file
        As it was given.
    message
        Why, and what to do; names the file.
    details
        For a bug report: a traceback, or the last words of a process that died. Empty for a broken recording.
    """

    file: str
    message: str
    details: str = ""


@dataclass(frozen=True, eq=False)
class Reading:
    """A clip whose speech is known.

    Parameters
    ----------
    clip
        As it was given.
    key
        Its address by content, `Clip.key`.
    speech
        Where somebody speaks; of a reused clip: nothing, of no samples.
    wave
        ``(samples,)`` float32, 16 kHz; None for a clip that is too long to be held, and for a reused one.
    reused
        The key was known: the clip was not decoded.
    """

    clip: Clip
    key: str
    speech: SpeechSegments
    wave: Wave | None
    reused: bool = False
    _stream: Callable[[], Iterator[Wave]] | None = field(default=None, repr=False)

    @property
    def num_samples(self) -> int:
        """Length at 16 kHz; 0 for a reused clip."""
        return self.speech.num_samples

    def blocks(self) -> Iterator[Wave]:
        """Yield the samples in blocks, from the beginning each time; memory is that of a block.

        A clip that is not held is decoded once more for it, by a process of its own that is never more than a block
        ahead; other clips go on being read meanwhile. Close the iterator, or let go of it, to end it early.

        Raises
        ------
        AudioError
            When the file was changed since its speech was found, or its reading process died twice.
        """
        if self._stream is not None:
            yield from self._stream()
        elif self.wave is not None:
            yield self.wave


class Readers:
    """Processes that read clips; a context manager, at whose end they are gone.

    They need no ``__main__`` guard in the caller's script, and work under notebooks and in threads. When this process
    dies, however, they end too. There is no time limit: a disk that does not answer holds its clip up, and in the
    end, since clips come in order, the run; killing the process that hangs (by its number, `pids`) gives the clip up.
    What is no regular file, such as a pipe, is refused without being opened.

    Parameters
    ----------
    detector
        `Detector.config` of the detector that finds speech, of those that Subtone knows by name; None takes all for
        speech.
    workers
        Processes at most; they start with the reading, one a clip.
    held_s
        A clip of up to so many seconds comes with its samples; of a longer one they are given in blocks.

    Examples
    --------
    >>> with Readers({"name": "energy"}, workers=1) as readers:
    ...     [outcome] = readers.read([Clip("no-such-file.wav")])
    >>> outcome
    Failure(file='no-such-file.wav', message='no-such-file.wav: no such file', details='')
    """

    def __init__(self, detector: Mapping[str, Any] | None, workers: int, *, held_s: float = HELD_S) -> None:
        self._detector = None if detector is None else dict(detector)
        self._workers = max(1, workers)
        self._held_s = held_s
        self._lock = threading.Lock()
        self._processes: set[ReaderProcess] = set()
        self._jobs: list[tuple[Turns[Reading | Failure], list[threading.Thread]]] = []
        self._closed = False

    def __enter__(self) -> Readers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes that run now."""
        with self._lock:
            return [process.pid for process in self._processes]

    def read(
        self, clips: Sequence[Clip], known: Callable[[str], bool] | None = None
    ) -> Iterator[Reading | Failure]:
        """Read clips; begins at once, ahead of the one who takes them.

        Parameters
        ----------
        clips
            In any number. At most `AHEAD` a process are begun before they are taken, and no more are begun while
            `WAITING_BYTES` of samples wait.
        known
            Tells by its key whether a clip need not be read. Called from several threads; must not wait for the one
            who takes the outcomes.

        Returns
        -------
        One outcome a clip, in their order. A process that dies is replaced and its clip tried once more; when it dies
        again, that clip is a `Failure`.

        Raises
        ------
        SubtoneError
            While iterating: if the processes cannot be started at all, or the detector cannot be made. What ``known``
            raises comes out here too.
        """
        workers = min(self._workers, len(clips))
        turns: Turns[Reading | Failure] = Turns(len(clips), AHEAD * max(1, workers), WAITING_BYTES)
        threads = [
            threading.Thread(
                target=self._work, args=(clips, known, turns), name="subtone-reader", daemon=True
            )
            for _ in range(workers)
        ]
        with self._lock:
            self._check_open()
            self._jobs.append((turns, threads))
        for thread in threads:
            thread.start()
        return iter(turns)

    def close(self) -> None:
        """End all processes, whatever they are doing, and wait until they are gone."""
        with self._lock:
            self._closed = True
            jobs, self._jobs = self._jobs, []
        for turns, _ in jobs:
            turns.stop()
        with self._lock:
            for process in self._processes:
                process.kill()
        for _, threads in jobs:
            for thread in threads:
                thread.join()
        with self._lock:
            left, self._processes = self._processes, set()
        for process in left:  # of streams that nobody went through to the end
            process.close()

    def _work(
        self,
        clips: Sequence[Clip],
        known: Callable[[str], bool] | None,
        turns: Turns[Reading | Failure],
    ) -> None:
        """Read clips in one process after the other, until there are no more."""
        process: ReaderProcess | None = None
        try:
            while (number := turns.next()) is not None:
                for tried in range(1, _TRIES + 1):
                    process = process or self._start(self._detector)
                    try:
                        outcome = self._one(process, clips[number], known)
                        break
                    except Died as died:
                        self._end(process)
                        process = None
                        outcome = Failure(clips[number].file, _twice(clips[number].file, died), died.details)
                        if self._closed or tried == _TRIES:
                            break
                    except MemoryError:  # here, for the samples: they are still in the pipe
                        self._end(process)
                        process = None
                        message = (
                            f"{clips[number].file}: not enough memory for this clip; cut it into utterances"
                        )
                        outcome = Failure(clips[number].file, message)
                        break
                wave = outcome.wave if isinstance(outcome, Reading) else None
                turns.done(number, outcome, 0 if wave is None else wave.nbytes)
                del outcome, wave
        except BaseException as error:
            turns.fail(error)
        finally:
            if process is not None:
                self._end(process)

    def _one(
        self, process: ReaderProcess, clip: Clip, known: Callable[[str], bool] | None
    ) -> Reading | Failure:
        request = {"file": clip.file, "start_s": clip.start_s, "end_s": clip.end_s, "held_s": self._held_s}
        process.ask({**request, "ask": known is not None})
        header = process.answer()
        if header["is"] == "digest":
            assert known is not None
            key = clip.address(header["digest"])
            if known(key):
                process.ask({"wanted": False})
                return Reading(clip, key, SpeechSegments.none(0), None, reused=True)
            process.ask({"wanted": True})
            header = process.answer()
        if header["is"] == "failed":
            return Failure(clip.file, header["message"], header["details"])
        starts = process.array(header["segments"], np.int64)
        ends = process.array(header["segments"], np.int64)
        speech = SpeechSegments(starts, ends, header["num_samples"])
        key = clip.address(header["digest"])
        if header["held"]:
            return Reading(clip, key, speech, process.array(speech.num_samples))
        request["version"] = header["version"]
        return Reading(clip, key, speech, None, _stream=lambda: self._blocks(request, speech.num_samples))

    def _blocks(self, request: Mapping[str, Any], num_samples: int) -> Iterator[Wave]:
        """Stream a clip from a process of its own; one that dies is replaced where it stopped, once."""
        given = 0
        for tried in range(1, _TRIES + 1):
            process = self._start(None)
            try:
                process.ask({**request, "skip": given})
                while (header := process.answer())["is"] == "block":
                    wave = process.array(process.following // 4)  # (samples,)
                    given += len(wave)
                    yield wave
                if header["is"] == "failed":
                    raise AudioError(header["message"])
                if given != num_samples:
                    raise AudioError(
                        f"{request['file']}: was changed while it was read; try again when it is at rest"
                    )
                return
            except Died as died:
                if self._closed:
                    raise AudioError(f"{request['file']}: given up, as all is being stopped") from died
                if tried == _TRIES:
                    raise AudioError(_twice(request["file"], died)) from died
            finally:
                self._end(process)

    def _start(self, detector: Mapping[str, Any] | None) -> ReaderProcess:
        with self._lock:
            self._check_open()
            process = _started(detector)
            self._processes.add(process)
            return process

    def _end(self, process: ReaderProcess) -> None:
        process.close()
        with self._lock:
            self._processes.discard(process)

    def _check_open(self) -> None:
        if self._closed:
            raise SubtoneError("these readers are closed; make new ones")


def _started(detector: Mapping[str, Any] | None) -> ReaderProcess:
    """Start a process; a machine that has no room for one just then is asked again."""
    for pause_s in _PAUSES_S:
        try:
            return ReaderProcess(detector)
        except SubtoneError:
            time.sleep(pause_s)
    return ReaderProcess(detector)


def _twice(file: str, died: Died) -> str:
    return (
        f"{file}: the process that read it died twice ({died.cause}); the file may be damaged in a way that a "
        "decoder does not survive: convert it to WAV, or leave it out"
    )
