"""Changes to a clip's wave that its emotion survives: another speed, room, background and level.

Each clip draws from its own seed alone, so that a run can be repeated whatever loads the clips and in which order.
Which clip gets which seed is left to the loader; levelling and batching to the upstream's front end.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from subtone.acoustics.levels import rms
from subtone.acoustics.noise import coloured_noise, with_noise
from subtone.acoustics.randomness import Seed, stream
from subtone.acoustics.rooms import decaying_noise, in_room
from subtone.acoustics.speed import fitted, length_at
from subtone.audio import SAMPLE_RATE_HZ, expand, load_audio
from subtone.errors import AudioError, UsageError
from subtone.speech.segments import SpeechSegments
from subtone.training.options import STRICT, OptionError

Wave = npt.NDArray[np.float32]

Effect = Literal["speed", "reverb", "noise", "gain"]

EFFECTS: tuple[Effect, ...] = get_args(Effect)
"""In the order in which they are applied: who speaks, then the room, then what else is heard, then the recorder."""

_BOUNDS = {
    "noise_snr_db": (-40.0, 100.0),
    "speed_range": (0.25, 4.0),
    "reverb_rt60_s": (0.05, 10.0),  # shorter, and a single reflection could exceed the direct sound
    "gain_db": (-80.0, 40.0),
}

_COLOUR_DB_PER_OCTAVE = (-6.0, 3.0)  # brown to blue: rooms, streets and fans rumble more than they hiss
_DIRECT_TO_REVERBERANT_DB = (0.0, 12.0)  # from a talker across a living room to one near the microphone
_CACHE_SAMPLES = 64 * 1024 * 1024  # 256 MiB, 70 minutes


@dataclass(frozen=True)
class AugmentationOptions:
    """How often and how much a clip is changed; each effect is drawn by itself.

    Attributes
    ----------
    noise, speed, reverb, gain
        Probability in [0, 1] that a clip gets the effect; 0 turns it off.
    noise_snr_db
        Level of the clip above the noise in dB, over the clip as a whole, drawn uniformly; within [-40, 100].
    noise_folder
        Folder of recordings to take noise from, folders below included. None: noise of a random colour,
        -6 (brown) to 3 (blue) dB per octave.
    speed_range
        Factor by which time is compressed, pitch and all, as by a faster tape; drawn uniformly; within [0.25, 4].
    reverb_folder
        Folder of recorded impulse responses. None: noise that decays exponentially behind the direct sound,
        which carries 0 to 12 dB more energy.
    reverb_rt60_s
        Seconds until that noise has decayed by 60 dB, drawn uniformly; within [0.05, 10].
    gain_db
        Change of level in dB, drawn uniformly; within [-80, 40].

    Raises
    ------
    OptionError
        If a probability or a range lies outside its bounds or a range is not ordered.

    Source
    ------
    Speed perturbation: Ko et al. 2015 (Interspeech). Noise and reverberation: Ko et al. 2017 (ICASSP).

    Examples
    --------
    >>> AugmentationOptions().active, AugmentationOptions(speed=0.5).active
    (False, True)
    """

    __pydantic_config__ = STRICT

    noise: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    noise_folder: str | None = None
    speed: float = 0.0
    speed_range: tuple[float, float] = (0.9, 1.1)
    reverb: float = 0.0
    reverb_folder: str | None = None
    reverb_rt60_s: tuple[float, float] = (0.1, 0.8)
    gain: float = 0.0
    gain_db: tuple[float, float] = (-12.0, 6.0)

    def __post_init__(self) -> None:
        for effect in EFFECTS:
            share = getattr(self, effect)
            if not (_is_number(share) and 0 <= share <= 1):
                raise OptionError(f"augmentation: {effect} = {share!r} must lie in [0, 1]")
        for name, (low, high) in _BOUNDS.items():
            given = getattr(self, name)
            pair = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
            if not (len(pair) == 2 and all(map(_is_number, pair)) and low <= pair[0] <= pair[1] <= high):
                raise OptionError(
                    f"augmentation: {name} = {given!r} must be two numbers within [{low:g}, {high:g}], "
                    "the lower one first"
                )
            object.__setattr__(self, name, (float(pair[0]), float(pair[1])))  # YAML gives lists of integers

    @property
    def active(self) -> bool:
        """Whether any clip can be changed."""
        return any(getattr(self, effect) > 0 for effect in EFFECTS)


@dataclass(frozen=True, eq=False)
class Augmented:
    """A changed clip.

    Attributes
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz, finite; may go beyond [-1, 1]. Without a change, the given array itself.
    speed
        Factor by which time was compressed: sample i stands for sample ``i * speed`` of the original.
    """

    wave: Wave
    speed: float = 1.0

    def segments(self, speech: SpeechSegments) -> SpeechSegments:
        """Return where speech of the original lies now; what has become shorter than half a sample is left out.

        Parameters
        ----------
        speech
            Segments of the original wave.

        Raises
        ------
        UsageError
            If the segments are of a wave that cannot have become this one, by its length.

        Examples
        --------
        >>> twice = Augmented(np.zeros(5, np.float32), speed=2.0)
        >>> moved = twice.segments(SpeechSegments([2, 8], [6, 10], 10))
        >>> moved.starts.tolist(), moved.ends.tolist(), moved.num_samples
        ([1, 4], [3, 5], 5)
        """
        now = len(self.wave)
        if length_at(speech.num_samples, self.speed) != now:
            raise UsageError(
                f"segments: a wave of {speech.num_samples} samples does not become one of {now} at speed "
                f"{self.speed:g}; give the segments of the wave that was augmented"
            )
        if self.speed == 1.0:
            return speech
        starts, ends = (
            np.minimum(np.rint(edges / self.speed).astype(np.int64), now)
            for edges in (speech.starts, speech.ends)
        )
        ends[speech.ends == speech.num_samples] = now  # also where a wave would round to nothing
        kept = starts < ends
        return SpeechSegments(starts[kept], ends[kept], now, speech.sample_rate_hz)


class Augmenter:
    """Changes clips as told by `AugmentationOptions`, in the order speed, reverb, noise, gain.

    May be shared by threads and pickled. The transforms of audiomentations draw from the global generators of
    ``random`` and ``numpy``, which loaders in threads share; so everything is drawn here, from the clip's seed, and
    audiomentations only gets frozen parameters: for speed and gain. Its noise and reverb draw samples while they are
    applied, read files by themselves and rescale; these two are done here.

    Parameters
    ----------
    options
        What to change how often.

    Raises
    ------
    UsageError
        If anything is to be changed and audiomentations is not installed, or a folder that is to be used does
        not exist or holds no recordings.
    """

    def __init__(self, options: AugmentationOptions) -> None:
        self.options = options
        self._noises: _Recordings | None = None
        self._rooms: _Recordings | None = None
        if options.active:
            _audiomentations()  # now, not in the middle of training
        if options.noise > 0 and options.noise_folder is not None:
            self._noises = _Recordings.below(options.noise_folder, "noise_folder")
        if options.reverb > 0 and options.reverb_folder is not None:
            self._rooms = _Recordings.below(options.reverb_folder, "reverb_folder")

    def __call__(self, wave: Wave, seed: Seed) -> Augmented:
        """Change a clip.

        The same wave, options and seed give the same samples, bit for bit, on one machine. Each effect has its own
        stream of random numbers: to turn one on or off does not change what another one draws.

        Parameters
        ----------
        wave
            ``(samples,)`` float32 at 16 kHz, finite; not changed. Digital silence gets no noise, for no level could
            be told; a wave without samples comes back as it is.
        seed
            Whole number of 0 or more, or several, e.g. ``(seed, epoch, clip)``, always as many.

        Raises
        ------
        UsageError
            If the wave is not one-dimensional or the seed is none.
        AudioError
            If a recording from a folder, when first used, cannot be read or is silent; names the file.
        """
        samples = np.asarray(wave, dtype=np.float32)
        if samples.ndim != 1:
            raise UsageError(
                f"wave must be one-dimensional (samples,), got shape {samples.shape}; mix it down"
            )
        speed = 1.0
        if not len(samples):
            return Augmented(samples, speed)
        if (rng := self._drawn("speed", seed)) is not None:
            speed = rng.uniform(*self.options.speed_range)
            samples = _resampled(samples, speed)
        if (rng := self._drawn("reverb", seed)) is not None:
            samples = self._reverberated(samples, rng)
        if (rng := self._drawn("noise", seed)) is not None:
            samples = self._noisy(samples, rng)
        if (rng := self._drawn("gain", seed)) is not None:
            samples = _amplified(samples, 10 ** (rng.uniform(*self.options.gain_db) / 20))
        return Augmented(samples, speed)

    def _drawn(self, effect: Effect, seed: Seed) -> np.random.Generator | None:
        """Return the effect's own generator if this clip gets the effect."""
        share: float = getattr(self.options, effect)
        if share == 0:
            return None
        rng = stream(seed, EFFECTS.index(effect))
        return rng if rng.random() < share else None

    def _reverberated(self, wave: Wave, rng: np.random.Generator) -> Wave:
        if rms(wave) == 0:
            return wave
        if self._rooms is None:
            rt60_s = rng.uniform(*self.options.reverb_rt60_s)
            return in_room(wave, decaying_noise(rt60_s, rng, _DIRECT_TO_REVERBERANT_DB))
        return in_room(wave, self._rooms.any_of(rng))

    def _noisy(self, wave: Wave, rng: np.random.Generator) -> Wave:
        snr_db = rng.uniform(*self.options.noise_snr_db)
        if self._noises is None:
            noise = coloured_noise(len(wave), rng.uniform(*_COLOUR_DB_PER_OCTAVE), rng)
        else:
            noise = _stretch(self._noises.any_of(rng), len(wave), rng)
        return with_noise(wave, noise, snr_db)


@dataclass
class _Recordings:
    """Recordings that are read when first used; the latest used ones are kept, up to 256 MiB."""

    files: list[Path]
    source: str
    _kept: OrderedDict[int, Wave] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def below(cls, folder: str, source: str) -> _Recordings:
        if not Path(folder).is_dir():
            raise UsageError(
                f"augmentation: {source} = {folder!r}: no such folder; leave it out for synthetic"
            )
        try:
            return cls(expand(folder), source)
        except AudioError as error:
            raise UsageError(f"augmentation: {source} = {error}; leave it out for synthetic") from error

    def any_of(self, rng: np.random.Generator) -> Wave:
        """Return ``(samples,)``, not silent, read-only."""
        index = int(rng.integers(len(self.files)))
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        wave = load_audio(self.files[index])  # not under the lock: other threads go on
        if not wave.any():
            raise AudioError(f"{self.files[index]}: is silent; take it out of {self.source}")
        wave.setflags(write=False)
        with self._lock:
            self._kept[index] = wave
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _CACHE_SAMPLES:
                self._kept.popitem(last=False)
        return wave

    def __reduce__(self) -> tuple[type[_Recordings], tuple[list[Path], str]]:
        return type(self), (self.files, self.source)  # for loaders in processes: no lock, no audio


def _resampled(wave: Wave, factor: float) -> Wave:
    """Compress time by a factor, pitch included: ``(samples,)`` → ``(round(samples / factor),)``, at least 1."""
    if factor == 1.0:
        return wave
    # To another rate, then taken for 16 kHz again; the rate need be no whole number.
    changed = _applied("Resample", wave, target_sample_rate=SAMPLE_RATE_HZ / factor)
    return fitted(changed, length_at(len(wave), factor))  # it rounds the length up


def _amplified(wave: Wave, ratio: float) -> Wave:
    changed: Wave = _applied("Gain", wave, amplitude_ratio=ratio).astype(np.float32, copy=False)
    return changed


def _applied(transform: str, wave: Wave, **parameters: float) -> Wave:
    """Apply a transform of audiomentations with all parameters given, so that it draws nothing."""
    # One of its own for each call: a transform keeps its parameters in itself, where threads would share them.
    frozen = getattr(_audiomentations(), transform)(p=1.0)
    frozen.parameters = {"should_apply": True, **parameters}
    frozen.freeze_parameters()
    changed: Wave = frozen(wave, SAMPLE_RATE_HZ)
    return changed


def _stretch(recording: Wave, length: int, rng: np.random.Generator) -> Wave:
    """Return a random stretch of a recording, ``(length,)``; a shorter one is repeated from a random sample on."""
    spare = len(recording) - length
    if spare >= 0:
        start = int(rng.integers(spare + 1))
        return recording[start : start + length]
    start = int(rng.integers(len(recording)))
    return np.resize(np.roll(recording, -start), length)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _audiomentations() -> Any:
    try:
        import audiomentations
    except ImportError as error:
        raise UsageError(
            "augmentation needs the package audiomentations: pip install 'subtone[augment]', "
            "or set noise, speed, reverb and gain to 0"
        ) from error
    return audiomentations
