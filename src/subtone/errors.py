"""The one family of errors that Subtone raises for a user's mistake or a broken input.

Each message says what was wrong, where (file, row, key) and what to do. The command line prints it as one line; a batch
records it beside the file and goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SubtoneError(Exception):
    """Base of all errors that a user can act on."""


class AudioError(SubtoneError):
    """A recording that cannot be read, or whose content is no usable audio."""


class SpeechError(SubtoneError):
    """A voice activity detector that is unknown, misconfigured or not installed."""


class UpstreamError(SubtoneError):
    """An upstream that cannot be found or loaded, or that Subtone does not know."""


class CorpusError(SubtoneError):
    """A corpus folder or manifest that does not hold what its reader expects."""


class ProtocolError(SubtoneError):
    """A protocol that cannot be built on a table, e.g. too few speakers."""


class LeakError(ProtocolError):
    """The same speaker, audio or sentence on two sides of a split."""


class StoreError(SubtoneError):
    """A feature store that is damaged or was made with other settings."""


class BundleError(SubtoneError):
    """A saved model that cannot be read: unknown, newer schema, unsafe or damaged."""


class RecipeError(SubtoneError):
    """A recipe or a ``--set`` that does not fit the schema."""


class TrainingError(SubtoneError):
    """A training that cannot go on: losses that are no numbers, memory that ran out, a folder of another run."""


class PretrainingError(TrainingError):
    """A pre-training that cannot go on: losses that are no numbers, a run folder made with other settings."""


class UsageError(SubtoneError):
    """Arguments that cannot be honoured, e.g. a label that the model does not know."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, in Python, NumPy or torch on any device.

    torch says it by an error of its own on accelerators and by a plain ``RuntimeError`` on the CPU.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shape"))
    (True, False)
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest known name, or lists all when none is close.

    >>> nearest("ravdes", ["ravdess", "emodb"])
    "did you mean 'ravdess'?"
    >>> nearest("x", ["a", "b"])
    'known: a, b'
    """
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(options)}" if options else "none is known"
