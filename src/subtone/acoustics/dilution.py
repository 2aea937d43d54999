"""A clip of speech inside a longer recording of something else, with its place known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from subtone.acoustics.levels import rms
from subtone.acoustics.noise import coloured_noise, with_noise
from subtone.acoustics.randomness import Seed, stream
from subtone.acoustics.trimming import active_rms
from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError, nearest
from subtone.speech import SpeechSegments, Wave

Filler = Literal["silence", "room", "noise", "sounds"]

FILLERS: tuple[Filler, ...] = get_args(Filler)

_PLACE, _ROOM, _NOISE, _BEFORE, _BEHIND = range(5)  # streams of random numbers
_ROOM_SNR_DB = 45.0  # a quiet room, a microphone near the mouth
_ROOM_COLOUR_DB = -5.0  # per octave: nearly brown
_COLOURS_DB = (-6.0, 3.0)  # brown to blue
_PAUSE_S = (0.1, 0.4)  # between two sounds
_DISTANCE = round(0.1 * SAMPLE_RATE_HZ)  # between a sound and the clip
_LEAST = round(0.2 * SAMPLE_RATE_HZ)  # a sound cut shorter is a click
_FADE = round(0.01 * SAMPLE_RATE_HZ)


@dataclass(frozen=True, eq=False)
class Diluted:
    """A recording with a clip in it.

    Attributes
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz; may go beyond [-1, 1] where something lies over the clip.
    speech
        Where the clip was put, as one segment: known by construction, whatever can be heard.
    """

    wave: Wave
    speech: SpeechSegments


def dilute(
    wave: Wave, filler: Filler, share: float, snr_db: float | None, seed: Seed, sounds: Sequence[Wave] = ()
) -> Diluted:
    """Put a clip into a longer recording of non-speech, so that it takes a given share of it.

    The recording is ``round(samples / share)`` samples long. What is added lies before and after the clip, split at a
    place that the seed draws, never inside. Clip and seed given, the clip lies at the same place relative to what is
    added whatever the filler, and for a share at the same sample; its own samples keep their level.

    silence
        Digital zeros.
    room
        Tone of a quiet room, nearly brown noise, under everything, the clip included: one continuous noise 45 dB
        below the clip.
    noise
        Noise of a random colour, -6 (brown) to 3 (blue) dB per octave, under everything in the same way, at ``snr_db``.
    sounds
        Recordings one after another in a random order, each once before one comes again, with pauses of 0.1 to 0.4 s,
        never over the clip (0.1 s away at least); one that does not fit is cut, or left out if less than 0.2 s fit.
        Each is faded in and out over 10 ms, and lies ``snr_db`` below the clip, by its level where it is loud. Beneath
        everything is the tone of a room, as above.

    Parameters
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz: speech from end to end, as `subtone.acoustics.trim` gives it. Not changed.
    filler
        What to add.
    share
        Part of the recording that the clip is, in (0, 1]. At 1 there is nothing to add: silence and sounds give the
        clip's own samples; room and noise are still under it.
    snr_db
        Level of the clip, its RMS, above that of the noise or of each sound in dB; None for silence and room.
    seed
        Whole number of 0 or more, or several. Same seed, same bits.
    sounds
        Recordings for the filler of that name, such as `subtone.acoustics.load_sounds` gives; else not looked at.

    Raises
    ------
    UsageError
        If an argument is out of its range or does not go with the filler, or the clip is silent where a level
        is needed.
    AudioError
        If a recording that is to be put in is silent.

    Examples
    --------
    >>> clip = np.full(1_000, 0.5, np.float32)
    >>> diluted = dilute(clip, "silence", 0.25, None, seed=1)
    >>> len(diluted.wave), diluted.speech, int(np.count_nonzero(diluted.wave))
    (4000, SpeechSegments(1 segment, 1000 of 4000 samples), 1000)
    """
    clip = np.asarray(wave, dtype=np.float32)
    _check(clip, filler, share, snr_db, sounds)
    total = round(len(clip) / share)
    added = total - len(clip)
    start = min(int(stream(seed, _PLACE).random() * (added + 1)), added)
    speech = SpeechSegments([start], [start + len(clip)], total)  # type: ignore[arg-type]
    made = np.zeros(total, dtype=np.float32)
    made[start : start + len(clip)] = clip
    level = rms(clip)
    if filler == "noise":
        assert snr_db is not None
        rng = stream(seed, _NOISE)
        colour = rng.uniform(*_COLOURS_DB)
        made = with_noise(made, coloured_noise(total, colour, rng), snr_db, level=level)
    elif filler == "room" or (filler == "sounds" and added):
        tone = coloured_noise(total, _ROOM_COLOUR_DB, stream(seed, _ROOM))
        made = with_noise(made, tone, _ROOM_SNR_DB, level=level)
    if filler == "sounds":
        assert snr_db is not None
        end, level = start + len(clip), level * 10 ** (-snr_db / 20)
        for at, until, number in ((0, start - _DISTANCE, _BEFORE), (end + _DISTANCE, total, _BEHIND)):
            for sound in _row(until - at, sounds, level, stream(seed, number)):
                made[at : at + len(sound)] += sound
                at += len(sound)
    return Diluted(made, speech)


def _row(samples: int, sounds: Sequence[Wave], level: float, rng: np.random.Generator) -> Iterator[Wave]:
    """Yield sounds and pauses in turn that together fill at most so many samples."""
    order: list[int] = []
    while samples >= _LEAST:
        if not order:
            order = rng.permutation(len(sounds)).tolist()
        sound = np.asarray(sounds[order.pop()], dtype=np.float32)
        part = sound[:samples] * np.float32(level / active_rms(sound))
        fade = min(_FADE, len(part) // 2)
        ramp = (np.arange(1, fade + 1) / (fade + 1)).astype(np.float32)  # (fade,)
        part[:fade] *= ramp
        part[len(part) - fade :] *= ramp[::-1]
        pause = round(rng.uniform(*_PAUSE_S) * SAMPLE_RATE_HZ)
        yield part
        yield np.zeros(min(pause, samples - len(part)), dtype=np.float32)
        samples -= len(part) + pause


def _check(clip: Wave, filler: str, share: float, snr_db: float | None, sounds: Sequence[Wave]) -> None:
    if filler not in FILLERS:
        raise UsageError(f"dilute: no filler {filler!r}; {nearest(filler, FILLERS)}")
    if clip.ndim != 1 or not len(clip):
        raise UsageError(f"dilute: wave must be (samples,), at least one, got shape {clip.shape}")
    if not 0 < share <= 1:
        raise UsageError(f"dilute: share = {share!r} must lie in (0, 1]")
    if filler in ("silence", "room"):
        if snr_db is not None:
            raise UsageError(f"dilute: snr_db = {snr_db!r} has no meaning for {filler!r}; leave it None")
    elif snr_db is None or not math.isfinite(snr_db):
        raise UsageError(f"dilute: filler {filler!r} needs snr_db, a finite number of dB, got {snr_db!r}")
    if filler == "sounds" and not len(sounds):
        raise UsageError("dilute: filler 'sounds' needs recordings; give them as sounds")
    if filler != "silence" and not clip.any():
        raise UsageError(f"dilute: the clip is silent, so that filler {filler!r} has no level; leave it out")
