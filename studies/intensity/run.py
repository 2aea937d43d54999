"""Choose, measure and train the intensity model that ships with Subtone.

    python studies/intensity/run.py --corpus ravdess=DATA/ravdess --corpus baved=DATA/baved \\
        --corpus emotale=DATA/emotale --outside emodb=DATA/emodb --model src/subtone/models/intensity/default

A fifth of each corpus's speakers are for development: losses and sizes were chosen on them alone, and no figure of the
page but that choice's is theirs. The other speakers are tested in five folds by models of all others, and each corpus
by models that have not heard it. ``--outside`` names corpora that tell emotions, but no intensity.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch: the seconds are those of one core

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import outside
import page
import rivals

from subtone.corpora.several import read_several
from subtone.evaluation import describe_environment
from subtone.evaluation.results import write_json
from subtone.pretraining.intensity import IntensityModel, IntensityOptions
from subtone.pretraining.intensity.agreement import agreement, difference, pairs_by_speaker
from subtone.pretraining.intensity.examples import Examples, read_examples
from subtone.pretraining.intensity.training import IntensityTraining, train_intensity
from subtone.protocols.folds import grouped_k_fold

HERE = Path(__file__).parent
PARTS = ("development", "ship", "folds", "corpora", "outside", "page")
SEEDS = (0,)
FOLDS = 5
MODEL = "intensity model"
Floats = npt.NDArray[np.float64]

CHOSEN = IntensityTraining()
VARIANTS: dict[str, tuple[IntensityTraining, IntensityOptions]] = {
    "chosen": (CHOSEN, IntensityOptions()),
    "StrengthNet's losses: clip and frame": (
        replace(CHOSEN, clip_weight=1.0, frame_weight=1.0, rank_weight=0.0),
        IntensityOptions(),
    ),
    "ranking, little of the clip's error": (
        replace(CHOSEN, clip_weight=0.3, frame_weight=0.0, rank_weight=1.0),
        IntensityOptions(),
    ),
    "no random tilt": (replace(CHOSEN, tilt=0.0), IntensityOptions()),
}


def main() -> None:
    """Run the parts that are asked for; each leaves a file in ``results``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--outside", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model: written by 'ship'")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    named = dict(entry.split("=", 1) for entry in given.corpus)
    heard = set(given.parts) - {"outside", "page"}
    examples = read_examples(read_several(named)) if heard else None
    for part in given.parts:
        start = time.process_time()
        if part == "page":
            page.write(given.results, given.model)
        elif part == "outside":
            found = outside.measure(dict(e.split("=", 1) for e in given.outside), given.model)
            keep(found, start, given, part)
        elif examples is not None:
            if part == "ship":
                ship(examples, given.model)
            else:
                keep(MEASURES[part](examples), start, given, part)


def keep(found: dict[str, Any], start: float, given: argparse.Namespace, part: str) -> None:
    """Write the figures of a part, and what they depended on."""
    seconds = time.process_time() - start
    environment = describe_environment(seeds=SEEDS, command=_command(given), device="cpu")
    write_json(
        given.results / f"{part}.json", {"figures": found, "cpu_s": seconds, "environment": environment}
    )
    print(f"{part}: {seconds:.0f} s of CPU", flush=True)


def development_speakers(examples: Examples) -> npt.NDArray[np.bool_]:
    """Which clips are of the speakers that choices are made on: a fifth of each corpus's speakers."""
    rng = np.random.default_rng(0)
    chosen: list[str] = []
    for corpus in np.unique(examples.corpora):
        speakers = np.unique(examples.speakers[examples.corpora == corpus])
        chosen += list(rng.choice(speakers, len(speakers) // 5, replace=False))
    return np.isin(examples.speakers, chosen)


def scores_of(model: IntensityModel, examples: Examples) -> Floats:
    """Score clips, each by the mean over its speech."""
    pairs = zip(examples.banks, examples.speech, strict=True)
    return np.array([model.clip_from_banks(banks, speech.numpy()) for banks, speech in pairs])


def choose(examples: Examples) -> dict[str, Any]:
    """Train every variant on all but the development speakers, and measure it on these."""
    development = development_speakers(examples)
    train, test = examples.select(~development), examples.select(development)
    found: dict[str, Any] = {}
    for name, (options, network) in VARIANTS.items():
        start = time.process_time()
        scores = scores_of(train_intensity(train, options, network, seed=SEEDS[0]), test)
        found[name] = {
            "options": {**asdict(options), **asdict(network)},
            "cpu_s": time.process_time() - start,
            **dict(measured(scores, test)),
        }
        print(f"development, {name}", flush=True)
    return found


def by_folds(examples: Examples) -> dict[str, Any]:
    """Test the speakers that are not for development, by models of all other speakers."""
    scores: dict[str, Floats] = {f"{MODEL}, seed {seed}": np.full(len(examples), np.nan) for seed in SEEDS}
    scores["ridge regression"] = np.full(len(examples), np.nan)
    tested = np.flatnonzero(~development_speakers(examples))
    fold_of = np.full(len(examples), -1)
    for corpus in np.unique(examples.corpora):
        own = tested[examples.corpora[tested] == corpus]
        levels = np.digitize(examples.levels[own], [0.34, 0.67]).astype(np.int64)
        for number, (_, rows) in enumerate(grouped_k_fold(examples.speakers[own], levels, FOLDS, seed=0)):
            fold_of[own[rows]] = number
    for fold in range(FOLDS):
        held = fold_of == fold
        train, test = examples.select(~held), examples.select(held)
        for seed in SEEDS:
            scores[f"{MODEL}, seed {seed}"][held] = scores_of(train_intensity(train, seed=seed), test)
        scores["ridge regression"][held] = rivals.ridge(train, test)
        print(f"fold {fold + 1} of {FOLDS}", flush=True)
    test = examples.select(tested)
    return compared({**rivals.single_numbers(test), **{k: v[tested] for k, v in scores.items()}}, test)


def by_corpora(examples: Examples) -> dict[str, Any]:
    """Test each corpus by models of the others; development speakers too, since nothing was chosen for this."""
    scores: dict[str, Floats] = {f"{MODEL}, seed {seed}": np.full(len(examples), np.nan) for seed in SEEDS}
    scores["ridge regression"] = np.full(len(examples), np.nan)
    for corpus in np.unique(examples.corpora):
        held = examples.corpora == corpus
        train, test = examples.select(~held), examples.select(held)
        for seed in SEEDS:
            scores[f"{MODEL}, seed {seed}"][held] = scores_of(train_intensity(train, seed=seed), test)
        scores["ridge regression"][held] = rivals.ridge(train, test)
        print(f"without {corpus}", flush=True)
    return compared({**rivals.single_numbers(examples), **scores}, examples)


def ship(examples: Examples, folder: Path) -> None:
    """Train on all speakers; `page.write` adds the card when the figures are there."""
    model = train_intensity(examples, seed=SEEDS[0])
    replace(model, card=page.PRELIMINARY).save(folder)
    print(f"shipped {model.fingerprint()}", flush=True)


def compared(scores: Mapping[str, Floats], examples: Examples) -> dict[str, Any]:
    """Every system's agreement, and how far the model (first seed) lies above each other."""
    found: dict[str, Any] = {name: dict(measured(values, examples)) for name, values in scores.items()}
    ours = scores[f"{MODEL}, seed {SEEDS[0]}"]
    for name, values in scores.items():
        for corpus in np.unique(examples.corpora):
            own = examples.corpora == corpus
            some = examples.select(own)
            gained = difference(pairs_by_speaker(ours[own], some), pairs_by_speaker(values[own], some))
            found[name][str(corpus)]["model_above_pairs"] = asdict(gained)
    return found


def measured(scores: Floats, examples: Examples) -> Iterator[tuple[str, dict[str, Any]]]:
    """Agreement with the levels of each corpus."""
    for corpus in np.unique(examples.corpora):
        own = examples.corpora == corpus
        yield str(corpus), asdict(agreement(scores[own], examples.select(own)))


MEASURES = {"development": choose, "folds": by_folds, "corpora": by_corpora}


def _command(given: argparse.Namespace) -> str:
    """The command without this machine's paths."""
    named = [
        f"--{kind} {e.split('=')[0]}=PATH" for kind in ("corpus", "outside") for e in getattr(given, kind)
    ]
    return " ".join(
        ["python studies/intensity/run.py", *named, "--model src/subtone/models/intensity/default"]
    )


if __name__ == "__main__":
    main()
