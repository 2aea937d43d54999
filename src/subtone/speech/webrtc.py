"""The WebRTC detector: Google's Gaussian mixture on band energies, fast; needs the extra ``webrtc``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import SpeechError
from subtone.speech.base import Detector, Wave, in_frames
from subtone.speech.rules import Lengths


@dataclass(frozen=True, kw_only=True)
class WebRtcOptions(Lengths):
    """Options of WebRTC.

    Attributes
    ----------
    aggressiveness
        0 (keeps most) to 3 (keeps least).
    frame_ms
        Length of a decision: 10, 20 or 30 ms.
    """

    aggressiveness: int = 2
    frame_ms: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aggressiveness not in (0, 1, 2, 3):
            raise SpeechError(f"aggressiveness must be 0, 1, 2 or 3, got {self.aggressiveness!r}")
        if self.frame_ms not in (10, 20, 30):
            raise SpeechError(f"frame_ms must be 10, 20 or 30, got {self.frame_ms!r}")


class WebRtcDetector(Detector):
    """WebRTC's voice activity detector: a yes or no for each frame, then the lengths of `Lengths`.

    It adapts to the noise as it goes, so its state is carried over a whole recording, block edges included.

    Source
    ------
    The WebRTC project (BSD), by way of webrtcvad-wheels (MIT).
    """

    name: ClassVar[str] = "webrtc"
    options: WebRtcOptions

    def __init__(self, options: WebRtcOptions | None = None) -> None:
        self.options = options or WebRtcOptions()
        self._module = _webrtcvad()

    @property
    def frame(self) -> int:
        return SAMPLE_RATE_HZ * self.options.frame_ms // 1000

    def _scores(self, pieces: Iterable[Wave]) -> Iterator[npt.NDArray[np.float32]]:
        vad = self._module.Vad(self.options.aggressiveness)
        for piece in pieces:
            frames = in_frames(piece, self.frame)  # (frames, frame)
            pcm = np.rint(np.clip(frames, -1.0, 1.0) * 32767.0).astype("<i2")
            said = [vad.is_speech(one.tobytes(), SAMPLE_RATE_HZ) for one in pcm]
            yield np.array(said, dtype=np.float32)  # (frames,)

    def _thresholds(self, scores: npt.NDArray[np.floating]) -> tuple[float, float]:  # noqa: ARG002
        return 0.5, 0.5


def _webrtcvad() -> Any:
    try:
        import webrtcvad
    except ImportError as error:
        raise SpeechError(
            'the detector "webrtc" needs the package webrtcvad-wheels: pip install "subtone[webrtc]", '
            'or choose the detector "silero" or "energy"'
        ) from error
    return webrtcvad
