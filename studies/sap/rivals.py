"""The rivals: openSMILE eGeMAPSv02 functionals with an SVM and with logistic regression, on Subtone's folds.

    python rivals.py --corpus ravdess=DATA/ravdess --corpus nemo=DATA/nemo --out OUT

Finished studies are not repeated; delete ``OUT/rivals/STUDY`` to have one again. Features are cached.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: the seconds reported are those of one core

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from classical import System, run
from egemaps import functionals
from protocols import Study, arguments, chosen, folders_of
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from subtone.audio import probe
from subtone.protocols import Split

SVM = "eGeMAPS + SVM"
REGRESSION = "eGeMAPS + LR"
LENGTH = "control: clip length alone"


def svm(C: float = 1.0) -> Pipeline:
    """RBF, gamma = 1 / 88 after standardisation, classes weighted by their inverse share."""
    return make_pipeline(StandardScaler(), SVC(C=C, kernel="rbf", gamma="scale", class_weight="balanced"))


def regression(C: float = 1.0) -> Pipeline:
    """Multinomial, L2, classes weighted by their inverse share."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=5000))


def by_length() -> RandomForestClassifier:
    """What the length of a clip gives away: more than chance is cutting and padding, or tempo, not the voice."""
    return RandomForestClassifier(200, min_samples_leaf=3, class_weight="balanced", random_state=0)


def lengths_of(split: Split) -> npt.NDArray[np.float64]:
    """``(clips, 1)`` seconds."""
    return np.array(
        [[probe(file).duration_s] for file in split.table.index.get_level_values("file")], np.float64
    )


def features_of(study: Study, split: Split, out: Path) -> tuple[npt.NDArray[np.float64], float]:
    """``(clips, 88)`` functionals, and the seconds that a clip takes."""
    files = list(split.table.index.get_level_values("file"))
    features, seconds = functionals(files, out / f"egemaps-{study.corpus}.parquet")
    missing = int(np.isnan(features).any(1).sum())
    if missing:
        raise SystemExit(f"{study.name}: openSMILE gave no numbers for {missing} clips")
    return features, seconds


def study_of(study: Study, corpus: Path, out: Path) -> None:
    """Run one study, unless that was done before."""
    folder = out / "rivals" / study.name
    if (folder / "metrics.json").exists():
        print(f"{study.name}, rivals: done before")
        return
    split = study.split(corpus, out)
    features, seconds = features_of(study, split, out)
    run(
        split,
        {
            SVM: System(features, svm),
            REGRESSION: System(features, regression),
            LENGTH: System(lengths_of(split), by_length),
        },
        folder,
        command=f"python studies/sap/rivals.py --corpus {study.corpus}=FOLDER --out OUT --only {study.name}",
        packages=("opensmile",),
        extra={"features": {"name": "eGeMAPSv02 functionals", "seconds_per_clip": seconds}},
    )


def other_costs(study: Study, corpus: Path, out: Path) -> None:
    """Print what the rivals reach with another C: looked at on test speakers, so no result, but a bound."""
    split = study.split(corpus, out)
    features, _ = features_of(study, split, out)
    systems = {f"{SVM}, C = {C}": System(features, partial(svm, C)) for C in (1, 3, 10)}
    systems |= {f"{REGRESSION}, C = {C}": System(features, partial(regression, C)) for C in (0.01, 0.1, 1)}
    run(split, systems, out / "other-costs" / study.name, command="", extra={})


def main() -> None:
    parser = arguments("eGeMAPS rivals on the folds of the study")
    parser.add_argument("--other-costs", action="store_true", help="print what other values of C would reach")
    options = parser.parse_args()
    for study, corpus in chosen(folders_of(options.corpus), options.only):
        (other_costs if options.other_costs else study_of)(study, corpus, options.out)


if __name__ == "__main__":
    main()
