"""Cells of classifiers that are taught on some corpora and tested on others, with class shares adjusted in each way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from subtone.evaluation.calibration import apply_temperature, fit_temperature
from subtone.evaluation.metrics import Floats
from subtone.evaluation.priors import bbse_prior, class_shares, em_prior, oracle_adjusted, prior_adjusted
from subtone.protocols import Fold
from subtone.protocols.development import dev_speakers
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.material import Material, Rows
from subtone.studies.options import StudyOptions
from subtone.studies.systems import Features, Matrix, features_of
from subtone.training import train_frozen
from subtone.training.frozen import FrozenRun
from subtone.training.options import FrozenOptions

#: Features as they are, or each corpus standardised by the mean and deviation of all its clips.
Variant = Literal["raw", "standardised"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
#: As the classifier says; with the class shares of the test clips estimated by EM or by confusions; with the true ones.
Adjustment = Literal["plain", "em", "bbse", "oracle"]
ADJUSTMENTS: tuple[Adjustment, ...] = get_args(Adjustment)
#: Class shares that are held against the true ones.
ASSUMED = ("taught", "em", "bbse")
_DEV_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Source:
    """A corpus that teaches or is tested.

    Parameters
    ----------
    material
        The corpus.
    heard
        Cell of its features.
    held
        ``(clips,)`` clips of the speakers who tell when to stop, wherever the corpus teaches another.
    """

    material: Material
    heard: Cell
    held: npt.NDArray[np.bool_]

    @property
    def name(self) -> str:
        """Of the corpus."""
        return self.material.name


def source(material: Material, heard: Cell, seed: int) -> Source:
    """Hold back a fifth of a corpus's speakers for development.

    Raises
    ------
    ProtocolError
        If no speaker would be left to train on.
    """
    held = dev_speakers(
        material.speakers,
        material.targets,
        share=_DEV_SHARE,
        number=None,
        fold=material.name,
        seed=seed,
    )
    return Source(material, heard, held)


def cross_fold(sources: Sequence[Source], teachers: Sequence[int], seed: int) -> Fold:
    """Return the fold that is taught on some corpora and tests all others.

    With several teachers, rows are repeated until each corpus weighs as much as any other in each class: a corpus of
    thousands of clips must not drown one of hundreds, and no class may be told by the corpus that has most of it.

    Parameters
    ----------
    sources
        Corpora, whose rows are numbered one corpus after another.
    teachers
        Places of those that teach.
    seed
        Chooses the rows that are repeated once more than others.
    """
    starts = np.cumsum([0, *(len(one.held) for one in sources)])
    train, dev, test = [], [], []
    for place, one in enumerate(sources):
        rows = starts[place] + np.arange(len(one.held))
        if place not in teachers:
            test.append(rows)
            continue
        targets = one.material.targets
        for code in range(len(one.material.classes)):
            train.append(rows[~one.held & (targets == code)])
            dev.append(rows[one.held & (targets == code)])
    name = "+".join(sources[place].name for place in teachers)
    if len(teachers) == 1:
        return Fold(name, *(np.sort(np.concatenate(part)) for part in (train, dev, test)))
    rng = np.random.default_rng(seed)
    return Fold(name, evenly(train, rng), evenly(dev, rng), np.concatenate(test))


def evenly(groups: Sequence[Rows], rng: np.random.Generator) -> Rows:
    """Repeat the rows of each group until all are as many as in the largest; empty ones stay empty.

    Examples
    --------
    >>> evenly([np.array([0, 1, 2, 3]), np.array([8, 9]), np.array([], np.int64)], np.random.default_rng(0))
    array([0, 1, 2, 3, 8, 8, 9, 9])
    """
    longest = max(len(rows) for rows in groups)
    parts: list[Rows] = []
    for rows in groups:
        if len(rows):
            whole, rest = divmod(longest, len(rows))
            parts += [np.tile(rows, whole), rng.permutation(rows)[:rest]]
    return np.sort(np.concatenate(parts))


def taught_cell(
    name: str,
    sources: Sequence[Source],
    folds: Sequence[Fold],
    detector: str,
    statistics: Sequence[str],
    variant: Variant,
    options: StudyOptions,
) -> Cell:
    """Return the cell of one system, taught and tested as the folds say.

    Parameters
    ----------
    name
        Of the cell.
    sources
        Corpora that it needs.
    folds
        Positions in their clips, one corpus after another.
    detector, statistics
        What the system looks at.
    variant
        See `VARIANTS`.
    options
        Training and seeds.
    """
    given = {
        "corpora": [
            {
                "name": one.name,
                "features": Features(one.heard.name, detector, tuple(statistics)).to_dict(),
                "targets": one.material.targets.tolist(),
            }
            for one in sources
        ],
        "folds": [
            {"name": fold.name, **{part: getattr(fold, part).tolist() for part in ("train", "dev", "test")}}
            for fold in folds
        ],
        "variant": variant,
        "classes": len(sources[0].material.classes),
        "seeds": list(options.seeds),
        "options": asdict(options.fit),
    }
    cost = len(folds) * len(statistics) * sum(len(one.held) for one in sources)
    return Cell(name, teach_and_test, given, cost, tuple(one.heard.name for one in sources))


def teach_and_test(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Train all folds and seeds, and answer the clips that they test under each adjustment.

    The temperature and the confusions come from development speakers, who are of the corpora that teach. Shares are
    estimated for each fold, seed and tested corpus by itself, from the clips that are tested there.

    Returns
    -------
    Outcome
        Arrays ``CORPUS/ADJUSTMENT (seeds, clips)`` answers, ``CORPUS/off-SHARES (folds, seeds)`` how far assumed class
        shares (see `ASSUMED`) are from the true ones: half the sum of absolute differences, 0..1. Value
        ``unfinished``: how many runs of EM ended before they stood still.
    """
    corpora, classes = given["corpora"], int(given["classes"])
    targets = np.concatenate([np.array(one["targets"], np.int64) for one in corpora])
    sizes = [len(one["targets"]) for one in corpora]
    starts, of_corpus = np.cumsum([0, *sizes]), np.repeat(np.arange(len(corpora)), sizes)
    folds = [
        Fold(one["name"], *(np.array(one[part], np.int64) for part in ("train", "dev", "test")))
        for one in given["folds"]
    ]
    options = FrozenOptions(**given["options"])
    run = train_frozen(_matrix(given, earlier), targets, folds, given["seeds"], classes, options)
    arrays: dict[str, npt.NDArray[Any]] = {}
    unfinished = 0
    for number, fold in enumerate(folds):
        taught = taught_shares(targets, fold, classes, options)
        temperature = _temperature(run, targets, number, fold)
        for place in np.unique(of_corpus[fold.test]):
            name, rows = corpora[place]["name"], fold.test[of_corpus[fold.test] == place]
            for seed in range(len(given["seeds"])):
                found = _Adjusted.of(
                    run.logits[seed, rows] / temperature,
                    targets[rows],
                    run.dev_by_fold[number][seed].argmax(-1),
                    targets[fold.dev],
                    taught,
                )
                unfinished += not found.finished
                for adjustment, answers in found.answers.items():
                    shape = (len(given["seeds"]), sizes[place])
                    kept = arrays.setdefault(f"{name}/{adjustment}", np.full(shape, -1, np.int64))
                    kept[seed, rows - starts[place]] = answers
                for shares, off in found.off.items():
                    shape = (len(folds), len(given["seeds"]))
                    arrays.setdefault(f"{name}/off-{shares}", np.full(shape, np.nan))[number, seed] = off
    return Outcome({"steps": run.steps.tolist(), "unfinished": unfinished}, arrays)


def taught_shares(targets: npt.NDArray[np.int64], fold: Fold, classes: int, options: FrozenOptions) -> Floats:
    """Return the class shares that a fold's classifiers were taught with, ``(classes,)``.

    Balanced class weights make them even. A class without clips counts as one of a single clip, since no share may be
    0.
    """
    if options.class_weights == "balanced":
        return np.full(classes, 1.0 / classes)
    rows = np.concatenate([fold.train, fold.dev]) if options.refit else fold.train
    counts = np.maximum(np.bincount(targets[rows], minlength=classes), 1)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Adjusted:
    """The answers of one classifier to the tested clips of one corpus."""

    answers: Mapping[Adjustment, npt.NDArray[np.int64]]
    off: Mapping[str, float]
    finished: bool

    @classmethod
    def of(
        cls,
        logits: Floats,
        truth: npt.NDArray[np.int64],
        dev_answers: npt.NDArray[np.int64],
        dev_truth: npt.NDArray[np.int64],
        taught: Floats,
    ) -> _Adjusted:
        plain = logits.argmax(-1)
        em = em_prior(apply_temperature(logits, 1.0), taught)
        bbse = bbse_prior(dev_truth, dev_answers, plain, len(taught))
        answers: dict[Adjustment, npt.NDArray[np.int64]] = {
            "plain": plain,
            "em": prior_adjusted(logits, taught, em.prior).argmax(-1),
            "bbse": prior_adjusted(logits, taught, bbse).argmax(-1),
            "oracle": oracle_adjusted(logits, taught, truth).argmax(-1),
        }
        true = class_shares(truth, len(taught))
        shares = {"taught": taught, "em": em.prior, "bbse": bbse}
        off = {name: float(np.abs(shares[name] - true).sum() / 2) for name in ASSUMED}
        return cls(answers, off, em.converged)


def _matrix(given: Mapping[str, Any], earlier: Earlier) -> Matrix:
    """Return the features of all corpora, ``(clips, layers, dim)``, one corpus after another."""
    parts = [features_of(one["features"]).read(earlier) for one in given["corpora"]]
    if given["variant"] == "standardised":
        parts = [standardised(part) for part in parts]
    joined: Matrix = np.concatenate(parts)
    return joined


def standardised(features: Matrix) -> Matrix:
    """Centre and scale each feature over all clips of a corpus; one that never varies is only centred.

    Labels are not looked at, test clips are: the corpus must be there as a whole (transductive).
    """
    mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.where(scale > 1e-6 * (1 + np.abs(mean)), scale, 1.0)
    return np.asarray((features - mean.astype(np.float32)) / scale.astype(np.float32), np.float32)


def _temperature(run: FrozenRun, targets: npt.NDArray[np.int64], number: int, fold: Fold) -> float:
    logits = run.dev_by_fold[number]  # (seeds, development rows, classes)
    return fit_temperature(logits.reshape(-1, logits.shape[-1]), np.tile(targets[fold.dev], len(logits)))
