"""Recordings found again and put into the page, as Opus, with a picture of their wave."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from subtone.audio import AUDIO_SUFFIXES, SAMPLE_RATE_HZ, load_audio
from subtone.errors import SubtoneError
from subtone.evaluation.report.svg import wave_svg

MOST_S = 15.0
MOST_BYTES = 3 << 20  # of all clips of a page, as they stand in it
BIT_RATE = 24_000
COLUMNS = 200


@dataclass(frozen=True)
class Clip:
    """A recording for the page.

    Attributes
    ----------
    uri
        ``data:`` address of the sound; None where there is none.
    wave
        Its picture.
    remark
        What a listener must know: that it was cut, or why it is not there.
    """

    uri: str | None = None
    wave: Markup | None = None
    remark: str = ""


class Clips:
    """Finds recordings below folders, and hands them out until the page is full.

    Parameters
    ----------
    roots
        Folders that were named.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = list(roots)
        self._left = MOST_BYTES
        self._below: dict[str, list[Path]] | None = None

    def get(self, file: str, start_s: float, end_s: float | None) -> Clip:
        """A part of a recording; a clip without sound that says why, where it cannot be had."""
        if not self._roots:
            return Clip(
                remark="To hear it, name the folder of the recordings: --corpus NAME=PATH or --audio DIR."
            )
        path = self._find(file)
        if path is None:
            return Clip(
                remark="Not found in the folders named; name the one that has it by --corpus NAME=PATH or --audio DIR."
            )
        if self._left <= 0:
            return Clip(remark="Left out: the page is full.")
        longer = start_s + MOST_S + 0.1  # a little more tells whether there is more
        try:
            samples = load_audio(path, start_s=start_s, end_s=longer if end_s is None else min(end_s, longer))
        except SubtoneError as error:
            return Clip(remark=f"Cannot be read: {_without(str(error), path)}")
        most = round(MOST_S * SAMPLE_RATE_HZ)
        remark = f"The first {MOST_S:.0f} seconds." if len(samples) > most else ""
        samples = samples[:most]
        picture = _picture(samples, file)
        uri = "data:audio/ogg;base64," + base64.b64encode(opus(samples)).decode("ascii")
        if len(uri) > self._left:
            self._left = 0
            return Clip(wave=picture, remark="Its sound is left out: the page is full.")
        self._left -= len(uri)
        return Clip(uri, picture, remark)

    def _find(self, file: str) -> Path | None:
        """The file that a run calls so; None if there is none, or there are several."""
        name = PurePosixPath(file.replace("\\", "/"))
        # Names come from a table that anybody may have written: none leads out of the folders named.
        if ".." in name.parts or "\0" in file:
            return None
        if name.is_absolute():
            there = Path(file)
            inside = any(there.resolve().is_relative_to(root.resolve()) for root in self._roots)
            return there if inside and there.is_file() else None
        for root in self._roots:
            # A run's names begin below the folder that holds all its files, which may be above or below the one named.
            for cut in range(len(name.parts)):
                if cut and name.parts[cut - 1] != root.name:
                    continue
                there = root.joinpath(*name.parts[cut:])
                if there.is_file():
                    return there
        found = [
            path for path in self._index().get(name.name, ()) if path.parts[-len(name.parts) :] == name.parts
        ]
        return found[0] if len(found) == 1 else None

    def _index(self) -> dict[str, list[Path]]:
        if self._below is None:
            self._below = {}
            for root in self._roots:
                for path in root.rglob("*"):
                    if path.suffix.lower() in AUDIO_SUFFIXES:
                        self._below.setdefault(path.name, []).append(path)
        return self._below


def opus(samples: npt.NDArray[np.float32]) -> bytes:
    """Encode ``(samples,)`` at 16 kHz as Opus in Ogg, 24 kbit/s."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ)
        stream.bit_rate = BIT_RATE
        stream.layout = "mono"
        clipped = np.clip(samples, -1.0, 1.0)
        frame = av.AudioFrame.from_ndarray(
            np.round(clipped * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = SAMPLE_RATE_HZ
        resampler = av.AudioResampler(
            format="s16", layout="mono", rate=SAMPLE_RATE_HZ, frame_size=stream.frame_size or None
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return out.getvalue()


def _picture(samples: npt.NDArray[np.float32], file: str) -> Markup:
    from subtone.speech import detect

    edges = np.linspace(0, len(samples), min(COLUMNS, len(samples)) + 1).astype(int)[:-1]
    envelope = np.minimum.reduceat(samples, edges).tolist(), np.maximum.reduceat(samples, edges).tolist()
    speech = [(start, end) for start, end in detect(samples).seconds.tolist()]
    return wave_svg(envelope, speech, len(samples) / SAMPLE_RATE_HZ, file)


def _without(message: str, path: Path) -> str:
    """A message that does not tell where recordings lie on a machine."""
    return message.replace(str(path), path.name)
