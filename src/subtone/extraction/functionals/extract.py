"""From clips to functionals: decoded in processes of their own, computed in one thread a core, kept as they come.

openSMILE lets go of Python's lock while it works, so that threads are as fast as processes would be.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import StoreError
from subtone.extraction.backends import cores
from subtone.extraction.clips import Clip
from subtone.extraction.functionals.shelf import Row, Shelf, open_shelf
from subtone.extraction.functionals.smile import FunctionalSet, Smile
from subtone.extraction.progress import Meter, OnProgress
from subtone.extraction.readers import Failure, Readers, Reading

#: Failures that an error names when nothing worked.
_NAMED = 10


@dataclass(frozen=True, eq=False)
class Functionals:
    """Functionals of clips.

    Parameters
    ----------
    names
        Of the columns.
    values
        ``(clips, functionals)`` float32, finite, of the clips that worked, in the order given.
    rows
        ``(clips,)`` their positions among the clips given.
    failed
        The others.
    maker
        What computed them, e.g. ``"opensmile 2.6.0 eGeMAPSv02"``.
    seconds
        Wall time.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    failed: tuple[Failure, ...]
    maker: str
    seconds: float


def functionals(
    clips: Sequence[Clip],
    which: FunctionalSet,
    *,
    store: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> Functionals:
    """Compute the functionals of clips with openSMILE; what the store has, by content, is not computed again.

    May be killed at any moment: what was written stays. Of several processes with one store, each waits for its turn.

    Parameters
    ----------
    clips
        In any number. One of over ten minutes fails: functionals are of utterances. One of under 60 ms is filled up
        with zeros to that.
    which
        ``"egemaps"``: the 88 of eGeMAPSv02; ``"compare"``: the 6373 of ComParE_2016.
    store
        Folder to keep them in, made if new; they lie in a folder of it that is named by the set and openSMILE's
        version. Without it all stays in memory.
    on_progress
        Told after each clip.

    Returns
    -------
    Functionals
        A clip that cannot be read, or whose functionals are not finite, is named in ``failed``; the others go on.

    Raises
    ------
    StoreError
        If the store is damaged or cannot be written, or if not one clip could be used.
    UsageError
        If the set is not known, or openSMILE is not installed.
    """
    began = time.perf_counter()
    smile = Smile(which)
    place = None if store is None else Path(store) / f"functionals-{which}-opensmile-{smile.version}"
    with open_shelf(place, len(smile.names)) as shelf:
        keys, failed = _fill(shelf, clips, smile, on_progress)
        if not keys:
            raise StoreError(_nothing(failed))
        values = shelf.get(list(keys.values()))
    rows = np.array(list(keys), np.int64)
    elapsed = time.perf_counter() - began
    return Functionals(smile.names, values, rows, tuple(failed), smile.maker, elapsed)


def _fill(
    shelf: Shelf, clips: Sequence[Clip], smile: Smile, on_progress: OnProgress | None
) -> tuple[dict[int, str], list[Failure]]:
    """Put what is missing on the shelf; return the keys of the clips that worked, by position, and the others."""
    keys: dict[int, str] = {}
    failed: list[Failure] = []
    meter = Meter(clips)
    # Whose speech is found is not asked here; the detector of energies costs next to nothing.
    with Readers({"name": "energy"}, cores()) as readers, ThreadPoolExecutor(cores()) as threads:
        outcomes = readers.read(clips, shelf.__contains__)
        for number, done in enumerate(_in_order(outcomes, smile, threads)):
            if isinstance(done, Failure):
                failed.append(done)
                state = meter.failed()
            else:
                keys[number] = done.key
                if done.row is None:
                    state = meter.reused()
                else:
                    shelf.add(done.key, done.row)
                    state = meter.encoded(done.audio_s)
            if on_progress is not None:
                on_progress(state)
    return keys, failed


@dataclass(frozen=True)
class _Done:
    key: str
    row: Row | None = None  # None: it is on the shelf
    audio_s: float = 0.0


def _in_order(
    outcomes: Iterator[Reading | Failure], smile: Smile, threads: ThreadPoolExecutor
) -> Iterator[_Done | Failure]:
    """Compute clips side by side, few enough for their samples to fit into memory; yield them in their order."""
    waiting: deque[Future[_Done | Failure]] = deque()
    for outcome in outcomes:
        waiting.append(threads.submit(_done, outcome, smile))
        if len(waiting) > 2 * cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _done(outcome: Reading | Failure, smile: Smile) -> _Done | Failure:
    if isinstance(outcome, Failure):
        return outcome
    if outcome.reused:
        return _Done(outcome.key)
    file = outcome.clip.file
    if outcome.wave is None:
        return Failure(file, f"{file}: is longer than ten minutes; cut it into utterances")
    try:
        row = smile(outcome.wave)
    except Exception as error:  # whatever a library says of one clip, the others go on
        message = f"{file}: openSMILE gave no functionals ({error}); leave the clip out"
        return Failure(file, message, traceback.format_exc())
    wrong = np.flatnonzero(~np.isfinite(row))
    if len(wrong):
        message = (
            f"{file}: {len(wrong)} of {len(row)} functionals are not finite, {smile.names[wrong[0]]} the first; "
            "leave the clip out"
        )
        return Failure(file, message)
    return _Done(outcome.key, row, outcome.num_samples / SAMPLE_RATE_HZ)


def _nothing(failed: Sequence[Failure]) -> str:
    if not failed:
        return "there are no clips to compute functionals of; give at least one"
    shown = "; ".join(failure.message for failure in failed[:_NAMED])
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return f"none of {len(failed)} clips could be used: {shown}{more}"
