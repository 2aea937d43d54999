"""Any recording to 16 kHz mono float32 samples, whole or in blocks.

What the samples mean (speech, emotion) is left to the rooms above; nothing here knows of torch.
"""

from __future__ import annotations

from subtone.audio.files import AUDIO_SUFFIXES, expand
from subtone.audio.load import audio_digest, load_audio, probe, read_blocks
from subtone.audio.source import SAMPLE_RATE_HZ, AudioInfo, AudioSource, Channel

__all__ = [
    "AUDIO_SUFFIXES",
    "SAMPLE_RATE_HZ",
    "AudioInfo",
    "AudioSource",
    "Channel",
    "audio_digest",
    "expand",
    "load_audio",
    "probe",
    "read_blocks",
]
