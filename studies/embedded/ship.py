"""Train the two classifiers that ship on the encoder that ships, measure them, write bundles and cards.

    python ship.py --cache CACHE --features FEATURES --models src/subtone/models

FEATURES holds, by `features.py`: ``mini@corpora-a``, ``mini@corpora-b`` and ``mini@design`` (encoders trained
without those clips), ``mini@nobody`` (the one that ships), ``prosody``, and of some of them ``-telephone`` and
``-noise``: copies over a worse line, on which the classifiers are trained too and which the cards report.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import judge
import numpy as np
import numpy.typing as npt
import pandas as pd
from cache import Cache
from card import card_of
from design import read
from features import STATISTICS
from holdouts import FOUR, SEVEN, SMALL, TESTED, UNHEARD, held_out
from judge import NUM_STATISTICS, Features, answer, side_by_side

from subtone import bundle, upstreams
from subtone.evaluation import describe_environment, evaluate, soft_vote
from subtone.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from subtone.model import EmotionModel
from subtone.speech import get_detector
from subtone.training import train_final
from subtone.upstreams import shipping
from subtone.upstreams.prosody import Standardisation

LINES = ("telephone", "noise", "silence")
NEVER = -1e4  # logit of a class that training did not have
SEEDS = (0, 1, 2, 3, 4)
# Half of what suits best in accuracy: the two bundles and the encoder have to stay below 25 MB together.
OPTIONS = replace(judge.OPTIONS, components=256)
NAMES = {"default": FOUR, "default-7": SEVEN}


class Ship:
    """Clips and features."""

    def __init__(
        self, cache: Path, features: Path, standard: Standardisation, copies: bool, prosody: bool
    ) -> None:
        self.table = Cache(cache).table
        self.features, self.standard = features, standard
        self.prosody = prosody
        self.copies = LINES if copies else ()
        self.corpus = self.table["corpus"].to_numpy(str)
        self.emotion = self.table["emotion"].to_numpy(object).astype(str)
        self.who = self.table["who"].to_numpy(str)

    def of(self, holdout: str, line: str = "") -> Features | None:
        """Features by the encoder that was trained without a hold-out's clips."""
        end = f"-{line}" if line else ""
        speech = read(self.features, f"mini@{holdout}{end}")
        if not self.prosody:
            return speech
        beside = read(self.features, f"prosody{end}")
        if speech is None or beside is None:
            return None
        # As the upstream gives it: each number of the stream less its mean, over its scale.
        by = beside.x.reshape(len(beside.rows), 1, NUM_STATISTICS, -1).copy()
        by[:, :, ::2] -= self.standard.mean
        by /= self.standard.scale
        return side_by_side([speech, Features(beside.rows, by.reshape(len(by), 1, -1))])

    def added(self, holdout: str) -> tuple[Features, ...]:
        """Copies over worse lines, to be trained on."""
        return tuple(found for line in self.copies if (found := self.of(holdout, line)) is not None)

    def parts(self, labels: tuple[str, ...]) -> dict[str, list[Any]]:
        """Every measured fold: its hold-out, training clips, test clips and name."""
        known = np.isin(self.emotion, labels)
        record: dict[str, list[Any]] = {"corpora": [], "speakers": []}
        for name in TESTED:
            holdout = next(n for n, c in UNHEARD.items() if name in c)
            test = known & (self.corpus == name)
            record["corpora"].append((name, holdout, np.flatnonzero(known & ~test), np.flatnonzero(test)))
        held = held_out(self.table, "design") & ~np.isin(self.corpus, SMALL)
        record["speakers"].append(
            ("development speakers", "design", np.flatnonzero(known & ~held), np.flatnonzero(known & held))
        )
        return record


def measure(ship: Ship, labels: tuple[str, ...], kind: str) -> dict[str, Any]:
    """Figures of one kind of fold: clips as they are, and over worse lines."""
    rows: list[npt.NDArray[np.int64]] = []
    logits: list[npt.NDArray[np.float32]] = []
    folds: list[str] = []
    steps: list[int] = []
    lines: dict[str, list[Any]] = {line: [] for line in LINES}
    for name, holdout, train, test in ship.parts(labels)[kind]:
        features = ship.of(holdout)
        assert features is not None
        # A class that only the tested corpus has cannot be learned: neither is it asked for.
        heard = tuple(label for label in labels if (ship.emotion[train] == label).any())
        test = test[np.isin(ship.emotion[test], heard)]
        train, test = train[np.isin(train, features.rows)], test[np.isin(test, features.rows)]
        over = {
            line: (v, test[np.isin(test, v.rows)])
            for line in LINES
            if (v := ship.of(holdout, line)) is not None
        }
        x = np.concatenate([features.at(test), *(version.at(there) for version, there in over.values())])
        added = ship.added(holdout)
        found = answer(ship.table, features, train, test, heard, OPTIONS, served=x, added=added)
        place = [labels.index(label) for label in heard]
        every = np.full((*found.logits.shape[:2], len(labels)), NEVER, np.float32)
        every[..., place] = found.logits
        probable = soft_vote(apply_temperature(every, 1.0))
        plain = probable[: len(test)]
        rows.append(test)
        logits.append(every[:, : len(test)])
        folds += [name] * len(test)
        steps.append(found.steps)
        start = len(test)
        for line, (_, there) in over.items():
            changed = probable[start : start + len(there)]
            lines[line].append((there, changed, plain[np.isin(test, there)]))
            start += len(there)
        print(kind, len(labels), name, round(judge.ua(ship.emotion[test], plain, labels), 1), flush=True)
    row, all_logits = np.concatenate(rows), np.concatenate(logits, 1)  # (seeds, clips, classes)
    truth = np.array([labels.index(e) for e in ship.emotion[row]])
    # A fold's scores are calibrated by the other folds, as those of a new corpus would be; one fold alone by halves.
    group = np.array(folds) if len(set(folds)) > 1 else pd.factorize(ship.who[row])[0] % 2
    scores = np.empty(all_logits.shape[1:])
    for one in np.unique(group):
        mine = group == one
        scores[mine] = soft_vote(
            apply_temperature(all_logits[:, mine], _temperature(all_logits[:, ~mine], truth[~mine]))
        )
    said = evaluate(ship.emotion[row], scores, labels, ship.who[row], folds).to_dict(full=True)
    over_lines = {}
    for line, parts in lines.items():
        if parts:
            where = np.concatenate([p[0] for p in parts])
            over_lines[line] = {
                "clips": len(where),
                **{
                    key: evaluate(
                        ship.emotion[where], np.concatenate([p[i] for p in parts]), labels, ship.who[where]
                    ).to_dict()
                    for i, key in ((1, "changed"), (2, "as it is"))
                },
            }
    return {
        "figures": said,
        "speakers": len(set(ship.who[row])),
        "calibration_error": expected_calibration_error(scores, truth),
        "temperature": _temperature(all_logits, truth),
        "steps": steps,
        "lines": over_lines,
    }


def _temperature(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    """One temperature for all seeds of ``(seeds, clips, classes)``."""
    return fit_temperature(logits.reshape(-1, logits.shape[-1]), np.tile(truth, len(logits)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(NAMES), help="default: both")
    parser.add_argument("--no-copies", action="store_true", help="train on clips as they are alone")
    parser.add_argument("--no-prosody", action="store_true", help="stand on the encoder alone")
    parser.add_argument(
        "--measure-only", type=Path, metavar="JSON", help="write figures of four emotions, no model"
    )
    given = parser.parse_args()
    upstream = upstreams.load("subtone-mini:speech" if given.no_prosody else "subtone-mini")
    described = json.loads((shipping.ROOT / "subtone-mini" / "config.json").read_text(encoding="utf-8"))
    ship = Ship(
        given.cache,
        given.features,
        Standardisation.from_dict(described["prosody"]),
        not given.no_copies,
        not given.no_prosody,
    )
    results: dict[str, Any] = {}
    if given.measure_only:
        record = {kind: measure(ship, FOUR, kind) for kind in ("corpora", "speakers")}
        given.measure_only.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return
    target = Path(__file__).parent / "results" / "shipped.json"
    target.parent.mkdir(exist_ok=True)
    for name, labels in NAMES.items():
        if given.only and name != given.only:
            continue
        record = {kind: measure(ship, labels, kind) for kind in ("corpora", "speakers")}
        features = ship.of("nobody")
        assert features is not None
        versions = [features, *ship.added("nobody")]
        rows = [v.rows[np.isin(ship.emotion[v.rows], labels)] for v in versions]
        x = np.concatenate([v.at(r) for v, r in zip(versions, rows, strict=True)])
        place = np.concatenate(rows)
        y = np.array([labels.index(e) for e in ship.emotion[place]])
        steps = int(np.median(record["corpora"]["steps"] + record["speakers"]["steps"]))
        reduction, classifiers = train_final(x, y, SEEDS, len(labels), OPTIONS, steps=steps)
        model = EmotionModel(
            upstream=upstream,
            detector=get_detector(),
            statistics=STATISTICS,
            reduction=reduction,
            classifiers=classifiers,
            labels=labels,
            temperature=record["corpora"]["temperature"],
            trained_on=tuple(sorted(set(ship.corpus[place]))),
        )
        record["clips"] = len(rows[0])
        clips = ship.table.iloc[rows[0]]
        model = replace(model, card=card_of(name, labels, record, clips))
        bundle.save(model, given.models / name, with_upstream=False, overwrite=True)
        results[name] = record
    command = "python studies/embedded/ship.py --cache CACHE --features FEATURES --models src/subtone/models"
    command += " --no-prosody" * given.no_prosody + " --no-copies" * given.no_copies
    results["environment"] = describe_environment(seeds=SEEDS, command=command, device="cpu")
    if target.exists():
        results = {**json.loads(target.read_text(encoding="utf-8")), **results}
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
