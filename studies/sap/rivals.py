"""The rivals: openSMILE eGeMAPSv02 functionals with an SVM and with logistic regression, on Subtone's folds.

    python rivals.py --corpus ravdess=DATA/ravdess --corpus nemo=DATA/nemo --out OUT

Finished studies are not repeated; delete ``OUT/rivals/STUDY`` to have one again. Features are cached.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: the seconds reported are those of one core

from pathlib import Path

import numpy as np
from classical import System, run
from egemaps import functionals
from protocols import Study, arguments, chosen, folders_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SVM = "eGeMAPS + SVM"
REGRESSION = "eGeMAPS + LR"


def svm() -> Pipeline:
    """RBF, C = 1, gamma = 1 / 88 after standardisation, classes weighted by their inverse share."""
    return make_pipeline(StandardScaler(), SVC(C=1.0, kernel="rbf", gamma="scale", class_weight="balanced"))


def regression() -> Pipeline:
    """Multinomial, L2 with C = 1, classes weighted by their inverse share."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000))


def study_of(study: Study, corpus: Path, out: Path) -> None:
    """Run one study, unless that was done before."""
    folder = out / "rivals" / study.name
    if (folder / "metrics.json").exists():
        print(f"{study.name}, rivals: done before")
        return
    split = study.split(corpus, out)
    files = list(split.table.index.get_level_values("file"))
    features, seconds = functionals(files, out / f"egemaps-{study.corpus}.parquet")  # (clips, 88)
    missing = int(np.isnan(features).any(1).sum())
    if missing:
        raise SystemExit(f"{study.name}: openSMILE gave no numbers for {missing} clips")
    run(
        split,
        {SVM: System(features, svm), REGRESSION: System(features, regression)},
        folder,
        command=f"python studies/sap/rivals.py --corpus {study.corpus}=FOLDER --out OUT --only {study.name}",
        packages=("opensmile",),
        extra={"features": {"name": "eGeMAPSv02 functionals", "seconds_per_clip": seconds}},
    )


def main() -> None:
    options = arguments("eGeMAPS rivals on the folds of the study").parse_args()
    for study, corpus in chosen(folders_of(options.corpus), options.only):
        study_of(study, corpus, options.out)


if __name__ == "__main__":
    main()
