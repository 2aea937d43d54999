"""The shipped model on corpora that tell emotions but no intensity: what it calls strong, how its curves move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import rivals

from subtone.corpora.several import read_several
from subtone.pretraining.intensity import IntensityModel
from subtone.pretraining.intensity.agreement import difference, pairs_by_speaker, spearman
from subtone.pretraining.intensity.examples import Examples, read_examples
from subtone.pretraining.intensity.network import loudness

NEUTRAL = "neutral"
SPAN, SHARE = 7, 0.15  # of the masking that these curves are for


def measure(named: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Measure the model on each corpus."""
    model = IntensityModel.load(folder)
    found: dict[str, Any] = {"fingerprint": model.fingerprint(), "corpora": {}}
    for name, path in named.items():
        examples = read_examples(read_several({name: path}))
        curves = [model.from_banks(banks) for banks in examples.banks]
        scores = np.array([curve[s.numpy()].mean() for curve, s in zip(curves, examples.speech)])
        found["corpora"][name] = {
            "clips": len(examples),
            "emotions": by_emotion(scores, examples),
            "curves": of_curves(curves, examples),
        }
    return found


def by_emotion(scores: np.ndarray, examples: Examples) -> dict[str, Any]:
    """Mean score of each emotion, and how often a speaker's clips of it lie above the neutral ones, by each system."""
    numbers = rivals.single_numbers(examples)
    systems = {"intensity model": scores, **{name: numbers[name] for name in ("loudness", "spectral slope")}}
    found: dict[str, Any] = {}
    for emotion in sorted(set(examples.emotions.tolist()) - {""}):
        own = examples.emotions == emotion
        found[emotion] = {"clips": int(own.sum()), "mean": float(scores[own].mean())}
        if emotion != NEUTRAL:
            both = own | (examples.emotions == NEUTRAL)
            some = replace(examples.select(both), levels=own[both].astype(np.float64))
            shares = {name: pairs_by_speaker(values[both], some) for name, values in systems.items()}
            found[emotion]["above_neutral"] = {
                name: asdict(difference(each, dict.fromkeys(each, 0.0))) for name, each in shares.items()
            }
    return found


def of_curves(curves: list[np.ndarray], examples: Examples) -> dict[str, float]:
    """Say how curves move inside clips: medians over clips."""
    rows = []
    for curve, banks, speech in zip(curves, examples.banks, examples.speech):
        spoken, energy = speech.numpy(), loudness(banks.float()).numpy().astype(np.float64)
        top = np.argsort(-curve, kind="stable")[: 2 * round(SHARE * len(curve) / SPAN)]
        centred = curve - curve.mean()
        power = float((centred**2).sum()) or 1.0
        falls = [lag for lag in range(1, len(curve)) if (centred[lag:] * centred[:-lag]).sum() < power / 2]
        rows.append(
            (
                float(curve[spoken].std()),
                spearman(curve.astype(np.float64), energy),
                spearman(curve[spoken].astype(np.float64), energy[spoken]),
                float(spoken[top].mean()) if len(top) else np.nan,
                float(spoken.mean()),
                10.0 * (falls[0] if falls else len(curve)),
            )
        )
    names = ("deviation_in_speech", "energy_rank_correlation", "energy_rank_correlation_in_speech",
             "speech_share_of_top_frames", "speech_share", "half_correlation_ms")  # fmt: skip
    return dict(zip(names, np.nanmedian(np.array(rows), axis=0).tolist()))
