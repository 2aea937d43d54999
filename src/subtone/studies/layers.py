"""Which layers of an upstream tell emotions, which a learned mix takes, and which tell speech from the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from subtone import upstreams
from subtone.classifier import LayersMode, PooledClassifier
from subtone.errors import UsageError
from subtone.protocols import Fold
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.conditions import Condition
from subtone.studies.context import Context, Made, Study
from subtone.studies.hearing import Hearing
from subtone.studies.layer_energy import STATISTICS, SUMS, energy_cell, resampled_energies
from subtone.studies.layer_findings import ALL, MIX, PICKED, SYSTEMS, Found, findings_of
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.studies.systems import POOLED, Features, features_of, system_cell
from subtone.training import train_frozen
from subtone.training.options import FrozenOptions

_DETECTOR = "own"


@dataclass(frozen=True)
class _Corpus:
    """One corpus and its cells; those of systems are found by `_cell_name`."""

    material: Material
    cells: tuple[Cell, ...]


def make(context: Context) -> Made:
    """Make the study."""
    options = context.options
    layers = upstreams.load(context.upstream).num_layers
    if layers < 2:
        raise UsageError(
            f"upstream {context.upstream}: has one layer, and this study compares layers; name one with two or more"
        )
    planned = [_plan(context, material, layers) for material in context.gather()]
    whole, earlier, failed = context.run_planned(planned)
    found = [_read(one.material, layers, options, earlier) for one in whole]
    return Made(findings_of(context, layers, found), failed)


def _cell_name(material: Material, system: str, which: str) -> str:
    words = {ALL: "all", MIX: "mix"}
    return f"{material.name}/layers/{system}-{words.get(which, which)}"


def _plan(context: Context, material: Material, layers: int) -> _Corpus:
    options = context.options
    hearing = Hearing(material, context.upstream, options, STATISTICS, {_DETECTOR: context.detector()})
    heard = hearing.cell(Condition("plain"))
    cells = [heard, energy_cell(f"{material.name}/energy", heard, _DETECTOR)]
    for system in SYSTEMS:
        features = Features(heard.name, _DETECTOR, POOLED[system])
        for which in (*map(str, range(layers)), ALL, MIX):
            cells.append(_trained_cell(material, system, which, features, options))
    return _Corpus(material, tuple(cells))


def _trained_cell(
    material: Material, system: str, which: str, features: Features, options: StudyOptions
) -> Cell:
    alone = None if which in (ALL, MIX) else [int(which)]
    mode: LayersMode = "mix" if which == MIX else "concat"
    cell = system_cell(_cell_name(material, system, which), material, features, {}, options, layers=alone)
    given = {**cell.given, "options": asdict(replace(options.fit, layers=mode))}
    return replace(cell, work=train, given=given, cost=cell.cost * (0.3 if alone else 1.0))


def train(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Train one system on some or all layers, all folds and seeds.

    Returns
    -------
    Outcome
        Arrays ``logits (seeds, clips, classes)`` of the test clips, ``dev_ua (folds, seeds)`` in [0, 1], and of a
        learned mix ``weights (folds, seeds, layers)``, each row with the sum 1.
    """
    options = FrozenOptions(**given["options"])
    run = train_frozen(
        features_of(given["trained"]).read(earlier, given["layers"]),
        np.array(given["targets"], np.int64),
        [
            Fold(one["name"], *(np.array(one[part], np.int64) for part in ("train", "dev", "test")))
            for one in given["folds"]
        ],
        given["seeds"],
        given["classes"],
        options,
    )
    arrays: dict[str, npt.NDArray[Any]] = {"logits": run.logits, "dev_ua": run.dev_ua}
    if options.layers == "mix":
        arrays["weights"] = np.array([[_mix_of(one) for one in fold] for fold in run.classifiers])
    return Outcome({}, arrays)


def _mix_of(classifier: PooledClassifier) -> npt.NDArray[np.float64]:
    """Weights of the layers in a classifier's mix, ``(layers,)``."""
    weights: npt.NDArray[np.float64] = nn.functional.softmax(
        classifier.mix.logits.detach().double(), 0
    ).numpy()
    return weights


def picked(dev_ua: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Pick a layer for each fold: the best on its development speakers, mean over seeds; of equals the lowest.

    Parameters
    ----------
    dev_ua
        ``(layers, folds, seeds)``.

    Returns
    -------
    NDArray of int64
        ``(folds,)``.
    """
    mean = np.nan_to_num(np.asarray(dev_ua, np.float64), nan=-1.0).mean(-1)  # (layers, folds)
    best: npt.NDArray[np.int64] = (
        mean.round(9).argmax(0).astype(np.int64)
    )  # sums of equals may differ in a bit
    return best


def _read(material: Material, layers: int, options: StudyOptions, earlier: Earlier) -> Found:
    answers: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
    picks: dict[str, npt.NDArray[np.int64]] = {}
    weights: dict[str, npt.NDArray[np.float64]] = {}
    for system in SYSTEMS:
        for which in (*map(str, range(layers)), ALL, MIX):
            logits = earlier.array(_cell_name(material, system, which), "logits")
            answers[system, which] = logits.argmax(-1).astype(np.int64)
        alone = [_cell_name(material, system, str(layer)) for layer in range(layers)]
        picks[system] = picked([earlier.array(name, "dev_ua") for name in alone])
        chosen = np.empty_like(answers[system, ALL])
        for fold, layer in zip(material.split.folds, picks[system].tolist(), strict=True):
            chosen[:, fold.test] = answers[system, str(layer)][:, fold.test]
        answers[system, PICKED] = chosen
        weights[system] = earlier.array(_cell_name(material, system, MIX), "weights")
    sums = earlier[f"{material.name}/energy"].arrays
    energies = resampled_energies(
        {name: sums[name] for name in SUMS},
        sums["used"],
        material.speakers,
        resamples=options.resamples,
        seed=options.seed,
    )
    return Found(material, answers, picks, weights, energies)


STUDY = Study(
    "layers",
    "Which layers tell emotions, which does a learned mix take, and which tell speech from the rest?",
    StudyOptions,
    make,
)
