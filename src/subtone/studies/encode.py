"""Cells that hear all clips under one condition: what was pooled, how well speech was found, what networks said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone import upstreams
from subtone.acoustics.sounds import load_sounds
from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError
from subtone.extraction import PooledFeatures
from subtone.extraction.backends import Backend, open_backend
from subtone.extraction.chunks import Chunk
from subtone.extraction.pooled import ClipPooling
from subtone.extraction.silence import kept_spans, samples_of, speech_of
from subtone.speech import Detector, SpeechSegments, load_detector
from subtone.studies.attentive import Frames, Judges
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.conditions import Condition, Heard, Wave, condition_of, hear
from subtone.studies.material import Material, Waves
from subtone.studies.options import StudyOptions
from subtone.upstreams import Upstream

_LOT = 16  # clips whose speech is found together
_STEP = SAMPLE_RATE_HZ // 100  # 10 ms, at which detectors are scored

#: Speech found, speech missed, non-speech taken for speech, non-speech left out.
COUNTS = ("hits", "misses", "false_alarms", "rejections")
SOUNDS = "sounds"


def sounds_cell(folder: str | Path, seed: int, limit: int = 400) -> Cell:
    """Return the cell of the non-speech human sounds of a study."""
    return Cell(SOUNDS, read_sounds, {"folder": str(folder), "seed": seed, "limit": limit})


def read_sounds(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Read, trim and join the recordings of sounds."""
    found = load_sounds(given["folder"], given["limit"], given["seed"])
    starts = np.concatenate([[0], np.cumsum([len(wave) for wave in found.waves])]).astype(np.int64)
    values = {"kinds": list(found.kinds), "left_out": len(found.left_out)}
    return Outcome(values, {"samples": np.concatenate(found.waves), "starts": starts})


@dataclass(frozen=True)
class Hearing:
    """How the clips of a corpus are heard, whatever the condition.

    Parameters
    ----------
    material
        The corpus.
    upstream
        Name or folder.
    options
        Arithmetic and seed.
    statistics
        What is pooled.
    detectors
        Name → configuration, as :meth:`subtone.speech.Detector.config` gives it.
    sounds
        Whether there is a cell of sounds.
    cut_s
        Shorten the silences of each clip to so much before the upstream hears it, as the one detector finds them; None
        leaves them.
    """

    material: Material
    upstream: str
    options: StudyOptions
    statistics: tuple[str, ...]
    detectors: Mapping[str, Mapping[str, Any]]
    sounds: bool = False
    cut_s: float | None = None

    def cell(
        self,
        what: Condition,
        *,
        judges: Sequence[str] = (),
        keep_frames: bool = False,
        prefix: str = "heard",
        rehearsal: bool = False,
    ) -> Cell:
        """Return the cell of one condition.

        Parameters
        ----------
        what
            The condition.
        judges
            Cells of networks, which score the test clips of their folds on the way.
        keep_frames
            Keep all frames in half precision, for networks to learn from.
        prefix
            Of the cell's name, where one condition is heard in several ways.
        rehearsal
            Take sounds and draws that no other condition takes, for training.
        """
        given = {
            "upstream": self.upstream,
            "backend": self.options.backend,
            "precision": self.options.precision,
            "waves": self.material.waves.name,
            "condition": what.to_dict(),
            "statistics": list(self.statistics),
            "detectors": {name: dict(config) for name, config in self.detectors.items()},
            "sounds": SOUNDS if self.sounds else None,
            "cut_s": self.cut_s,
            "judges": list(judges),
            "keep_frames": keep_frames,
            "rehearsal": rehearsal,
            "seed": self.options.seed,
        }
        needs = (self.material.waves.name, *((SOUNDS,) if self.sounds else ()), *judges)
        name = f"{self.material.name}/{prefix}/{what.label}"
        return Cell(name, encode, given, self.material.seconds * what.length, needs)


def encode(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Hear all clips of a corpus under one condition.

    Returns
    -------
    Outcome
        Arrays ``DETECTOR/STATISTIC (clips, layers, dim)``, ``DETECTOR/num_frames (clips,)`` and
        ``DETECTOR/speech_frames (clips,)``, ``DETECTOR/counts (clips, 4)`` in seconds (see `COUNTS`),
        ``num_samples (clips,)``, ``judges/NUMBER (clips, classes)`` logits, and those of `Frames` where frames are
        kept.
    """
    upstream, backend = _opened(given["upstream"], given["backend"], given["precision"])
    detectors = {name: load_detector(config) for name, config in given["detectors"].items()}
    waves = Waves(earlier.path(given["waves"]))
    judges = Judges.read([earlier[name] for name in given["judges"]], upstream)
    frames = Frames.collect(upstream) if given["keep_frames"] else None
    pooled: dict[str, list[PooledFeatures]] = {name: [] for name in detectors}
    counts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in detectors}
    lengths = []
    first = next(iter(detectors))
    for row, heard, speech in _heard(given, earlier, waves, detectors):
        if given["cut_s"] is not None:
            heard, speech = _cut(heard, {first: speech[first]}, given["cut_s"])
        chunks = ClipPooling.plan(upstream, len(heard.wave), speech[first], given["statistics"]).chunks
        encoded = _encoded(backend, upstream, heard.wave, chunks)
        for name, segments in speech.items():
            work = ClipPooling.plan(upstream, len(heard.wave), segments, given["statistics"])
            parts = [work.part(chunk, one) for chunk, one in zip(chunks, encoded, strict=True)]
            pooled[name].append(work.finish(parts))
            counts[name].append(quality(heard, segments))
        lengths.append(len(heard.wave))
        if judges or frames is not None:
            cores = [one[:, chunk.core] for chunk, one in zip(chunks, encoded, strict=True)]
            joined = torch.cat(cores, dim=1)  # (layers, frames, dim)
            judges.hear(row, joined, speech[first])
            if frames is not None:
                frames.add(joined, speech[first])
    arrays: dict[str, npt.NDArray[Any]] = {"num_samples": np.array(lengths, np.int64)}
    for name, each in pooled.items():
        found = PooledFeatures.concatenate(each)
        arrays |= {f"{name}/{statistic}": values for statistic, values in found.statistics.items()}
        arrays |= {f"{name}/num_frames": found.num_frames, f"{name}/speech_frames": found.speech_frames}
    for name, seconds in counts.items():
        arrays[f"{name}/counts"] = np.stack(seconds)
    arrays |= judges.arrays(len(waves))
    if frames is not None:
        arrays |= frames.arrays()
    return Outcome({"seconds": sum(lengths) / SAMPLE_RATE_HZ}, arrays)


@lru_cache(maxsize=1)
def _opened(name: str, backend: Any, precision: Any) -> tuple[Upstream, Backend]:
    # Kept from cell to cell: opening an engine holds it against PyTorch first, which takes a while.
    upstream = upstreams.load(name)
    return upstream, open_backend(upstream, backend, precision)


def _heard(
    given: Mapping[str, Any], earlier: Earlier, waves: Waves, detectors: Mapping[str, Detector]
) -> Iterator[tuple[int, Heard, dict[str, SpeechSegments]]]:
    """Yield each clip as it is heard, and where each detector finds speech in it."""
    what = condition_of(given["condition"])
    sounds = _sounds(given, earlier) if given["sounds"] else []
    draw = 1 if given["rehearsal"] else 0
    for start in range(0, len(waves), _LOT):
        rows = range(start, min(start + _LOT, len(waves)))
        lot = [hear(waves[row], what, (given["seed"], row, draw), sounds) for row in rows]
        found = {name: one.detect_many([heard.wave for heard in lot]) for name, one in detectors.items()}
        for place, row in enumerate(rows):
            yield row, lot[place], {name: each[place] for name, each in found.items()}


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
