"""What is left of a wave behind a codec: encoded and decoded in memory, by real codecs, and put back in place."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, get_args

import av
import av.error
import numpy as np
import numpy.typing as npt
import scipy.fft
import soundfile
import soxr

from subtone.audio import SAMPLE_RATE_HZ
from subtone.audio.source import full_scale
from subtone.errors import UsageError, nearest
from subtone.speech import Wave

Codec = Literal[
    "opus-16k", "g711-alaw", "g711-mulaw", "g722", "gsm", "mp3-32k", "amr-nb-12.2k", "amr-wb-23.85k"
]

CODECS: tuple[Codec, ...] = get_args(Codec)

_PADDING = round(0.1 * SAMPLE_RATE_HZ)  # behind the wave, so that its end comes out of codecs that look ahead
_LONGEST_DELAY = round(0.1 * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class _Ffmpeg:
    """Settings of an encoder and a decoder of FFmpeg; both take and give one channel."""

    encoder: str
    decoder: str
    rate_hz: int
    bit_rate: int | None = None
    sample_format: Literal["s16", "flt", "fltp"] = "s16"
    options: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        if not _is_there(self.encoder, "w"):
            return f"this build of FFmpeg (in PyAV {av.__version__}) has no encoder {self.encoder}"
        if not _is_there(self.decoder, "r"):
            return f"this build of FFmpeg (in PyAV {av.__version__}) has no decoder {self.decoder}"
        return None

    def __call__(self, wave: Wave) -> tuple[Wave, int]:
        """Return the decoded wave at the rate, which is told, that the decoder gives."""
        encoder: Any = av.CodecContext.create(self.encoder, "w")
        encoder.sample_rate, encoder.layout, encoder.format = self.rate_hz, "mono", self.sample_format
        encoder.time_base = Fraction(1, self.rate_hz)
        encoder.options = self.options
        if self.bit_rate is not None:
            encoder.bit_rate = self.bit_rate
        encoder.open()
        packets = [packet for frame in self._frames(wave, encoder) for packet in encoder.encode(frame)]
        decoder: Any = av.CodecContext.create(self.decoder, "r")
        decoder.sample_rate, decoder.layout = self.rate_hz, "mono"
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        frames = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
        pieces = [full_scale(frame.to_ndarray()[0]) for frame in frames]
        return np.concatenate(pieces), int(frames[0].sample_rate)

    def _frames(self, wave: Wave, encoder: Any) -> Iterator[Any]:
        step = encoder.frame_size or len(wave)  # 0: any
        for start in range(0, len(wave), step):
            samples: npt.NDArray[Any] = np.ascontiguousarray(wave[None, start : start + step])  # (1, samples)
            if self.sample_format == "s16":
                samples = np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format=self.sample_format, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate_hz, start, Fraction(1, self.rate_hz)
            yield frame
        yield None  # what the encoder still holds


@dataclass(frozen=True)
class _Libsndfile:
    """Settings of a codec that libsndfile has and FFmpeg only decodes."""

    subtype: str
    rate_hz: int

    def missing(self) -> str | None:
        if self.subtype in soundfile.available_subtypes("WAV"):
            return None
        return f"this build of libsndfile ({soundfile.__libsndfile_version__}) has no {self.subtype}"

    def __call__(self, wave: Wave) -> tuple[Wave, int]:
        file = io.BytesIO()
        soundfile.write(file, wave, self.rate_hz, format="WAV", subtype=self.subtype)
        file.seek(0)
        decoded, rate_hz = soundfile.read(file, dtype="float32")
        return decoded, int(rate_hz)


_CODECS: dict[Codec, _Ffmpeg | _Libsndfile] = {
    "opus-16k": _Ffmpeg("libopus", "opus", 16_000, 16_000, "flt", {"application": "voip"}),
    "g711-alaw": _Ffmpeg("pcm_alaw", "pcm_alaw", 8_000),
    "g711-mulaw": _Ffmpeg("pcm_mulaw", "pcm_mulaw", 8_000),
    "g722": _Ffmpeg("g722", "g722", 16_000),
    "gsm": _Libsndfile("GSM610", 8_000),
    "mp3-32k": _Ffmpeg("libmp3lame", "mp3float", 16_000, 32_000, "fltp"),
    "amr-nb-12.2k": _Ffmpeg("libopencore_amrnb", "amrnb", 8_000, 12_200),
    "amr-wb-23.85k": _Ffmpeg("libvo_amrwbenc", "amrwb", 16_000, 23_850),
}


def available() -> dict[Codec, str | None]:
    """Return for each codec None if it can be used, or why not: AMR's encoders are not in every build of FFmpeg.

    Examples
    --------
    >>> available()["g711-alaw"] is None
    True
    """
    return {codec: _missing(codec) for codec in CODECS}


def transcode(wave: Wave, codec: Codec) -> Wave:
    """Encode a wave and decode it again; the result lies over the wave, at the same length.

    What lies beyond [-1, 1] is clipped first, as a recorder would. A codec's delay is measured once, on noise, and
    taken off. The same wave gives the same samples, on one machine.

    opus-16k
        Opus at 16 kbit/s, variable, tuned for speech: calls over the internet, voice messages.
    g711-alaw, g711-mulaw
        G.711 at 8 kHz, 64 kbit/s: telephone in Europe, in North America and Japan.
    g722
        G.722 at 16 kHz, 64 kbit/s: "HD voice" of desk telephones.
    gsm
        GSM 06.10 full rate at 8 kHz, 13 kbit/s: early mobile telephones.
    mp3-32k
        MP3 at 16 kHz, 32 kbit/s, by LAME.
    amr-nb-12.2k, amr-wb-23.85k
        AMR at 8 kHz, and AMR-WB at 16 kHz: mobile telephones.

    Parameters
    ----------
    wave
        ``(samples,)`` float32 at 16 kHz.
    codec
        One of `CODECS`.

    Returns
    -------
    ``(samples,)`` float32 at 16 kHz.

    Raises
    ------
    UsageError
        If there is no such codec, here or at all.
    """
    if codec not in _CODECS:
        raise UsageError(f"transcode: no codec {codec!r}; {nearest(codec, CODECS)}")
    if reason := _missing(codec):
        raise UsageError(f"transcode: {codec}: {reason}; leave it out")
    return _decoded(wave, codec, _delay(codec)) if len(wave) else wave


@lru_cache
def _missing(codec: Codec) -> str | None:
    return _CODECS[codec].missing()


def _is_there(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _decoded(wave: Wave, codec: Codec, delay: int) -> Wave:
    """Return what comes out from so many samples on, ``(samples,)``."""
    used = _CODECS[codec]
    padded = np.pad(np.clip(wave, -1.0, 1.0), (0, _PADDING + max(0, -delay)))
    if used.rate_hz != SAMPLE_RATE_HZ:
        padded = soxr.resample(padded, SAMPLE_RATE_HZ, used.rate_hz, quality="HQ")
    decoded, rate_hz = used(np.clip(padded, -1.0, 1.0))  # the resampler overshoots
    if rate_hz != SAMPLE_RATE_HZ:  # Opus decodes to 48 kHz
        decoded = soxr.resample(decoded, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    decoded = decoded[delay:] if delay >= 0 else np.pad(decoded, (-delay, 0))
    return np.ascontiguousarray(np.pad(decoded, (0, max(0, len(wave) - len(decoded))))[: len(wave)])


@lru_cache
def _delay(codec: Codec) -> int:
    """Return by how many samples the codec's output lies behind its input.

    Measured rather than known: it differs between versions of the libraries, some of which take a part of it off.
    """
    rng = np.random.default_rng(0)
    times = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    # Noise in syllables: has one clear best fit, which a voice's pitch has not, and stays in every codec's band.
    wave = 0.1 * rng.standard_normal(len(times)) * np.abs(np.sin(4 * np.pi * times))
    wave = soxr.resample(soxr.resample(wave, SAMPLE_RATE_HZ, 6_000), 6_000, SAMPLE_RATE_HZ).astype(np.float32)
    decoded = _decoded(wave, codec, 0)
    size = scipy.fft.next_fast_len(2 * len(wave), real=True)
    product = scipy.fft.rfft(decoded, size) * np.conj(scipy.fft.rfft(wave, size))
    fit = scipy.fft.irfft(product, size)  # by lag; negative ones from the end
    lags = np.arange(-_LONGEST_DELAY, _LONGEST_DELAY + 1)
    return int(lags[np.argmax(fit[lags])])
