"""The intensity model: waves or filter banks to a score a frame and a score a clip."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subtone.audio import SAMPLE_RATE_HZ
from subtone.errors import UsageError
from subtone.pretraining.intensity import storage
from subtone.pretraining.intensity.network import NUM_MEL, IntensityNetwork, level_free, level_of, loudness
from subtone.speech import SpeechSegments
from subtone.upstreams import kaldi
from subtone.upstreams.base import Wave
from subtone.upstreams.clips import as_clips, lengthen
from subtone.upstreams.filterbank import FilterBank
from subtone.upstreams.mode import evaluation

Curve = npt.NDArray[np.float32]
_AUDIBLE = -6.9  # 30 dB under the clip's level, for clips whose speech nobody has marked
_PEAK = 0.95
_GRID = FilterBank().grid


@dataclass(frozen=True, eq=False)
class Scored:
    """What the model says of a clip.

    Attributes
    ----------
    intensity
        Mean over speech frames, 0 to 1.
    peak
        95th percentile over them.
    speech_s
        Seconds of speech, None where nobody has marked any.
    frames
        ``(frames,)`` float32, all frames.
    """

    intensity: float
    peak: float
    speech_s: float | None
    frames: Curve


@dataclass(frozen=True, eq=False)
class IntensityModel:
    """Frame-level emotion intensity of any speech.

    A score is *relative*: corpora do not share a scale of intensity, and a clip's loudness is taken off, so that
    recordings compare only as far as voices themselves do.

    Parameters
    ----------
    network
        Gives the scores.
    trained_on
        Names of the corpora whose speakers it has heard.
    card
        What a user must know, in Markdown.

    Examples
    --------
    >>> model = IntensityModel.load()
    >>> model.frames(np.zeros(16_000, np.float32)).shape
    (98,)
    """

    network: IntensityNetwork
    trained_on: tuple[str, ...] = ()
    card: str = ""

    @classmethod
    def load(cls, name_or_folder: str | Path = "default") -> IntensityModel:
        """Load the model that ships with Subtone, or a folder that `save` wrote.

        Raises
        ------
        BundleError
            If there is no such model, or it is damaged or newer than this Subtone.
        """
        shipped = Path(str(files("subtone"))) / "models" / "intensity"
        folder = shipped / "default" if str(name_or_folder) == "default" else Path(name_or_folder)
        return cls(*storage.read(folder))

    def save(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``card.md``; each file appears whole or not at all."""
        storage.write(Path(folder), self.network, self.trained_on, self.card)

    def frames(self, wave: Wave) -> Curve:
        """Return the intensity of every frame of a clip.

        Parameters
        ----------
        wave
            ``(samples,)`` float in [-1, 1], 16 kHz, mono; any length, shorter than 25 ms is padded with zeros.

        Returns
        -------
        ndarray
            ``(frames,)`` float32 in [0, 1], on the grid of the upstream ``fbank``: frames of 25 ms every 10 ms.

        Raises
        ------
        UpstreamError
            If the wave is not one-dimensional float, or holds NaN or infinity.
        """
        return self.from_banks(banks_of(wave))

    def from_banks(self, log_mel: npt.NDArray[np.floating] | Tensor) -> Curve:
        """Return the intensity of every frame of a clip whose filter banks are there already.

        Parameters
        ----------
        log_mel
            ``(frames, 80)``: what `subtone.upstreams.kaldi.filter_bank` gives of the whole clip, nothing taken off.
            Half precision will do: it moves a score by less than 0.01.

        Returns
        -------
        ndarray
            ``(frames,)`` float32 in [0, 1].

        Raises
        ------
        UsageError
            If the shape is another, or a value is not finite.
        """
        with evaluation(self.network):
            curve: Curve = self.network.curve(level_free(_checked(log_mel))).numpy()
        return curve

    def clip(self, wave: Wave, speech: SpeechSegments | None = None) -> float:
        """Return the intensity of a clip, 0 to 1: the mean over its speech.

        Parameters
        ----------
        wave
            As for `frames`.
        speech
            Where it holds speech. When missing, or empty, frames count that are at most 30 dB under the clip's level.
        """
        return self.score(wave, speech).intensity

    def score(self, wave: Wave, speech: SpeechSegments | None = None) -> Scored:
        """Return all that is said of a clip; arguments as for `clip`."""
        banks = banks_of(wave)
        curve = self.from_banks(banks)
        spoken = None if speech is None else speech.project(_GRID, len(banks))
        counted = curve[_counted(banks, spoken)]
        return Scored(
            intensity=float(counted.mean(dtype=np.float64)),
            peak=float(np.quantile(counted, _PEAK)),
            speech_s=None if speech is None else speech.speech_samples / SAMPLE_RATE_HZ,
            frames=curve,
        )

    def clip_from_banks(
        self, log_mel: npt.NDArray[np.floating] | Tensor, speech: npt.NDArray[np.bool_] | None = None
    ) -> float:
        """Return the intensity of a clip from its filter banks, as `clip`; ``speech`` is ``(frames,)`` bool."""
        counted = _counted(_checked(log_mel), speech)
        return float(self.from_banks(log_mel)[counted].mean(dtype=np.float64))

    def fingerprint(self) -> str:
        """Return a SHA-256 over sizes and weights: two models that score alike have one."""
        digest = hashlib.sha256(json.dumps(storage.sizes(self.network), sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()


def _counted(banks: Tensor, speech: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """Tell which frames make a clip's score, ``(frames,)``."""
    return audible(banks) if speech is None or not speech.any() else speech


def audible(banks: Tensor) -> npt.NDArray[np.bool_]:
    """Tell which frames are at most 30 dB under the clip's level; ``(frames,)`` from ``(frames, 80)``, never none."""
    heard: npt.NDArray[np.bool_] = (loudness(banks) > level_of(banks) + _AUDIBLE).numpy()
    return heard


def banks_of(wave: Wave) -> Tensor:
    """Return the raw log-mel frames of a wave of any length, ``(frames, 80)``."""
    (clip,) = as_clips([wave], torch.device("cpu"))
    return kaldi.filter_bank(lengthen(clip.detach(), kaldi.WINDOW), NUM_MEL)


def _checked(log_mel: npt.NDArray[np.floating] | Tensor) -> Tensor:
    banks = torch.as_tensor(log_mel).detach().cpu().float()
    if banks.ndim != 2 or banks.shape[1] != NUM_MEL or not len(banks) or not bool(banks.isfinite().all()):
        raise UsageError(
            f"filter banks must be finite and (frames, {NUM_MEL}) with a frame or more, got {tuple(banks.shape)}; "
            "give what subtone.upstreams.kaldi.filter_bank returns"
        )
    return banks
