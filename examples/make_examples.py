"""Make the recordings of this folder with the speech synthesiser espeak-ng; see README.md.

Run ``python examples/make_examples.py`` in an environment with Subtone; espeak-ng must be on the PATH.
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

RATE_HZ = 16_000
HERE = Path(__file__).resolve().parent

Wave = npt.NDArray[np.float64]


def say(text: str, voice: str = "en-gb", *, pitch: int = 50, words_per_minute: int = 165) -> Wave:
    """Speak a text: ``(samples,)`` in [-1, 1] at 16 kHz; ``pitch`` is espeak-ng's, 0 to 99."""
    command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(words_per_minute), "--stdout", text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    # The length in a header that was written to a pipe is not to be trusted: 44 bytes of header, 16-bit samples.
    _, rate_hz = soundfile.read(io.BytesIO(spoken))
    samples = np.frombuffer(spoken[44 : len(spoken) // 2 * 2], dtype="<i2") / 32768
    return soxr.resample(samples, rate_hz, RATE_HZ)


def pause(seconds: float) -> Wave:
    """Silence."""
    return np.zeros(round(seconds * RATE_HZ))


def room(samples: int, level: float, seed: int) -> Wave:
    """Noise as of a quiet room, with ``level`` as its root mean square."""
    return level * np.random.default_rng(seed).standard_normal(samples)


def statement() -> Wave:
    """One sentence."""
    return np.concatenate(
        [pause(0.3), say("The parcel arrived this morning, and it is exactly what I wanted."), pause(0.3)]
    )


def pauses() -> Wave:
    """Three remarks of different pace and pitch, with long pauses between them."""
    return np.concatenate(
        [
            pause(1.0),
            say("I have been waiting for an hour.", pitch=40, words_per_minute=130),
            pause(2.5),
            say("Nobody told me! This is the third time this week!", pitch=85, words_per_minute=210),
            pause(3.0),
            say("Well, never mind. It does not matter now.", pitch=20, words_per_minute=110),
            pause(1.5),
        ]
    )


def call() -> Wave:
    """Two people on the telephone, the agent left and the customer right: ``(samples, 2)``."""
    turns = [
        (0, say("Good morning, you are speaking with the service desk. How can I help?", "en-us", pitch=60)),
        (
            1,
            say(
                "My internet has been down since Monday, and I want my money back!",
                "en-gb",
                pitch=30,
                words_per_minute=200,
            ),
        ),
        (
            0,
            say(
                "I am sorry to hear that. Let me look at your line.", "en-us", pitch=60, words_per_minute=150
            ),
        ),
        (1, say("Please do. I am really tired of this.", "en-gb", pitch=25, words_per_minute=135)),
        (0, say("It is working again. And this month is free of charge.", "en-us", pitch=65)),
        (1, say("Oh, wonderful! Thank you very much!", "en-gb", pitch=55, words_per_minute=185)),
    ]
    total = sum(len(wave) + len(pause(0.6)) for _, wave in turns)
    both = np.zeros((total, 2))
    at = 0
    for side, wave in turns:
        both[at : at + len(wave), side] = wave
        at += len(wave) + len(pause(0.6))
    return both


def main() -> None:
    """Write all recordings anew."""
    recordings: list[tuple[str, Wave, str, str]] = [
        ("statement.wav", statement(), "WAV", "PCM_16"),
        ("pauses.flac", pauses(), "FLAC", "PCM_16"),
        ("call.opus", call(), "OGG", "OPUS"),
        (
            "german.ogg",
            say("Guten Tag. Morgen fahren wir endlich ans Meer!", "de", pitch=60),
            "OGG",
            "VORBIS",
        ),
        ("quiet-room.flac", pause(3.0), "FLAC", "PCM_16"),
    ]
    for seed, (name, wave, container, codec) in enumerate(recordings):
        noise = room(wave.size, 0.001, seed).reshape(wave.shape)
        soundfile.write(HERE / name, np.clip(0.7 * wave + noise, -1, 1), RATE_HZ, codec, format=container)
        print(f"{name}: {len(wave) / RATE_HZ:.1f} s, {(HERE / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
