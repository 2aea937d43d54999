"""One process that reads recordings, from the side of the one who started it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from subtone.errors import SubtoneError
from subtone.speech.wire import Broken, receive, receive_array

_COMMAND = ("-X", "faulthandler", "-P", "-m", "subtone.speech.reading")
_TAIL = 8_000  # bytes of a dead process's last words


class Died(Exception):
    """The process is gone.

    Attributes
    ----------
    cause
        How, e.g. ``"ended by SIGSEGV"``.
    details
        The last that it and its libraries wrote, for a bug report.
    """

    def __init__(self, cause: str, details: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.details = details


class ReaderProcess:
    """A running `subtone.speech.reading`; used by one thread, but any may `kill` it.

    Parameters
    ----------
    detector
        `Detector.config` of the detector that finds speech; None takes all for speech.

    Raises
    ------
    SubtoneError
        If no process can be started.
    """

    def __init__(self, detector: Mapping[str, Any] | None) -> None:
        self._ready = False
        self._following = 0
        try:
            # Decoders and FFmpeg write here, not between the lines of the terminal.
            self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
            self._process = subprocess.Popen(
                [sys.executable, *_COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._chatter,
                env=_environment(),
            )
        except OSError as error:
            raise SubtoneError(
                f"a process that reads recordings cannot be started ({error.strerror or error}); "
                "close other programs"
            ) from error
        assert self._process.stdin is not None
        self._requests = self._process.stdin
        self._answers = cast(io.BufferedReader, self._process.stdout)
        with contextlib.suppress(OSError):  # Dead already; the first answer will tell.
            self._write({"detector": None if detector is None else dict(detector)})

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a request.

        Raises
        ------
        Died
            If the process is gone.
        """
        try:
            self._write(request)
        except OSError as error:
            raise self._died() from error

    def answer(self) -> dict[str, Any]:
        """Return the header of the next message; arrays behind it are taken by `array`.

        Raises
        ------
        Died
            If the process is gone, or sends what is no message.
        SubtoneError
            If it did not even start, which the next one would not either.
        """
        if not self._ready:
            self._await_start()
        return self._message()

    def array(self, count: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Return the next ``count`` numbers behind the last header, ``(count,)``.

        Raises
        ------
        Died
            If the process is gone.
        """
        array = self._arriving(count, np.dtype(dtype))
        self._following -= array.nbytes
        return array

    @property
    def following(self) -> int:
        """Bytes of numbers behind the last header that were not taken yet."""
        return self._following

    def kill(self) -> None:
        """End the process now; whoever waits for it gets `Died`."""
        self._process.kill()

    def close(self) -> None:
        """End the process and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._answers, self._chatter):
            with contextlib.suppress(OSError):  # What was never sent cannot be flushed.
                stream.close()

    def _write(self, request: Mapping[str, Any]) -> None:
        self._requests.write(json.dumps(request).encode("ascii") + b"\n")
        self._requests.flush()

    def _message(self) -> dict[str, Any]:
        try:
            header, self._following = receive(self._answers)
        except Broken as error:
            raise self._died() from error
        return header

    def _arriving(self, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        try:
            if not 0 <= count * dtype.itemsize <= self._following:
                raise Broken(f"{count} numbers in {self._following} bytes")
            return receive_array(self._answers, count, dtype)
        except Broken as error:
            raise self._died() from error

    def _await_start(self) -> None:
        try:
            header = self._message()
        except Died as died:
            if self._process.returncode < 0 or not died.details:
                raise
            # An exception while it was imported: the installation's fault, or that of its surroundings.
            last = died.details.strip().split("\n")[-1]
            raise SubtoneError(
                f"the process that reads recordings does not start: {last}; 'subtone doctor' shows what is broken"
            ) from died
        if header.get("is") != "ready":
            raise SubtoneError(str(header.get("message")))
        self._ready = True

    def _died(self) -> Died:
        """Make sure that it is gone, and tell how it went."""
        try:
            # Its streams may end a moment before it does; one that talks nonsense would not end at all.
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return Died("sent what is no message", self._last_words())
        return Died(_cause(code), self._last_words())

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            end = self._chatter.seek(0, os.SEEK_END)
            self._chatter.seek(max(0, end - _TAIL))
            return self._chatter.read().decode("utf-8", "replace")
        return ""


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"ended by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")


def _environment() -> dict[str, str]:
    """Return the environment in which the process finds the same packages and names as this one."""
    folders = [os.path.abspath(folder) for folder in sys.path if isinstance(folder, str)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(folders)),
        "PYTHONUTF8": str(sys.flags.utf8_mode),
        # One thread each: there is a process for each core that is to read.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
