"""Classical systems on the folds of a split: fit on each fold's training rows, score all test rows together.

A system here has no early stopping, so it is trained on training and development rows together. All that is
fitted, standardisation and principal components included, sees those rows alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import ClassifierMixin

from subtone.evaluation import Evaluation, compare, describe_environment, evaluate, write_results
from subtone.protocols import Split, speaker_ids


@dataclass(frozen=True, eq=False)
class System:
    """Features of all clips of a split, and how to make the classifier that is fitted anew in each fold."""

    features: npt.NDArray[Any]  # (clips, dim)
    classifier: Callable[[], ClassifierMixin]


def run(
    split: Split,
    systems: Mapping[str, System],
    folder: Path,
    *,
    pairs: tuple[tuple[str, str], ...] = (),
    command: str,
    packages: tuple[str, ...] = (),
    extra: Mapping[str, Any],
) -> None:
    """Cross-validate systems and write one result folder, as `subtone recipe run` writes it.

    Parameters
    ----------
    split
        Folds; a row is tested once.
    systems
        Name → system.
    folder
        Written whole at the end.
    pairs
        Names (a, b) of systems to compare, b against a.
    command, packages, extra
        For the record; packages are those whose version counts beside Subtone's own.
    """
    table = split.table
    labels = split.protocol.classes
    truth = table["emotion"].to_numpy(str)
    speakers = speaker_ids(table)
    fold_of = np.full(len(table), "", dtype=object)
    for fold in split.folds:
        fold_of[fold.test] = fold.name
    answers: dict[str, npt.NDArray[np.str_]] = {}
    evaluations: dict[str, Evaluation] = {}
    for name, system in systems.items():
        start = time.perf_counter()
        answer = np.full(len(table), "", dtype=truth.dtype)
        for fold in split.folds:
            rows = np.concatenate([fold.train, fold.dev])
            model = system.classifier().fit(system.features[rows], truth[rows])
            answer[fold.test] = model.predict(system.features[fold.test])
        seconds = time.perf_counter() - start
        answers[name] = answer
        evaluations[name] = evaluate(truth, answer, labels, speakers, list(fold_of), seconds=seconds)
        print(
            f"{folder.parent.name}/{folder.name}: {name}: {evaluations[name].sentence()}; {seconds:.0f} s",
            flush=True,
        )
    clips = [Path(file).stem for file in table.index.get_level_values("file")]
    predictions = pd.DataFrame(
        {"clip": clips, "speaker": speakers, "fold": fold_of, "truth": truth, **answers}
    )
    comparisons = [
        compare(truth, answers[a], answers[b], labels, speakers, names=(a, b), metric=metric)
        for a, b in pairs
        for metric in ("ua", "wa")
    ]
    environment = describe_environment(command=command, device="cpu")
    environment["versions"].update({package: version(package) for package in packages})
    write_results(
        folder,
        protocol=split.protocol,
        systems=evaluations,
        comparisons=comparisons,
        predictions=predictions,
        environment=environment,
        extra=extra,
        overwrite=True,
    )
