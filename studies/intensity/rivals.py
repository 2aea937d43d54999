"""What an intensity model has to beat: loudness, other single numbers of a clip, a ridge regression, chance."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from subtone.pretraining.intensity.examples import Examples
from subtone.pretraining.intensity.network import level_free, loudness

Floats = npt.NDArray[np.float64]
GAIN_DB = 12.0  # recordings of users differ by as much, and more


def single_numbers(examples: Examples) -> dict[str, Floats]:
    """Score clips by numbers that need no training; all over speech frames.

    ``loudness`` is the mean log energy, which knows the recording's gain; with a random gain of up to 12 dB to either
    side it becomes ``loudness, gain unknown``. The others do not change with the gain: the spread of the log energy,
    and the spectrum's slope (bands from 1.1 kHz on against those below 0.7 kHz).
    """
    rng = np.random.default_rng(0)
    energies = [loudness(banks.float())[speech] for banks, speech in zip(examples.banks, examples.speech)]
    loud = np.array([float(energy.mean()) for energy in energies])
    gain = rng.uniform(-GAIN_DB, GAIN_DB, len(loud)) * math.log(10) / 10
    slopes = [_slope(banks.float()[speech]) for banks, speech in zip(examples.banks, examples.speech)]
    return {
        "chance": rng.uniform(size=len(loud)),
        "loudness": loud,
        "loudness, gain unknown": loud + gain,
        "energy spread": np.array([float(energy.std(correction=0)) for energy in energies]),
        "spectral slope": np.array(slopes),
    }


def ridge(train: Examples, test: Examples) -> Floats:
    """Score by a ridge regression on mean and deviation of the level-free bands; corpora weigh alike."""
    weight = np.array([1.0 / np.sum(train.corpora == name) for name in train.corpora]) * len(train)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    model.fit(statistics(train), train.levels, ridgecv__sample_weight=weight)
    scores: Floats = model.predict(statistics(test))
    return scores


def statistics(examples: Examples) -> npt.NDArray[np.float32]:
    """Mean and deviation over speech of each level-free band, ``(clips, 160)``."""
    rows = []
    for banks, speech in zip(examples.banks, examples.speech):
        frames = level_free(banks.float())[speech]  # (frames, 80)
        rows.append(torch.cat([frames.mean(0), frames.std(0, correction=0)]).numpy())
    return np.stack(rows)


def _slope(banks: torch.Tensor) -> float:
    return float(banks[:, 30:].mean() - banks[:, :20].mean())
