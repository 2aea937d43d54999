"""Logistic regressions on Subtone's pooled features and folds: what a plain probe gets from the same frames.

    python anchors.py --corpus ravdess=DATA/ravdess --upstream whisper-tiny.en=FOLDER --out OUT

Features come out of the stores ``OUT/stores/UPSTREAM``, which `run.py` uses too. Finished studies are not
repeated; delete ``OUT/anchors/STUDY/UPSTREAM`` to have one again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch: the seconds are those of one core

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from classical import System, run
from protocols import Study, arguments, chosen, folders_of
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from subtone import upstreams
from subtone.extraction import PooledFeatures, clips_of, extract
from subtone.protocols import Split
from subtone.speech import get_detector

# Each layer gives its mean and deviation, but for LAST, which is the mean alone.
LAST = "LR, last layer, mean"
LAST_FOUR = "LR, last 4 layers, PCA 256"
ALL = {pooling: f"LR, all layers, {pooling}" for pooling in ("GAP", "SAP", "GAP+SAP")}
STATISTICS = {
    "GAP": ("gap_mean", "gap_std"),
    "SAP": ("sap_mean", "sap_std"),
    "GAP+SAP": ("gap_mean", "gap_std", "sap_mean", "sap_std"),
}


def probe(C: float, components: int | None = None, rows: int = 0) -> Pipeline:
    """Standardise, project where asked to, multinomial logistic regression with balanced classes."""
    regression = LogisticRegression(C=C, class_weight="balanced", max_iter=5000)
    if components is None:
        return make_pipeline(StandardScaler(), regression)
    return make_pipeline(StandardScaler(), PCA(min(components, rows), random_state=0), regression)


def systems_of(split: Split, features: PooledFeatures) -> dict[str, System]:
    """The probes: the anchors' own, and the best of them with SAP beside GAP."""

    def flat(names: tuple[str, ...], layers: slice) -> npt.NDArray[np.float32]:
        return features.matrix(names)[:, layers].reshape(len(features), -1)  # (clips, layers * dim)

    systems = {LAST: System(flat(("gap_mean",), slice(-1, None)), partial(probe, C=0.1))}
    if next(iter(features.statistics.values())).shape[1] > 4:  # layers
        fewest = min(len(fold.train) + len(fold.dev) for fold in split.folds)
        systems[LAST_FOUR] = System(
            flat(STATISTICS["GAP"], slice(-4, None)), partial(probe, C=0.05, components=256, rows=fewest)
        )
    for pooling, name in ALL.items():
        systems[name] = System(flat(STATISTICS[pooling], slice(None)), partial(probe, C=0.01))
    return systems


def study_of(study: Study, corpus: Path, label: str, upstream: upstreams.Upstream, out: Path) -> None:
    """Run one study on one upstream, unless that was done before."""
    folder = out / "anchors" / study.name / label
    if (folder / "metrics.json").exists():
        print(f"{study.name}, {label}, anchors: done before")
        return
    split = study.split(corpus, out)
    found = extract(clips_of(split.table), upstream, get_detector("silero"), store=out / "stores" / label)
    if found.failed:
        raise SystemExit(f"{found.failed[0].file}: {found.failed[0].message}")
    # What came out of the store took no time: only a run that computed all clips can say how long one takes.
    seconds = None if found.reused else found.seconds / len(found.rows)
    run(
        split,
        systems_of(split, found.features),
        folder,
        pairs=((ALL["GAP"], ALL["GAP+SAP"]), (ALL["GAP"], ALL["SAP"])),
        command=f"python studies/sap/anchors.py --corpus {study.corpus}=FOLDER --upstream {label}=FOLDER --out OUT "
        f"--only {study.name}",
        extra={"features": {"name": label, "detector": "silero", "seconds_per_clip": seconds}},
    )


def add_upstreams(parser: argparse.ArgumentParser) -> None:
    """The option that names upstreams, with a label for the table."""
    parser.add_argument(
        "--upstream",
        action="append",
        required=True,
        metavar="LABEL=NAME_OR_FOLDER",
        help="e.g. fbank+deltas=fbank+deltas or whisper-tiny.en=FOLDER; repeat",
    )


def upstreams_of(pairs: list[str]) -> list[tuple[str, str]]:
    """``["tiny=FOLDER"]`` → ``[("tiny", "FOLDER")]``."""
    named = []
    for pair in pairs:
        label, equals, source = pair.partition("=")
        if not equals or not label or "/" in label:
            raise SystemExit(f"--upstream {pair}: give LABEL=NAME_OR_FOLDER; the label is for the table")
        named.append((label, source))
    return named


def main() -> None:
    parser = arguments("Logistic regressions on the features and folds of the study")
    add_upstreams(parser)
    options = parser.parse_args()
    for label, source in upstreams_of(options.upstream):
        upstream = upstreams.load(source)
        for study, corpus in chosen(folders_of(options.corpus), options.only):
            study_of(study, corpus, label, upstream, options.out)


if __name__ == "__main__":
    main()
