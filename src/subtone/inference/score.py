"""The answers on one recording: clips are cut out, judged, scored in batches, and averaged where one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ, Channel
from subtone.inference.judge import Note, joint, judge
from subtone.inference.prediction import FileResult
from subtone.inference.recording import Recording
from subtone.inference.scorer import Scorer, checked
from subtone.inference.sources import Source
from subtone.inference.spans import Per, Span, plan
from subtone.speech import SpeechSegments

BATCH_CLIPS = 16
BATCH_S = 60.0  # Clips scored at a time hold at most about this much audio: bounds the memory of the frames.

OnAudio = Callable[[str, float, float], None]
"""Called after each batch with the recording's name, its seconds done and its seconds in all."""


@dataclass(frozen=True)
class Options:
    """How recordings are scored; see `run`."""

    per: Per
    window_s: float
    hop_s: float
    labels: tuple[str, ...]
    chosen: npt.NDArray[np.int64]
    channel: Channel
    embeddings: bool
    abstain: bool
    on_audio: OnAudio | None


@dataclass(eq=False)
class _Rows:
    """What is known of each span, filled in batch by batch."""

    probabilities: npt.NDArray[np.float64]  # (spans, chosen labels)
    embeddings: npt.NDArray[np.float32]  # (spans, dim); dim is 0 until a batch was scored
    seconds: npt.NDArray[np.float64]  # (spans,) of speech
    notes: list[Note]


def score_recording(scorer: Scorer, source: Source, recording: Recording, options: Options) -> FileResult:
    """Answer for one surveyed recording; see `subtone.inference.run`."""
    spans = plan(options.per, recording.speech, options.window_s, options.hop_s)
    rows = _score(scorer, source, recording, spans, options)
    starts, ends = (np.array(side, np.int64) for side in zip(*spans, strict=True))
    shares = rows.seconds * SAMPLE_RATE_HZ / (ends - starts)
    probabilities, embeddings, notes = rows.probabilities, rows.embeddings, tuple(rows.notes)
    if options.per == "file" and len(spans) > 1:
        probabilities, embeddings, notes = _averaged(rows, shares, ends - starts)
        starts, ends = starts[:1], ends[-1:]
        shares = np.array([rows.seconds.sum() * SAMPLE_RATE_HZ / (ends[0] - starts[0])])
    offset = recording.offset
    return FileResult(
        source.name,
        source.position,
        options.labels,
        starts + offset,
        ends + offset,
        probabilities,
        np.clip(shares, 0.0, 1.0),
        notes,
        recording.speech,
        options.per,
        embeddings if options.embeddings else None,
        offset,
    )


def _score(
    scorer: Scorer, source: Source, recording: Recording, spans: list[Span], options: Options
) -> _Rows:
    count = len(spans)
    rows = _Rows(
        np.full((count, len(options.chosen)), np.nan),
        np.zeros((count, 0), np.float32),
        np.zeros(count),
        [""] * count,
    )
    batch: list[tuple[int, npt.NDArray[np.float32], SpeechSegments]] = []
    samples = 0

    def flush(done: int) -> None:
        if batch:
            which = [row for row, _, _ in batch]
            scores = checked(
                scorer.score([wave for _, wave, _ in batch], [speech for _, _, speech in batch]),
                len(batch),
                len(scorer.labels),
            )
            rows.probabilities[which] = _renormalised(scores.probabilities[:, options.chosen])
            if options.embeddings:
                if not rows.embeddings.shape[1]:
                    rows.embeddings = np.full((count, scores.embeddings.shape[1]), np.nan, np.float32)
                rows.embeddings[which] = scores.embeddings
            batch.clear()
        if options.on_audio is not None:
            options.on_audio(
                source.name, done / SAMPLE_RATE_HZ, recording.speech.num_samples / SAMPLE_RATE_HZ
            )

    for row, ((start, end), wave) in enumerate(zip(spans, recording.clips(spans), strict=True)):
        speech = recording.speech.clip(start, end)
        note = judge(wave, speech)
        rows.notes[row] = note
        if note == "silent":
            speech = SpeechSegments.none(len(wave))  # Nothing can be heard, whatever a detector found in it.
        rows.seconds[row] = speech.speech_samples / SAMPLE_RATE_HZ
        if not note or not options.abstain:
            # A clip that is a part of a block would keep the whole block alive.
            batch.append((row, wave.copy(), speech))
            samples += len(wave)
        if len(batch) >= BATCH_CLIPS or samples >= BATCH_S * SAMPLE_RATE_HZ:
            flush(end)
            samples = 0
    flush(recording.speech.num_samples)
    return rows


def _renormalised(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Let rows sum to 1; a row of zeros (all chosen labels ruled out entirely) knows nothing, and is even.

    >>> _renormalised(np.array([[0.1, 0.3], [0.0, 0.0]]))
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    total = probabilities.sum(axis=1, keepdims=True)  # (clips, 1)
    even = np.full_like(probabilities, 1 / probabilities.shape[1])
    np.divide(probabilities, total, out=even, where=total > 0)
    return even


def _averaged(
    rows: _Rows, shares: npt.NDArray[np.float64], samples: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], tuple[Note, ...]]:
    """Join the parts of a long recording: means weighted by the speech in the parts that could be judged."""
    judged = np.array([not note for note in rows.notes])
    note: Note = "" if judged.any() else joint(rows.notes)
    scored = ~np.isnan(rows.probabilities).any(axis=1)
    if judged.any():
        scored &= judged
    if not scored.any():
        width = rows.embeddings.shape[1]
        return rows.probabilities[:1], np.full((1, width), np.nan, np.float32), (note,)
    weights = (shares * samples)[scored]
    weights = weights if weights.sum() > 0 else samples[scored].astype(np.float64)
    weights = weights / weights.sum()
    probabilities = weights @ rows.probabilities[scored]  # (labels,)
    embeddings = (weights @ rows.embeddings[scored]).astype(np.float32)  # (dim,)
    return (probabilities / probabilities.sum())[None], embeddings[None], (note,)
