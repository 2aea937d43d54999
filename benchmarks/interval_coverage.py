"""How often 95 % intervals hold the truth, with and without seeds moved apart as `bootstrap.seed_weights` does it.

    python benchmarks/interval_coverage.py --out benchmarks/results/interval_coverage.json

Studies are made up: speakers differ in how well they are recognised, seeds in how good a classifier they gave, and each
answer of each seed is right or wrong by chance, half of which is the clip's own under every seed. The truth is the mean
over all speakers and seeds that there might have been: an accuracy of 0.7, and a difference of 0 between two systems
that have speakers in common and seeds of their own.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from subtone.evaluation import bootstrap, describe_environment
from subtone.evaluation.bootstrap import percentile_interval, resample, units_of, weighted_metric

LEVEL, CLASSES = 0.7, 4


@dataclass(frozen=True)
class Setting:
    """What the studies of a row have in common; scatters are standard deviations of the accuracy."""

    speakers: int
    clips: int
    seeds: int
    speaker_sd: float
    seed_sd: float


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    given = parser.parse_args()
    rows = []
    for speakers in (10, 24):
        for seed_sd in (0.0, 0.02, 0.05):
            for seeds in (1, 2, 3, 5, 10):
                setting = Setting(speakers, 40, seeds, 0.06, seed_sd)
                row = measured(setting, given.studies, given.resamples)
                rows.append({**setting.__dict__, **row})
                print(rows[-1], flush=True)
    record = {
        "studies": given.studies,
        "resamples": given.resamples,
        "accuracy": LEVEL,
        "environment": describe_environment(
            device="cpu", command="python benchmarks/interval_coverage.py --out RESULT.json"
        ),
        "rows": rows,
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measured(setting: Setting, studies: int, resamples: int) -> dict[str, float]:
    """Share of the studies whose interval holds the truth, for UA and the difference of two systems."""
    rng = np.random.default_rng(12)
    held = dict.fromkeys(("ua", "ua_as_drawn", "difference", "difference_as_drawn"), 0)
    for number in range(studies):
        truth, answers, who = study(rng, setting)
        k = setting.seeds
        for name, weigh in (("", bootstrap.seed_weights), ("_as_drawn", as_drawn)):
            draws = np.random.default_rng(number)
            units = units_of(truth, answers, CLASSES, who)
            hits, support = resample(units, resamples, draws)
            ua = [
                weighted_metric("ua", hits[:, at : at + k], support, weigh(k, resamples, draws))
                for at in (0, k)
            ]
            low, high = percentile_interval(ua[0])
            held[f"ua{name}"] += low <= LEVEL <= high
            low, high = percentile_interval(ua[1] - ua[0])
            held[f"difference{name}"] += low <= 0.0 <= high
    return {name: round(count / studies, 3) for name, count in held.items()}


def study(rng: np.random.Generator, one: Setting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, answers ``(2 × seeds, clips)`` of two systems, speakers."""
    who = np.repeat(np.arange(one.speakers), one.clips)
    truth = np.tile(np.arange(CLASSES), len(who) // CLASSES)
    ability = LEVEL + one.speaker_sd * rng.standard_normal(one.speakers)[who]
    level = one.seed_sd * rng.standard_normal(2 * one.seeds)[:, None]
    # Luck is normal, half of its variance the clip's own, and is held against the quantile of the ability.
    luck = np.sqrt(0.5) * (rng.standard_normal(len(who)) + rng.standard_normal((2 * one.seeds, len(who))))
    right = luck < quantile(np.clip(ability + level, 0.001, 0.999))
    return truth, np.where(right, truth, (truth + 1) % CLASSES), who


def quantile(share: np.ndarray) -> np.ndarray:
    """Of the standard normal distribution."""
    return np.asarray(ndtri(share))


def as_drawn(seeds: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Seeds drawn with replacement and left as they are."""
    return rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=resamples) / seeds


if __name__ == "__main__":
    main()
