"""Whether an engine gives what PyTorch gives in float32: asked of each, once it is open, before the first clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from subtone.extraction.backends.base import Backend, BackendError
from subtone.upstreams import Upstream

#: Least cosine between pooled features, mean over frames, of any layer and probe; what precisions below fp32 owe.
LEAST_COSINE = 0.999
#: Largest relative error, L2 over the frames of a layer, of any layer and probe; what fp32 owes.
MOST_ERROR = 1e-4

_RATE_HZ = 16_000
Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How near an engine comes to PyTorch in float32: the worst of all layers and probes.

    Attributes
    ----------
    cosine
        Between features pooled over frames by their mean.
    error
        Relative, L2 over all frames of a layer.
    """

    cosine: float
    error: float


def probes() -> list[npt.NDArray[np.float32]]:
    """Return clips that behave like speech, the same everywhere: ``(samples,)`` float32, 16 kHz.

    Voiced syllables with gliding pitch and formants, hiss, and pauses that are nearly silent: loud and quiet frames
    beside each other are what coarse arithmetic fails on. The second is softer, higher and faster.
    """
    return [_talk(2.0, 110.0, 0.30, 4.0, seed=1), _talk(1.3, 210.0, 0.02, 6.0, seed=2)]


def _talk(
    seconds: float, pitch_hz: float, level: float, syllables_hz: float, seed: int
) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * _RATE_HZ)) / _RATE_HZ  # (samples,)
    pitch = pitch_hz * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / _RATE_HZ
    formants = (600 + 250 * np.sin(2 * np.pi * 2.3 * time), 1500 + 500 * np.sin(2 * np.pi * 1.7 * time), 2600)
    voiced = np.zeros_like(time)
    for harmonic in range(1, 20):
        gain = sum(np.exp(-(((harmonic * pitch - formant) / 200) ** 2)) for formant in formants)
        voiced += (gain + 0.1 / harmonic) * np.sin(harmonic * phase)
    hiss = np.diff(rng.standard_normal(len(time) + 1))
    syllable = np.sin(2 * np.pi * syllables_hz / 2 * time)  # below zero: a consonant
    talk = np.clip(syllable, 0, None) * voiced + 0.3 * np.clip(-syllable, 0, 0.5) * hiss
    talk[int(0.35 * len(talk)) : int(0.55 * len(talk))] = 0  # a pause
    noise = 1e-4 * rng.standard_normal(len(time))
    wave: npt.NDArray[np.float32] = (level * talk / np.abs(talk).max() + noise).astype(np.float32)
    return wave


def reference(upstream: Upstream) -> list[Frames]:
    """Return the frames of the probes by PyTorch in one pass, each ``(layers, frames, dim)``."""
    return upstream.extract(probes())


def agreement(backend: Backend, wanted: Sequence[Frames]) -> Agreement:
    """Return how near an engine comes to the `reference` of its upstream, on all its layers."""
    cosine, error = 1.0, 0.0
    for probe, frames in zip(probes(), wanted, strict=True):
        with torch.no_grad():
            (given,) = backend.encode([probe])
        got, exact = given.cpu().double().numpy(), frames.astype(np.float64)  # (layers, frames, dim)
        if got.shape != exact.shape:
            raise BackendError(
                f"{_called(backend)} gives frames of shape {got.shape} for {backend.upstream.name} where PyTorch gives "
                f"{exact.shape}; choose backend torch"
            )
        if not np.isfinite(got).all():
            return Agreement(-1.0, float("inf"))
        error = max(
            error, float((_norm(got - exact, (1, 2)) / np.maximum(_norm(exact, (1, 2)), 1e-12)).max())
        )
        one, other = got.mean(axis=1), exact.mean(axis=1)  # (layers, dim)
        norms = _norm(one, 1) * _norm(other, 1)
        # A layer that is zero in both agrees.
        same = np.where(norms > 0, (one * other).sum(axis=1) / np.maximum(norms, 1e-300), error == 0)
        cosine = min(cosine, float(same.min()))
    return Agreement(cosine, error)


def verify(backend: Backend, wanted: Sequence[Frames]) -> Agreement:
    """Refuse an engine that is not precise enough on this upstream.

    Parameters
    ----------
    backend
        Just opened.
    wanted
        `reference` of its upstream.

    Raises
    ------
    BackendError
        If fp32 is further than :data:`MOST_ERROR` from PyTorch, or another precision's pooled features are below
        :data:`LEAST_COSINE`.
    """
    found = agreement(backend, wanted)
    if backend.precision == "fp32":
        if found.error > MOST_ERROR:
            raise BackendError(
                f"{_called(backend)} differs from PyTorch by {found.error:.1e} on {backend.upstream.name}, "
                f"and {MOST_ERROR:.0e} is allowed; choose backend torch"
            )
    elif found.cosine < LEAST_COSINE:
        better = {"int8": "bf16 or fp32", "fp16": "bf16 or fp32"}.get(backend.precision, "fp32")
        raise BackendError(
            f"{_called(backend)} is too coarse for {backend.upstream.name}: its pooled features have a cosine of "
            f"{found.cosine:.4f} with exact ones, and {LEAST_COSINE} is the least; choose precision {better}"
        )
    return found


def _called(backend: Backend) -> str:
    return f"backend {backend.name} in {backend.precision}"


def _norm(values: npt.NDArray[np.float64], axis: int | tuple[int, int]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.sqrt((values * values).sum(axis=axis))
    return found
