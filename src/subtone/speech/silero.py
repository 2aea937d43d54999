"""The Silero detector: a small recurrent network from the silero-vad wheel, run by ONNX Runtime."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from subtone.errors import SpeechError
from subtone.speech.base import Detector, Wave, in_frames
from subtone.speech.rules import Lengths
from subtone.speech.silero_matrices import as_matrices

_FRAME = 512
_CONTEXT = 64  # Samples of the frame before that the network sees ahead of each frame.
_STATE = (1, 1, 128)
_OUTPUTS = ("speech_probs", "hn", "cn")
_MODEL = "silero_vad_16k_sequence.onnx"


@dataclass(frozen=True, kw_only=True)
class SileroOptions(Lengths):
    """Options of Silero, with its own names and defaults.

    Attributes
    ----------
    threshold
        Speech begins at a probability of at least this, 0–1.
    neg_threshold
        Speech ends below this; by default ``max(threshold - 0.15, 0.01)``.
    """

    threshold: float = 0.5
    neg_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold <= 1:
            raise SpeechError(f"threshold must lie in (0, 1], got {self.threshold!r}")
        if self.neg_threshold is not None and not 0 <= self.neg_threshold <= self.threshold:
            raise SpeechError(
                f"neg_threshold must lie between 0 and threshold ({self.threshold}), "
                f"got {self.neg_threshold!r}"
            )


class SileroDetector(Detector):
    """Silero VAD 6 at 16 kHz: one probability for each 32 ms.

    The "sequence" model takes many frames in one call and carries its state between calls. It is run in the form of
    `subtone.speech.silero_matrices`, 1315 times real time on one core instead of 548, if that is seen to give the same
    probabilities. It goes through a clip at a time: batches over clips, sorted by length, were at most 1 % faster than
    the shipped form (``benchmarks/silero.py``, 60 clips of RAVDESS, batches of 8 to 60).

    Source
    ------
    Silero Team, https://github.com/snakers4/silero-vad (MIT).
    """

    name: ClassVar[str] = "silero"
    options: SileroOptions

    def __init__(self, options: SileroOptions | None = None) -> None:
        self.options = options or SileroOptions()

    @property
    def frame(self) -> int:
        return _FRAME

    def probabilities(self, wave: Wave) -> npt.NDArray[np.float32]:
        """Return the probability of speech ``(frames,)`` for each 512 samples, the last filled with zeros."""
        length = _FRAME * self.piece
        pieces = [wave[at : at + length] for at in range(0, len(wave), length)]
        return np.concatenate([np.zeros(0, dtype=np.float32), *self._scores(pieces)])

    def _scores(self, pieces: Iterable[Wave]) -> Iterator[npt.NDArray[np.float32]]:
        # The state lives in this generator, never in the shared session: streams can't disturb each other.
        session = _session()
        hidden = cell = np.zeros(_STATE, dtype=np.float32)
        context = np.zeros((1, _CONTEXT), dtype=np.float32)
        for piece in pieces:
            frames = in_frames(piece, _FRAME)  # (frames, 512)
            contexts = np.concatenate([context, frames[:-1, -_CONTEXT:]])  # (frames, 64)
            context = frames[-1:, -_CONTEXT:]
            inputs = np.concatenate([contexts, frames], axis=1)  # (frames, 576)
            scores, hidden, cell = session.run(_OUTPUTS, {"input": inputs, "h": hidden, "c": cell})
            yield np.asarray(scores, dtype=np.float32).reshape(-1)  # (frames,)

    def _thresholds(self, scores: npt.NDArray[np.floating]) -> tuple[float, float]:  # noqa: ARG002
        enter, leave = self.options.threshold, self.options.neg_threshold
        return enter, max(enter - 0.15, 0.01) if leave is None else leave


@functools.cache
def _session() -> Any:
    """Return the one ONNX session of this process; running it is thread-safe."""
    model = _model_path().read_bytes()
    shipped = _open(model)
    faster = as_matrices(model)
    if faster is None:  # another release of silero-vad than we know
        return shipped
    session = _open(faster)
    noise = np.random.default_rng(0).normal(0, [[1e-3], [0.1], [1e-2], [0.5]] * 4, (16, _CONTEXT + _FRAME))
    probe = {"input": noise.astype(np.float32), "h": np.zeros(_STATE, np.float32)}
    probe["c"] = probe["h"]
    both = zip(session.run(_OUTPUTS, probe), shipped.run(_OUTPUTS, probe), strict=True)
    return session if all(np.allclose(a, b, rtol=0, atol=1e-4) for a, b in both) else shipped


def _open(model: bytes) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1  # The network is too small to gain from more.
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # Fatal only: ONNX Runtime's warnings are nothing that a user can act on.
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def _model_path() -> Path:
    # Found without importing silero_vad, which would import torch.
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / _MODEL
        if path.is_file():
            return path
    raise SpeechError(
        f"the Silero detector needs {_MODEL} from the package silero-vad 6.2.2 or newer: "
        'pip install "silero-vad>=6.2.2", or choose the detector "energy"'
    )
