"""The work of a cell that hears all clips of a corpus under one condition: features, speech found, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone import upstreams
from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import SubtoneError, UsageError
from subtone.extraction import PooledFeatures
from subtone.extraction.backends import Backend, open_backend
from subtone.extraction.chunks import Chunk
from subtone.extraction.pooled import ClipPooling
from subtone.extraction.silence import kept_spans, samples_of, speech_of
from subtone.pooling import looks_at_speech
from subtone.speech import SpeechSegments, load_detector
from subtone.studies.attentive import Frames, Judges
from subtone.studies.cells import Earlier, Outcome
from subtone.studies.conditions import Heard, Wave, condition_of, hear
from subtone.studies.material import Waves
from subtone.upstreams import Upstream

_STEP = SAMPLE_RATE_HZ // 100  # 10 ms, at which detectors are scored

#: Speech found, speech missed, non-speech taken for speech, non-speech left out.
COUNTS = ("hits", "misses", "false_alarms", "rejections")


def encode(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Hear all clips of a corpus under one condition.

    A clip that fails under a condition is named in ``failed`` (its row and why), and has zeros in all arrays: whoever
    reads them leaves it out. One that fails as it is fails the cell: there is nothing to compare it with.

    Returns
    -------
    Outcome
        Arrays ``DETECTOR/STATISTIC (clips, layers, dim)`` (of several detectors, what does not look at speech is the
        first one's alone), ``DETECTOR/num_frames`` and ``DETECTOR/speech_frames (clips,)``,
        ``DETECTOR/counts (clips, 4)`` in seconds (see `COUNTS`), ``num_samples (clips,)``, ``judges/NUMBER (clips,
        classes)`` logits, and those of `Frames` where frames are kept.
    """
    upstream, backend = _opened(given["upstream"], given["backend"], given["precision"])
    detectors = {name: load_detector(config) for name, config in given["detectors"].items()}
    waves = Waves(earlier.path(given["waves"]))
    sounds = _sounds(given, earlier) if given["sounds"] else []
    judges = Judges.read([earlier[name] for name in given["judges"]], upstream)
    frames = Frames.collect(upstream) if given["keep_frames"] else None
    collected = _Collected(list(detectors), given["statistics"])
    what = condition_of(given["condition"])
    failed: list[tuple[int, str]] = []
    for row in range(len(waves)):
        try:
            heard = hear(waves[row], what, (given["seed"], row, int(given["rehearsal"])), sounds)
            speech = {name: detector.detect(heard.wave) for name, detector in detectors.items()}
            if given["cut_s"] is not None:
                heard, speech = _cut(heard, speech, given["cut_s"])
            joined = collected.add(upstream, backend, heard, speech)
        except SubtoneError as error:
            if what.kind == "plain":
                raise
            failed.append((row, str(error)))
            collected.miss()
            if frames is not None:
                frames.miss()
            continue
        judges.hear(row, joined, speech[collected.first])
        if frames is not None:
            frames.add(joined, speech[collected.first])
    arrays = {**collected.arrays(), **judges.arrays(len(waves))}
    if frames is not None:
        arrays |= frames.arrays()
    return Outcome({"failed": failed}, arrays)


class _Collected:
    """What is kept of each clip, as they come."""

    def __init__(self, detectors: Sequence[str], statistics: Sequence[str]) -> None:
        self.first = detectors[0]
        self._statistics = {
            name: [one for one in statistics if name == self.first or looks_at_speech(one)]
            for name in detectors
        }
        self._pooled: dict[str, list[PooledFeatures | None]] = {name: [] for name in detectors}
        self._counts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in detectors}

    def add(
        self, upstream: Upstream, backend: Backend, heard: Heard, speech: Mapping[str, SpeechSegments]
    ) -> Tensor:
        """Encode a clip and pool it over the speech of each detector; return its frames ``(layers, frames, dim)``."""
        works = {
            name: ClipPooling.plan(upstream, len(heard.wave), speech[name], statistics)
            for name, statistics in self._statistics.items()
        }
        chunks = works[self.first].chunks
        encoded = _encoded(backend, upstream, heard.wave, chunks)
        done = {
            name: work.finish(work.part(chunk, one) for chunk, one in zip(chunks, encoded, strict=True))
            for name, work in works.items()
        }
        for name, features in done.items():  # when all went well: a clip is there for all detectors or none
            self._pooled[name].append(features)
            self._counts[name].append(quality(heard, speech[name]))
        return torch.cat([one[:, chunk.core] for chunk, one in zip(chunks, encoded, strict=True)], dim=1)

    def miss(self) -> None:
        """Keep the place of a clip that failed."""
        for name, each in self._pooled.items():
            each.append(None)
            self._counts[name].append(np.zeros(len(COUNTS)))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a cell keeps.

        Raises
        ------
        UsageError
            If every clip failed.
        """
        found: dict[str, npt.NDArray[Any]] = {}
        for name, each in self._pooled.items():
            good = next((one for one in each if one is not None), None)
            if good is None:
                raise UsageError("every clip failed under this condition")
            nothing = np.zeros(1, np.int64)
            zeros = {statistic: np.zeros_like(values) for statistic, values in good.statistics.items()}
            blank = PooledFeatures(zeros, nothing, nothing, nothing, np.zeros(1, np.bool_))
            joined = PooledFeatures.concatenate(blank if one is None else one for one in each)
            found |= {f"{name}/{statistic}": values for statistic, values in joined.statistics.items()}
            found |= {f"{name}/num_frames": joined.num_frames, f"{name}/speech_frames": joined.speech_frames}
            found[f"{name}/counts"] = np.stack(self._counts[name])
            if name == self.first:
                found["num_samples"] = joined.num_samples
        return found


@lru_cache(maxsize=1)
def _opened(name: str, backend: Any, precision: Any) -> tuple[Upstream, Backend]:
    # Kept from cell to cell: opening an engine holds it against PyTorch first, which takes a while.
    upstream = upstreams.load(name)
    return upstream, open_backend(upstream, backend, precision)


def _sounds(given: Mapping[str, Any], earlier: Earlier) -> list[Wave]:
    """Return the sounds of a condition; training and test share no recording."""
    shelf = Waves(earlier.path(given["sounds"]))
    own = range(1 if given["rehearsal"] else 0, len(shelf), 2)
    if not len(own):
        raise UsageError("too few sounds: two or more are needed, since training and test share none")
    return [shelf[row] for row in own]


def _encoded(backend: Backend, upstream: Upstream, wave: Wave, chunks: Sequence[Chunk]) -> list[Tensor]:
    """Return the frames of each chunk, ``(layers, frames, dim)``."""
    survey = upstream.survey([wave]) if len(chunks) > 1 else None
    with torch.inference_mode():
        return [backend.encode([wave[chunk.start : chunk.end]], [survey])[0] for chunk in chunks]


def _cut(
    heard: Heard, speech: Mapping[str, SpeechSegments], longest_s: float
) -> tuple[Heard, dict[str, SpeechSegments]]:
    """Shorten the silences of a clip before the upstream hears it, as extraction does on request."""
    ((name, segments),) = speech.items()
    spans = kept_spans(segments, longest_s)
    return Heard(np.concatenate(list(samples_of([heard.wave], spans)))), {name: speech_of(segments, spans)}


def quality(heard: Heard, found: SpeechSegments) -> npt.NDArray[np.float64]:
    """Hold detected speech against what is known: ``(4,)`` seconds, see `COUNTS`; zeros where nothing is known.

    Speech is where the clip is clearly loud, non-speech what lies outside the clip; soft speech and pauses within it
    are not scored, since nobody knows which is which.
    """
    if heard.loud is None or heard.placed is None:
        return np.zeros(len(COUNTS))
    places = np.arange(_STEP // 2, len(heard.wave), _STEP)
    loud, placed, taken = (_inside(one, places) for one in (heard.loud, heard.placed, found))
    each = (loud & taken, loud & ~taken, ~placed & taken, ~placed & ~taken)
    return np.array([one.sum() for one in each]) * _STEP / SAMPLE_RATE_HZ


def _inside(segments: SpeechSegments, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = segments.before(places + 1) > segments.before(places)
    return inside
