"""What is done to each clip before it is heard: nothing, dilution in non-speech, a room, a line or a recorder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subtone.acoustics.conditions import condition as acoustic_condition
from subtone.acoustics.dilution import FILLERS, Filler, dilute
from subtone.acoustics.trimming import trim
from subtone.speech import SpeechSegments

Wave = npt.NDArray[np.float32]

SNRS_DB = (20.0, 10.0, 0.0)
SHARES = (1.0, 0.75, 0.5, 0.25)
#: What is left where there are no recordings of sounds.
WITHOUT_SOUNDS: tuple[Filler, ...] = tuple(filler for filler in FILLERS if filler != "sounds")
#: Fillers whose level is a setting.
LEVELLED: tuple[Filler, ...] = ("noise", "sounds")


@dataclass(frozen=True)
class Condition:
    """What happens to a clip.

    Parameters
    ----------
    kind
        ``"plain"``: nothing; ``"trimmed"``: cut to its speech; ``"diluted"``: cut to its speech and embedded;
        ``"mixed"``: embedded in what is drawn for each clip; ``"acoustic"``: as ``name`` says.
    filler, share, snr_db
        Of ``"diluted"``; see :func:`subtone.acoustics.dilution.dilute`.
    name
        Of ``"acoustic"``; see :mod:`subtone.acoustics.conditions`.
    """

    kind: Literal["plain", "trimmed", "diluted", "mixed", "acoustic"]
    filler: Filler | None = None
    share: float = 1.0
    snr_db: float | None = None
    name: str | None = None

    @property
    def label(self) -> str:
        """Short, unique, part of a file's name.

        >>> Condition("diluted", "noise", 0.25, 10.0).label
        'noise-25-10dB'
        """
        if self.kind == "acoustic":
            return str(self.name)
        if self.kind != "diluted":
            return self.kind
        level = "" if self.snr_db is None else f"-{self.snr_db:g}dB"
        return f"{self.filler}-{100 * self.share:g}{level}"

    @property
    def words(self) -> str:
        """What happens, for a table.

        >>> Condition("diluted", "noise", 0.25, 10.0).words
        '25 % speech in noise, 10 dB'
        """
        if self.kind != "diluted":
            return {"plain": "as it is", "trimmed": "all speech", "mixed": "mixed dilutions"}.get(
                self.kind, self.label
            )
        level = "" if self.snr_db is None else f", {self.snr_db:g} dB"
        return f"{100 * self.share:g} % speech in {self.filler}{level}"

    @property
    def length(self) -> float:
        """How much longer a clip becomes, about."""
        return 2.3 if self.kind == "mixed" else 1.0 / self.share

    def to_dict(self) -> dict[str, Any]:
        """JSON object; `Condition(**record)` reads it back."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Heard:
    """A clip as it is heard under a condition.

    Parameters
    ----------
    wave
        ``(samples,)`` float32.
    loud
        Where speech is known to be loud; None where nothing is known.
    placed
        Where the clip was put, pauses included; None where nothing is known.
    """

    wave: Wave
    loud: SpeechSegments | None = None
    placed: SpeechSegments | None = None


def hear(wave: Wave, what: Condition, seed: Sequence[int], sounds: Sequence[Wave]) -> Heard:
    """Let a condition happen to a clip.

    Parameters
    ----------
    wave
        ``(samples,)`` float32, 16 kHz.
    what
        The condition.
    seed
        Of this clip; the clip lies at the same relative place under every condition.
    sounds
        Non-speech human sounds, for the filler ``"sounds"``.
    """
    if what.kind == "plain":
        return Heard(wave)
    if what.kind == "acoustic":
        assert what.name is not None
        return Heard(acoustic_condition(what.name).apply(wave, list(seed)))
    core, loud = trim(wave)
    if what.kind == "trimmed":
        return Heard(core, loud, SpeechSegments.whole(len(core)))
    if what.kind == "mixed":
        what = drawn(seed, FILLERS if len(sounds) else WITHOUT_SOUNDS)
    assert what.filler is not None
    diluted = dilute(core, what.filler, what.share, what.snr_db, list(seed), sounds)
    offset = int(diluted.speech.starts[0])
    return Heard(diluted.wave, loud.shift(offset, len(diluted.wave)), diluted.speech)


def drawn(seed: Sequence[int], fillers: Sequence[Filler] = FILLERS) -> Condition:
    """Draw a dilution for one clip: each filler, share and level alike."""
    chance = np.random.default_rng([*seed, 1])
    filler = fillers[int(chance.integers(len(fillers)))]
    share = SHARES[int(chance.integers(len(SHARES)))]
    snr_db = SNRS_DB[int(chance.integers(len(SNRS_DB)))]
    return Condition("diluted", filler, share, snr_db if filler in LEVELLED else None)


def dilutions() -> list[Condition]:
    """Return all dilutions: fillers by shares by levels; without a filler a share of 1 is the trimmed clip."""
    found = []
    for filler in FILLERS:
        for share in SHARES:
            if share == 1.0 and filler in ("silence", "sounds"):
                continue  # adds nothing
            found += [
                Condition("diluted", filler, share, level)
                for level in (SNRS_DB if filler in LEVELLED else (None,))
            ]
    return found


def condition_of(record: Mapping[str, Any]) -> Condition:
    """Read back what :meth:`Condition.to_dict` gave."""
    return Condition(**record)
