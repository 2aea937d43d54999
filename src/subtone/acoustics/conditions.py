"""The suite of conditions under which a model's robustness is told: one clean clip in, the changed one out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from subtone.acoustics import codecs
from subtone.acoustics.bands import at_8_khz, telephone_band
from subtone.acoustics.codecs import Codec, transcode
from subtone.acoustics.levels import clip, gain
from subtone.acoustics.noise import coloured_noise, with_noise
from subtone.acoustics.randomness import Seed, stream
from subtone.acoustics.rooms import reverberate
from subtone.acoustics.speed import at_speed
from subtone.errors import UsageError, nearest
from subtone.speech import Wave

Group = Literal["clean", "codec", "band", "reverb", "gain", "clipping", "speed", "noise"]


@dataclass(frozen=True)
class Condition:
    """One way in which a clip may reach a model.

    Attributes
    ----------
    name
        Short, for commands and tables: ``reverb-0.6s``.
    group
        What kind of change it is.
    title
        For pages.
    apply
        ``(samples,)`` float32 at 16 kHz and a seed → the changed wave, of the same length but for speed. The same wave
        and seed give the same samples; where nothing is drawn, the seed is not used. The conditions of a group draw
        alike, so that e.g. the noise at 0 dB is that at 20 dB, only louder.
    needs
        Tells why it cannot be applied here, None if it can; None: it always can.
    """

    name: str
    group: Group
    title: str
    apply: Callable[[Wave, Seed], Wave]
    needs: Callable[[], str | None] | None = None


_CODECS: dict[Codec, str] = {
    "opus-16k": "Opus, 16 kbit/s",
    "g711-alaw": "G.711 A-law, 8 kHz",
    "g711-mulaw": "G.711 µ-law, 8 kHz",
    "g722": "G.722, 64 kbit/s",
    "gsm": "GSM full rate, 8 kHz",
    "mp3-32k": "MP3, 32 kbit/s",
    "amr-nb-12.2k": "AMR, 12.2 kbit/s, 8 kHz",
    "amr-wb-23.85k": "AMR-WB, 23.85 kbit/s",
}
_COLOURS_DB = {"white": 0.0, "pink": -3.0}  # per octave


def _all() -> Iterator[Condition]:
    yield Condition("clean", "clean", "As it is", lambda wave, _: wave)
    for codec, title in _CODECS.items():
        yield _coded(codec, title)
    yield Condition("8khz", "band", "8 kHz", lambda wave, _: at_8_khz(wave))
    yield Condition(
        "telephone", "band", "Telephone: 300–3,400 Hz, G.711 A-law", lambda wave, _: _telephone(wave)
    )
    for rt60_s in (0.3, 0.6, 1.0):
        yield _reverberant(rt60_s)
    for by_db in (-20, -40, 20):
        yield _amplified(by_db)
    for degree, share in (("mild", 0.01), ("severe", 0.1)):
        yield _clipped(degree, share)
    for factor in (0.8, 0.9, 1.1, 1.25):
        yield _fast(factor)
    for colour in _COLOURS_DB:
        for snr_db in (20, 10, 0):
            yield _noisy(colour, snr_db)


def _coded(codec: Codec, title: str) -> Condition:
    return Condition(
        codec, "codec", title, lambda wave, _: transcode(wave, codec), lambda: codecs.available()[codec]
    )


def _telephone(wave: Wave) -> Wave:
    return transcode(telephone_band(wave), "g711-alaw")


def _reverberant(rt60_s: float) -> Condition:
    def apply(wave: Wave, seed: Seed) -> Wave:
        return reverberate(wave, rt60_s, seed)

    return Condition(f"reverb-{rt60_s}s", "reverb", f"Room, RT60 {rt60_s} s", apply)


def _amplified(by_db: int) -> Condition:
    title = f"{abs(by_db)} dB {'louder, not clipped' if by_db > 0 else 'softer'}"  # floats have no ceiling
    return Condition(f"gain{by_db:+d}db", "gain", title, lambda wave, _: gain(wave, by_db))


def _clipped(degree: str, share: float) -> Condition:
    title = f"Clipped, {share:.0%} of the samples"
    return Condition(f"clipping-{degree}", "clipping", title, lambda wave, _: clip(wave, share))


def _fast(factor: float) -> Condition:
    title = f"Speed and pitch × {factor}"
    return Condition(f"speed-{factor}", "speed", title, lambda wave, _: at_speed(wave, factor))


def _noisy(colour: str, snr_db: int) -> Condition:
    def apply(wave: Wave, seed: Seed) -> Wave:
        if not len(wave):
            return wave
        return with_noise(wave, coloured_noise(len(wave), _COLOURS_DB[colour], stream(seed, 0)), snr_db)

    return Condition(f"{colour}-{snr_db}db", "noise", f"{colour.title()} noise, {snr_db} dB SNR", apply)


CONDITIONS: dict[str, Condition] = {one.name: one for one in _all()}
"""By name, in the order of a table; the first is the clean one. See `available` for those that work here.

SNR is by the RMS of the whole clip. Rooms keep its level. Nothing but clipping and codecs cuts at full scale.
"""


def condition(name: str) -> Condition:
    """Return a condition by name.

    Raises
    ------
    UsageError
        If there is none of that name.

    Examples
    --------
    >>> condition("white-10db").title
    'White noise, 10 dB SNR'
    """
    if name not in CONDITIONS:
        raise UsageError(f"no condition {name!r}; {nearest(name, CONDITIONS)}")
    return CONDITIONS[name]


def available() -> dict[str, str | None]:
    """Return for each condition None if it can be applied here, or why not.

    Examples
    --------
    >>> available()["clean"] is None
    True
    """
    return {name: one.needs() if one.needs else None for name, one in CONDITIONS.items()}
