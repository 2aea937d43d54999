"""Prediction over many recordings of any length: read ahead, score in batches, and go on past what fails."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from subtone.audio import Channel
from subtone.audio.source import check_channel
from subtone.errors import AudioError, SubtoneError, UsageError, is_out_of_memory, nearest
from subtone.inference.prediction import RESERVED, Failure, FileResult, Prediction
from subtone.inference.recording import Recording, survey
from subtone.inference.score import OnAudio, Options, score_recording
from subtone.inference.scorer import Scorer
from subtone.inference.sources import Source, Sources, name_sources, printable
from subtone.inference.spans import DEFAULT_HOP_S, DEFAULT_WINDOW_S, Per, check_grid

AHEAD = 2  # Recordings surveyed while one is scored; each holds at most `recording.HELD_S` of audio.

OnFile = Callable[[int, int, FileResult | Failure], None]
"""Called after each recording with how many are done, how many there are, and the outcome."""


def run(
    scorer: Scorer,
    sources: Sources,
    *,
    per: Per = "file",
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
    labels: Sequence[str] | None = None,
    channel: Channel = "mix",
    embeddings: bool = False,
    abstain: bool = True,
    on_file: OnFile | None = None,
    on_audio: OnAudio | None = None,
) -> Prediction:
    """Predict the emotions of recordings.

    Recordings are read in blocks, so that memory does not grow with their length. One that cannot be used is named
    in ``failed`` with the reason, and the others go on.

    Parameters
    ----------
    scorer
        The model.
    sources
        A path, folder or glob pattern, bytes of a file, open binary file, array at 16 kHz, ``(array, rate_hz)``, a
        list of those, or a table or index of audformat segments; see `name_sources`.
    per
        ``"file"``: one answer a recording. Up to `LONGEST_CLIP_S` seconds it is one clip; a longer one is cut into the
        fewest equal parts of at most that length, and the parts' probabilities and embeddings are averaged,
        weighted by their seconds of speech.
        ``"segment"``: an answer for each run of speech, runs over `LONGEST_SEGMENT_S` in equal parts.
        ``"window"``: an answer for each window of a regular grid; see `subtone.inference.spans.window_spans`.
    window_s, hop_s
        Length and distance of windows in seconds.
    labels
        Choose among these emotions only: their probabilities are renormalised to sum to 1, and come in this order.
        All of the model's by default.
    channel
        ``"mix"``, or the number of one channel, from 0.
    embeddings
        Keep embeddings too.
    abstain
        Leave clips unanswered that are too short, silent or without speech (see `subtone.inference.judge`). False
        scores them as well; the note stays.
    on_file, on_audio
        Progress, see `OnFile` and `OnAudio`.

    Returns
    -------
    Answers in the order of the sources. A recording without speech has one row (per window: a row each) with a note.

    Raises
    ------
    UsageError
        No sources, an unknown label, ``per`` or channel, or a window or hop out of range.
    """
    options = _options(scorer, per, window_s, hop_s, labels, channel, embeddings, abstain, on_audio)
    return Prediction.collect(_outcomes(scorer, name_sources(sources), options, on_file), options.labels)


def iterate(
    scorer: Scorer,
    sources: Sources,
    *,
    per: Per = "file",
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
    labels: Sequence[str] | None = None,
    channel: Channel = "mix",
    embeddings: bool = False,
    abstain: bool = True,
    on_file: OnFile | None = None,
    on_audio: OnAudio | None = None,
) -> Iterator[FileResult | Failure]:
    """Predict recordings one after the other: `run`, but each outcome is there as soon as it is known.

    Parameters
    ----------
    scorer, sources, per, window_s, hop_s, labels, channel, embeddings, abstain, on_file, on_audio
        See `run`.

    Returns
    -------
    An iterator over outcomes in the order of the sources. Wrong arguments raise at once, not at the first outcome.
    """
    options = _options(scorer, per, window_s, hop_s, labels, channel, embeddings, abstain, on_audio)
    return _outcomes(scorer, name_sources(sources), options, on_file)


def _options(
    scorer: Scorer,
    per: str,
    window_s: float,
    hop_s: float,
    labels: Sequence[str] | None,
    channel: Channel,
    embeddings: bool,
    abstain: bool,
    on_audio: OnAudio | None,
) -> Options:
    known = tuple(scorer.labels)
    clash = [label for label in known if label in RESERVED]
    if clash:
        raise UsageError(
            f"the model has a label {clash[0]!r}, which is the name of a column; rename the label"
        )
    names = (
        (labels,) if isinstance(labels, str) else known if labels is None else tuple(dict.fromkeys(labels))
    )
    if not names:
        raise UsageError(f"labels: choose at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UsageError(f"the model knows no label {name!r}; {nearest(str(name), known)}")
    try:
        check_channel(channel)
    except AudioError as error:
        raise UsageError(str(error)) from None
    checked_per = check_grid(per, window_s, hop_s)
    chosen = np.array([known.index(name) for name in names], np.int64)
    return Options(checked_per, window_s, hop_s, names, chosen, channel, embeddings, abstain, on_audio)


def _outcomes(
    scorer: Scorer, sources: list[Source], options: Options, on_file: OnFile | None
) -> Iterator[FileResult | Failure]:
    for done, (source, surveyed) in enumerate(_surveyed(scorer, sources, options.channel), start=1):
        outcome: FileResult | Failure
        if isinstance(surveyed, Failure):
            outcome = surveyed
        else:
            try:
                outcome = score_recording(scorer, source, surveyed, options)
            except (SubtoneError, OSError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                    raise
                outcome = _failure(source, error)
        if on_file is not None:
            on_file(done, len(sources), outcome)
        yield outcome


def _failure(source: Source, error: BaseException) -> Failure:
    message = printable(str(error)) or type(error).__name__
    if isinstance(error, OSError):
        message = f"cannot be read ({error.strerror or error})"
    if is_out_of_memory(error):
        message = "does not fit into memory; predict it per window, or cut it"
    if source.name not in message:
        # What is in memory is known to the reader by another name, e.g. "<bytes>".
        message = f"{source.name}: {re.sub(r'^<[^>]*>: ', '', message)}"
    return Failure(source.name, message, source.position)


def _surveyed(
    scorer: Scorer, sources: Iterable[Source], channel: Channel
) -> Iterator[tuple[Source, Recording | Failure]]:
    """Yield each source with its survey, a few ahead of the one who asks: decoding runs beside scoring."""
    given_up = threading.Event()

    def look(source: Source) -> Recording | Failure:
        try:
            return survey(source, channel, scorer.detector, given_up.is_set)
        except (SubtoneError, OSError, MemoryError) as error:
            return _failure(source, error)

    ahead: deque[tuple[Source, Future[Recording | Failure]]] = deque()
    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="subtone-reader")
    try:
        for source in sources:
            ahead.append((source, reader.submit(look, source)))
            if len(ahead) > AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        given_up.set()  # An interrupt need not wait for the survey of ten hours to end.
        reader.shutdown(wait=True, cancel_futures=True)
