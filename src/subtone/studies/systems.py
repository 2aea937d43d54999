"""Pooled systems of a study: trained on clips heard one way, tested on the same clips heard in others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from subtone.pooling import statistics_of
from subtone.protocols import Fold
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.material import Material
from subtone.studies.options import StudyOptions
from subtone.training import train_frozen
from subtone.training.frozen import FrozenRun
from subtone.training.options import FrozenOptions

Matrix = npt.NDArray[np.float32]

#: System → statistics that its classifier sees, of every layer.
POOLED: dict[str, tuple[str, ...]] = {
    "gap": statistics_of("gap", "frame", True),
    "sap": statistics_of("sap", "frame", True),
    "sap-segment": statistics_of("sap", "segment", True),
    "gap+sap": statistics_of("gap+sap", "frame", True),
    "gap+sap-segment": statistics_of("gap+sap", "segment", True),
}
#: The same on clips whose silences were left out before the upstream heard them.
CUT_POOLED: dict[str, tuple[str, ...]] = {f"{name}-cut": POOLED[name] for name in ("gap", "gap+sap")}


@dataclass(frozen=True)
class Features:
    """Where a matrix of pooled features is found: the cell, the detector whose speech was pooled, the statistics."""

    cell: str
    detector: str
    statistics: tuple[str, ...]

    def read(self, earlier: Earlier, layers: Sequence[int] | None = None) -> Matrix:
        """Return ``(clips, layers, dim)``, of all layers or some."""
        with safe_open(earlier.path(self.cell), framework="np") as file:
            parts = [file.get_tensor(self._key(list(file.keys()), name)) for name in self.statistics]
        joined: Matrix = np.concatenate(parts, axis=-1)
        return joined if layers is None else joined[:, list(layers)]

    def _key(self, keys: Sequence[str], name: str) -> str:
        """Return the array of a statistic; one that does not look at speech is kept of one detector alone."""
        own = f"{self.detector}/{name}"
        return own if own in keys else next(key for key in keys if key.endswith(f"/{name}"))

    def failed(self, earlier: Earlier) -> npt.NDArray[np.int64]:
        """Return the rows of clips that failed there."""
        return np.array([row for row, _ in earlier.values(self.cell)["failed"]], np.int64)

    def to_dict(self) -> dict[str, Any]:
        """JSON object; `features_of` reads it back."""
        return {"cell": self.cell, "detector": self.detector, "statistics": list(self.statistics)}


def features_of(record: Mapping[str, Any]) -> Features:
    """Read back what :meth:`Features.to_dict` gave."""
    return Features(record["cell"], record["detector"], tuple(record["statistics"]))


def system_cell(
    name: str,
    material: Material,
    trained: Features,
    tests: Mapping[str, Features],
    options: StudyOptions,
    *,
    layers: Sequence[int] | None = None,
) -> Cell:
    """Return the cell of one pooled system.

    Parameters
    ----------
    name
        Of the cell.
    material
        The corpus.
    trained
        What training and development clips look like.
    tests
        Condition → what test clips look like.
    options
        Training and seeds.
    layers
        Take these alone.
    """
    given = {
        "trained": trained.to_dict(),
        "tests": {label: one.to_dict() for label, one in tests.items()},
        "targets": material.targets.tolist(),
        "folds": [
            {"name": fold.name, **{part: getattr(fold, part).tolist() for part in ("train", "dev", "test")}}
            for fold in material.split.folds
        ],
        "classes": len(material.classes),
        "seeds": list(options.seeds),
        "options": asdict(options.fit),
        "layers": None if layers is None else list(layers),
    }
    needs = tuple(dict.fromkeys([trained.cell, *(one.cell for one in tests.values())]))
    cost = len(material.targets) * len(trained.statistics) / 4 + len(tests)
    return Cell(name, train_and_test, given, cost, needs)


def train_and_test(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Train one system on all folds and seeds, and score each test clip under each condition.

    Returns
    -------
    Outcome
        Arrays ``CONDITION (seeds, clips, classes)`` logits, NaN for clips that failed under it; clips that failed where
        it was taught are left out there.
    """
    taught = features_of(given["trained"])
    bad = taught.failed(earlier)
    folds = [_fold(one, bad) for one in given["folds"]]
    run = train_frozen(
        taught.read(earlier, given["layers"]),
        np.array(given["targets"], np.int64),
        folds,
        given["seeds"],
        given["classes"],
        FrozenOptions(**given["options"]),
    )
    arrays = {}
    for label, one in given["tests"].items():
        heard = features_of(one)
        arrays[label] = score(run, folds, heard.read(earlier, given["layers"]))
        arrays[label][:, heard.failed(earlier)] = np.nan
    return Outcome({"steps": run.steps.tolist()}, arrays)


def _fold(record: Mapping[str, Any], bad: npt.NDArray[np.int64]) -> Fold:
    """Return a fold that learns nothing from clips that failed."""
    train, dev = (np.setdiff1d(record[part], bad).astype(np.int64) for part in ("train", "dev"))
    return Fold(record["name"], train, dev, np.array(record["test"], np.int64))


@torch.inference_mode()
def score(run: FrozenRun, folds: Sequence[Fold], features: Matrix) -> Matrix:
    """Score the test clips of each fold by its own classifiers, ``(seeds, clips, classes)``; NaN for untested clips."""
    classes = run.logits.shape[-1]
    logits = np.full((len(run.classifiers[0]), len(features), classes), np.nan, np.float32)
    for fold, reduction, classifiers in zip(folds, run.reductions, run.classifiers, strict=True):
        reduced = reduction(torch.from_numpy(features[fold.test]))
        for seed, classifier in enumerate(classifiers):
            logits[seed, fold.test] = classifier(reduced).numpy()
    return logits
