"""Speech against the rest of a clip, layer by layer, from pooled features alone: no frame has to be kept.

Over the frames of a clip, ``E[all] = share · E[speech] + (1 − share) · E[rest]``. GAP gives mean and deviation of all
frames, SAP those of speech, and so the moments of the rest are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import safe_open

from subtone.evaluation.bootstrap import percentile_interval
from subtone.evaluation.findings import Measure
from subtone.studies.cells import Cell, Earlier, Outcome

Floats = npt.NDArray[np.float64]

#: What has to be pooled.
STATISTICS = ("gap_mean", "gap_std", "sap_mean", "sap_std")
#: Clips with fewer frames of speech, or of the rest, tell too little of either.
FEWEST = 5
#: What is summed up of each clip and layer; see `energies`.
SUMS = (
    "raw_speech",
    "raw_rest",
    "even_speech",
    "even_rest",
    "motion_speech",
    "motion_rest",
    "between",
    "within",
)


@dataclass(frozen=True)
class Measured:
    """A measure of speech against the rest.

    Parameters
    ----------
    words
        What it is, short.
    above, below
        Of `SUMS`: two sums whose means over clips are set against each other.
    """

    words: str
    above: str
    below: str


#: In dB, speech over the rest.
RATIOS: dict[str, Measured] = {
    "raw": Measured("energy", "raw_speech", "raw_rest"),
    "even": Measured("energy, all dimensions alike", "even_speech", "even_rest"),
    "motion": Measured("variation", "motion_speech", "motion_rest"),
}


def rest_of(
    gap_mean: npt.ArrayLike,
    gap_std: npt.ArrayLike,
    sap_mean: npt.ArrayLike,
    sap_std: npt.ArrayLike,
    share: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """Derive mean and variance of the frames that are no speech.

    Parameters
    ----------
    gap_mean, gap_std, sap_mean, sap_std
        ``(clips, dim)``, deviations of the population.
    share
        ``(clips,)`` of speech among the frames, in (0, 1).

    Returns
    -------
    mean, variance
        Each ``(clips, dim)``.

    Examples
    --------
    Frames 1, 3 of speech and 7, 9 of the rest:

    >>> mean, variance = rest_of([[5.0]], [[10.0**0.5]], [[2.0]], [[1.0]], [0.5])
    >>> mean.round(6).tolist(), variance.round(6).tolist()
    ([[8.0]], [[1.0]])
    """
    all_mean, all_std, speech_mean, speech_std = (
        np.asarray(one, np.float64) for one in (gap_mean, gap_std, sap_mean, sap_std)
    )
    spoken = np.asarray(share, np.float64)[:, None]
    # About the mean of all frames: squares of large values would cost the digits of small variances.
    apart = speech_mean - all_mean
    mean = -spoken * apart / (1 - spoken)
    square = (all_std**2 - spoken * (speech_std**2 + apart**2)) / (1 - spoken)
    return all_mean + mean, np.maximum(square - mean**2, 0.0)


def energies(
    gap_mean: npt.ArrayLike,
    gap_std: npt.ArrayLike,
    sap_mean: npt.ArrayLike,
    sap_std: npt.ArrayLike,
    num_frames: npt.ArrayLike,
    speech_frames: npt.ArrayLike,
) -> dict[str, Floats]:
    """Set speech against the rest of each clip, in one layer.

    Parameters
    ----------
    gap_mean, gap_std, sap_mean, sap_std
        ``(clips, dim)``.
    num_frames, speech_frames
        ``(clips,)``, with speech and rest in each.

    Returns
    -------
    dict
        `SUMS`, each ``(clips,)``:

        ``raw_…``: mean squared norm ``E‖x‖²`` of the frames; the few dimensions that are large rule it.
        ``even_…``: the same once each dimension is divided by its root mean square over all frames of the corpus, so
        that all dimensions count alike.
        ``motion_…``: variance of the frames about their own mean in the clip, each dimension divided by its deviation
        over the corpus: how much moves within speech, and within the rest.
        ``between``, ``within``: with the same division, ``‖μ_speech − μ_rest‖² / 4`` and the mean of both variances:
        the parts of the variance that a clip of equally much speech and rest would have. Their ratio does not depend
        on how much of a clip is speech.
    """
    frames, spoken = np.asarray(num_frames, np.float64), np.asarray(speech_frames, np.float64)
    means = {name: np.asarray(one, np.float64) for name, one in (("all", gap_mean), ("speech", sap_mean))}
    variances = {
        name: np.asarray(one, np.float64) ** 2 for name, one in (("all", gap_std), ("speech", sap_std))
    }
    means["rest"], variances["rest"] = rest_of(gap_mean, gap_std, sap_mean, sap_std, spoken / frames)
    weight = (frames / frames.sum())[:, None]
    centre = (weight * means["all"]).sum(0)  # (dim,)
    variance = (weight * (variances["all"] + (means["all"] - centre) ** 2)).sum(0)
    square = variance + centre**2
    # What varies by no more than rounding counts for nothing.
    per_square, per_variance = _inverse(square), _inverse(np.where(variance > 1e-10 * square, variance, 0))
    found: dict[str, Floats] = {}
    for name in ("speech", "rest"):
        squares = means[name] ** 2 + variances[name]  # (clips, dim)
        found[f"raw_{name}"] = squares.sum(1)
        found[f"even_{name}"] = squares @ per_square
        found[f"motion_{name}"] = variances[name] @ per_variance
    found["between"] = (means["speech"] - means["rest"]) ** 2 @ per_variance / 4
    found["within"] = (found["motion_speech"] + found["motion_rest"]) / 2
    return found


def _inverse(values: Floats) -> Floats:
    """Return ``1 / values``, and 0 where they are 0."""
    return np.where(values > 0, 1.0 / np.where(values > 0, values, 1.0), 0.0)


def energy_cell(name: str, heard: Cell, detector: str) -> Cell:
    """Return the cell of a corpus's energies.

    Parameters
    ----------
    name
        Of the cell.
    heard
        What :func:`subtone.studies.encode.encode` gave, with `STATISTICS`.
    detector
        Whose speech.
    """
    return Cell(name, measure, {"heard": heard.name, "detector": detector}, needs=(heard.name,))


def measure(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Take the energies of all clips, layer by layer.

    Returns
    -------
    Outcome
        Arrays ``SUM (clips, layers)`` for each of `SUMS`, zeros for clips that are left out, and ``used (clips,)``.
    """
    detector = given["detector"]
    with safe_open(earlier.path(given["heard"]), framework="np") as file:
        frames, spoken = (
            file.get_tensor(f"{detector}/{name}").astype(np.int64) for name in ("num_frames", "speech_frames")
        )
        used = (spoken >= FEWEST) & (frames - spoken >= FEWEST)
        slices = [file.get_slice(f"{detector}/{name}") for name in STATISTICS]
        layers = slices[0].get_shape()[1]
        arrays = {name: np.zeros((len(frames), layers)) for name in SUMS}
        for layer in range(layers if used.any() else 0):
            pooled = [one[:, layer : layer + 1][used, 0] for one in slices]  # each (clips, dim)
            found = energies(pooled[0], pooled[1], pooled[2], pooled[3], frames[used], spoken[used])
            for name, values in found.items():
                arrays[name][used, layer] = values
    return Outcome({}, {**arrays, "used": used})


@dataclass(frozen=True, eq=False)
class Energies:
    """Means over clips of `SUMS`, and the same of resampled speakers.

    Parameters
    ----------
    values
        Name → ``(layers,)``.
    draws
        Name → ``(resamples, layers)``.
    clips, speakers
        That had enough of both kinds of frames.
    """

    values: Mapping[str, Floats]
    draws: Mapping[str, Floats]
    clips: int
    speakers: int

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.values[SUMS[0]])

    def decibels(self, name: str) -> list[Measure]:
        """Speech over the rest in dB, a `Measure` a layer; one of `RATIOS`."""
        one = RATIOS[name]
        return self._measures(_decibels, one.above, one.below)

    def explained(self) -> list[Measure]:
        """Share of the variance of frames, in percent, that speech or not explains where both are equally long."""
        return self._measures(lambda between, within: 100 * between / (between + within), "between", "within")

    def _measures(self, what: Callable[[Floats, Floats], Floats], one: str, other: str) -> list[Measure]:
        values, draws = what(self.values[one], self.values[other]), what(self.draws[one], self.draws[other])
        return [
            Measure(float(value), *percentile_interval(drawn))
            for value, drawn in zip(values, draws.T, strict=True)
        ]


def resampled_energies(
    sums: Mapping[str, Floats],
    used: npt.NDArray[np.bool_],
    speakers: Sequence[Any],
    *,
    resamples: int,
    seed: int,
) -> Energies | None:
    """Take means over clips, of all speakers and of resampled ones; None if no clip has enough of both.

    Parameters
    ----------
    sums
        Name → ``(clips, layers)``.
    used
        ``(clips,)`` which clips count.
    speakers
        ``(clips,)``.
    resamples, seed
        Of the speakers.
    """
    if not used.any():
        return None
    codes, names = pd.factorize(np.asarray(speakers, dtype=object)[used])
    who = np.eye(len(names))[codes]  # (clips, speakers)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    count = drawn @ who.sum(0)  # (resamples,)
    draws = {name: drawn @ (who.T @ values[used]) / count[:, None] for name, values in sums.items()}
    values = {name: values[used].mean(0) for name, values in sums.items()}
    return Energies(values, draws, int(used.sum()), len(names))


def _decibels(above: Floats, below: Floats) -> Floats:
    # Rest that is constant to the last bit, as digital silence may be, is given the least that is not nothing.
    least = np.finfo(np.float64).tiny
    return 10 * np.log10(np.maximum(above, least) / np.maximum(below, least))
