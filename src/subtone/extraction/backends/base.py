"""What computes the frames of clips: the same for every engine that can."""

from __future__ import annotations

import abc
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from subtone.errors import UsageError
from subtone.extraction.options import Precision
from subtone.upstreams import Survey, Upstream, Wave


class BackendError(UsageError):
    """An engine that cannot run an upstream, or not precisely enough."""


class Backend(abc.ABC):
    """An engine with an upstream in it; made by `open_backend`, which also checks it against PyTorch.

    A clip's frames are the same whatever is computed beside it, in the same call or in another thread.

    Attributes
    ----------
    name
        ``"torch"`` or ``"openvino"``.
    precision
        Of the arithmetic inside the encoder; what comes out is float32.
    upstream
        Whose frames these are.
    streams
        Calls of `encode` side by side that are fastest. On a CPU one a core: each keeps to a single thread, as long
        as the calling thread has ``torch.set_num_threads(1)``.
    batch_s
        Seconds of audio, padding counted, that one call should be given at most; 0: a clip a call.
    """

    name: str
    precision: Precision
    upstream: Upstream
    streams: int
    batch_s: float
    _closed = False

    @property
    def device(self) -> torch.device:
        """Where the frames are when they come out."""
        return self.upstream.device

    @abc.abstractmethod
    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> list[Tensor]:
        """Return the frames of each clip; may be called by several threads at once.

        Parameters
        ----------
        waves
            Clips or chunks of clips, each ``(samples,)`` float at 16 kHz; may be empty.
        surveys
            One for each wave; a wave with one is a chunk of the clip that it is the survey of.

        Returns
        -------
        list of Tensor
            Each ``(layers, frames, dim)`` float32 on `device`.

        Raises
        ------
        UpstreamError
            If a clip is not one-dimensional float, or holds NaN or infinity.
        """

    @abc.abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the releases of the libraries that compute, beyond torch."""

    def config(self) -> dict[str, Any]:
        """Return what the frames depend on beside upstream and audio, for a store's fingerprint; JSON."""
        return {
            "name": self.name,
            "precision": self.precision,
            "device": self.device.type,
            "versions": self.versions(),
        }

    def close(self) -> None:
        """Give back what the engine holds beside the upstream; `encode` refuses from then on."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self!r} is closed; open another")

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Name engine, precision and upstream."""
        return f"{type(self).__name__}({self.upstream.name!r}, precision={self.precision!r}, streams={self.streams})"


def cores() -> int:
    """Cores that this process may use, where the system tells; else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def paired(
    waves: Sequence[Wave], surveys: Sequence[Survey | None] | None
) -> list[tuple[Wave, Survey | None]]:
    """Return each wave with its survey or None.

    >>> paired(["wave"], None)
    [('wave', None)]
    """
    return list(zip(waves, [None] * len(waves) if surveys is None else surveys, strict=True))
