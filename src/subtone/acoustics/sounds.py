"""Recordings of sounds that are no speech, read from a folder with one kind in each folder below."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from subtone.acoustics.randomness import Seed, stream
from subtone.acoustics.trimming import trim
from subtone.audio import SAMPLE_RATE_HZ, expand, load_audio
from subtone.errors import AudioError, UsageError, nearest
from subtone.speech import Wave

_SHORTEST_S, _LONGEST_S = 0.3, 4.0


@dataclass(frozen=True, eq=False)
class Sounds:
    """Recordings of non-speech.

    Attributes
    ----------
    waves
        Each ``(samples,)`` float32 at 16 kHz, without the silence around it, 0.3 to 4 s long.
    kinds
        The kind of each: the name of its folder.
    left_out
        File and reason of those that were drawn and could not be used.
    """

    waves: tuple[Wave, ...]
    kinds: tuple[str, ...]
    left_out: dict[str, str]


def load_sounds(folder: str | Path, limit: int, seed: Seed, *, without: Collection[str] = ()) -> Sounds:
    """Draw recordings from a folder, as evenly from its kinds as they allow.

    Each is trimmed by its level (`subtone.acoustics.trim`) and cut off after 4 s. Those that cannot be read, are silent
    or shorter than 0.3 s are left out, and others drawn in their place.

    Parameters
    ----------
    folder
        Holds recordings in folders named by kind, e.g. ``coughing/a.wav``; those that lie in it directly are of the
        kind ``""``.
    limit
        How many at most.
    seed
        Draws them.
    without
        Kinds to leave out, e.g. those that are close to speech for the question at hand.

    Raises
    ------
    AudioError
        If there is no such folder, or no recording in it that can be used.
    UsageError
        If the limit is below 1 or a kind to leave out is not there.
    """
    if limit < 1:
        raise UsageError(f"load_sounds: limit = {limit!r} must be 1 or more")
    found: dict[str, list[Path]] = defaultdict(list)
    for file in expand(folder):
        found["/".join(file.relative_to(folder).parts[:-1])].append(file)
    for kind in without:
        if kind not in found:
            raise UsageError(
                f"load_sounds: {folder} has no kind {kind!r} to leave out; {nearest(kind, found)}"
            )
    rng = stream(seed, 0)
    drawn = {
        kind: [found[kind][index] for index in rng.permutation(len(found[kind]))]
        for kind in sorted(found)
        if kind not in without
    }
    waves: list[Wave] = []
    kinds: list[str] = []
    left_out: dict[str, str] = {}
    while len(waves) < limit and any(drawn.values()):
        for kind, files in drawn.items():
            while files and len(waves) < limit:  # until one can be used
                file = files.pop()
                try:
                    waves.append(_usable(file))
                except AudioError as error:
                    left_out[str(file)] = str(error)
                else:
                    kinds.append(kind)
                    break
    if not waves:
        raise AudioError(
            f"load_sounds: {folder}: none of its {len(left_out)} recordings can be used; "
            f"the first: {next(iter(left_out.values()), 'all kinds are left out')}"
        )
    return Sounds(tuple(waves), tuple(kinds), left_out)


def _usable(file: Path) -> Wave:
    wave = load_audio(file)
    if not wave.any():
        raise AudioError(f"{file}: is silent")
    sound, _ = trim(wave)
    if len(sound) < _SHORTEST_S * SAMPLE_RATE_HZ:
        raise AudioError(f"{file}: holds less than {_SHORTEST_S} s of sound")
    return sound[: round(_LONGEST_S * SAMPLE_RATE_HZ)].copy()  # a copy, lest all of a long file be kept
